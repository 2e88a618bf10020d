"""What the caretaker decides, by plain data; and how it reads the node's files."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from cni_macvlan_egress.attach.records import Record, Records, boot_id
from cni_macvlan_egress.attach.roster import Roster
from cni_macvlan_egress.daemon.caretaker_counters import COUNTERS, GAUGES, TASKS, CaretakerCounters
from cni_macvlan_egress.decide import renewal
from cni_macvlan_egress.decide.care import next_announcement, trouble_of_master
from cni_macvlan_egress.decide.facts import AddressFact, HostFacts, LinkFact, RouteFact, RuleFact
from cni_macvlan_egress.decide.mending import Mending, mending
from cni_macvlan_egress.decide.plan import (
    PROTOCOL,
    Address,
    Forward,
    Link,
    Plan,
    Renewal,
    Route,
    Rule,
    Sysctl,
)
from cni_macvlan_egress.decide.transition import transition
from cni_macvlan_egress.sources.hosts_file import addresses_in

LINK = Link(name="macvlan0", master="eth0", mode="bridge", mtu=1500, mac="02:00:00:00:00:01")
SOURCE, GATEWAY = "192.168.12.99", "192.168.12.1"
NAME = "db.example"
FIRST, SECOND, THIRD = "203.0.113.25", "203.0.113.26", "203.0.113.27"


def host_route(address: str) -> Route:
    return Route(
        destination=f"{address}/32", interface="macvlan0", gateway=GATEWAY, source=SOURCE, onlink=True
    )


PLAN = Plan(
    link=LINK,
    forwards=(
        Forward(line=2, text=f"80 tcp {NAME}", family=4, protocol="tcp", ports=(80, 80), addresses=(FIRST,)),
    ),
    ruleset="table inet macvlan_egress {\n}\n",
    sysctls=(Sysctl(key="net/ipv4/conf/macvlan0/arp_ignore", value="1"),),
    addresses=(Address(address=f"{SOURCE}/24"),),
    routes=(Route(destination=f"{GATEWAY}/32", interface="macvlan0"), host_route(FIRST)),
    rules=(Rule(family=4, priority=7200, table=7200, source=f"{SOURCE}/32"),),
    renewal=Renewal(
        inside="eth0",
        mtus=(1500, 1500),
        only_destinations=True,
        gateways=(GATEWAY,),
        cluster_networks=("10.0.0.0/8",),
    ),
)


def lead(plan: Plan, *addresses: str) -> Plan:
    changed, problems = renewal.renewed(plan, {NAME: tuple(map(ip_address, addresses))})
    assert problems == ()
    return changed


# -- when, and what is wrong with a NIC


def test_announcements_are_soon_and_then_at_intervals() -> None:
    ages = [0.2]
    while len(ages) < 7:
        ages.append(next_announcement(ages[-1], 60))
    assert ages[1:] == [1, 3, 10, 70, 130, 190]


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (None, "gone"),
        (LinkFact(5, "eth0", "", 1500, up=True), "another one"),
        (LinkFact(4, "eth0", "", 1500, up=False), "down"),
        (LinkFact(4, "eth0", "", 1500, up=True, carrier=False), "carrier"),
    ],
)
def test_trouble_of_a_nic_is_named(link: LinkFact | None, words: str) -> None:
    assert words in trouble_of_master(link, 4)
    assert trouble_of_master(LinkFact(4, "eth0", "", 1500, up=True), 4) == ""


# -- names


def test_plan_follows_a_name() -> None:
    changed = lead(PLAN, SECOND, THIRD)
    assert renewal.names(changed) == {NAME: (SECOND, THIRD)}
    assert [one.line for one in changed.forwards] == [2]
    assert SECOND in changed.ruleset
    assert set(changed.routes) == {*PLAN.routes, host_route(SECOND), host_route(THIRD)}
    assert changed.renewal and changed.renewal.retired == (FIRST,)
    assert lead(changed, THIRD, SECOND) is changed


def test_address_that_comes_back_is_retired_no_more() -> None:
    changed = lead(lead(PLAN, SECOND), FIRST)
    assert changed.renewal and changed.renewal.retired == (SECOND,)
    left = renewal.without_retired(changed, {SECOND})
    assert left.renewal and left.renewal.retired == ()
    assert set(left.routes) == set(PLAN.routes)


def test_gateway_keeps_its_route_though_a_name_led_there() -> None:
    plan = lead(lead(PLAN, GATEWAY), FIRST)
    assert plan.renewal and GATEWAY not in plan.renewal.retired
    assert f"{GATEWAY}/32" in {route.destination for route in plan.routes}


def test_retired_addresses_are_bounded() -> None:
    plan = PLAN
    for number in range(renewal.MOST_RETIRED + 20):
        plan = lead(plan, f"198.51.{number >> 8}.{number & 255}")
    assert plan.renewal and len(plan.renewal.retired) == renewal.MOST_RETIRED
    assert len(plan.routes) == renewal.MOST_RETIRED + 2
    assert host_route(FIRST) not in plan.routes


def test_node_cluster_and_pod_are_no_destinations() -> None:
    for address in ("10.1.2.3", SOURCE, "192.168.12.10", "127.0.0.1", "fd00::1"):
        changed, problems = renewal.renewed(
            PLAN, {NAME: (ip_address(address),)}, [ip_network("192.168.12.10")]
        )
        assert changed is PLAN
        assert len(problems) == 1


def test_plan_without_names_stays() -> None:
    plain = replace(PLAN, renewal=None)
    assert renewal.names(plain) == {}
    assert renewal.renewed(plain, {NAME: (ip_address(SECOND),)}) == (plain, ())


# -- rulesets


def table(**blocks: list[str]) -> str:
    text = "".join(
        f"\t{title.replace('__', ' ')} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"
        for title, lines in blocks.items()
    )
    return f"table inet macvlan_egress {{\n{text}}}\n"


def test_only_the_chains_that_differ_are_filled_anew() -> None:
    old = table(chain__a=['counter drop comment "x"'], chain__b=["accept"])
    new = table(chain__a=['counter drop comment "x"', "accept"], chain__b=["accept"])
    assert transition(old, new, {("a", "x"): (3, 180)}).splitlines() == [
        "flush chain inet macvlan_egress a",
        'add rule inet macvlan_egress a counter packets 3 bytes 180 drop comment "x"',
        "add rule inet macvlan_egress a accept",
    ]
    assert transition(old, old, {}).strip() == ""


def test_name_that_holds_the_word_counter_is_left_alone() -> None:
    old = table(chain__a=["accept"])
    new = table(chain__a=['iifname "counter" counter drop comment "x"'])
    assert 'iifname "counter" counter packets 1 bytes 2 drop' in transition(old, new, {("a", "x"): (1, 2)})


def test_elements_come_and_go_one_by_one() -> None:
    head = "type inet_proto . inet_service : verdict"
    old = table(map__m=[head, "elements = { tcp . 80 : goto a, tcp . 81 : goto b }"], chain__b=["accept"])
    new = table(map__m=[head, "elements = { tcp . 80 : goto a, tcp . 82 : goto c }"], chain__c=["accept"])
    assert transition(old, new, {}).splitlines() == [
        "add chain inet macvlan_egress c",
        "delete element inet macvlan_egress m { tcp . 81 }",
        "flush chain inet macvlan_egress b",
        "add element inet macvlan_egress m { tcp . 82 : goto c }",
        "add rule inet macvlan_egress c accept",
        "delete chain inet macvlan_egress b",
    ]


def test_set_of_another_kind_needs_a_table_made_anew() -> None:
    old = table(set__s=["type ipv4_addr", "elements = { 192.0.2.1 }"])
    new = table(set__s=["type ipv4_addr", "flags interval", "elements = { 192.0.2.1-192.0.2.9 }"])
    assert transition(old, new, {}) == ""


# -- what is put back


SOUND = HostFacts(
    links=(LinkFact(2, "macvlan0", LINK.mac, 1500, up=True, kind="macvlan", mode="bridge", parent=4),),
    addresses=(AddressFact("macvlan0", f"{SOURCE}/24"),),
    routes=(
        RouteFact(f"{GATEWAY}/32", "macvlan0", protocol=PROTOCOL),
        RouteFact(f"{FIRST}/32", "macvlan0", GATEWAY, source=SOURCE, onlink=True, protocol=PROTOCOL),
    ),
    rules=(RuleFact(4, 7200, 7200, f"{SOURCE}/32"),),
)
SET = {"net/ipv4/conf/macvlan0/arp_ignore": "1"}


def steps(
    pod: HostFacts, settings: dict[str, str | None] | None = None, master: int | None = 4
) -> Mending | None:
    return mending(PLAN, pod, settings if settings is not None else dict(SET), master, ruleset_differs=False)


def test_nothing_is_done_where_nothing_is_missing() -> None:
    assert steps(SOUND) == Mending()


def test_what_is_missing_is_put_back() -> None:
    bare = replace(SOUND, addresses=(), routes=(), rules=(), links=(replace(SOUND.links[0], up=False),))
    assert steps(bare, {"net/ipv4/conf/macvlan0/arp_ignore": "0"}) == Mending(
        sysctls=PLAN.sysctls, up=True, addresses=PLAN.addresses, routes=PLAN.routes, rules=PLAN.rules
    )


def test_setting_that_the_kernel_does_not_have_is_not_written() -> None:
    assert steps(SOUND, {"net/ipv4/conf/macvlan0/arp_ignore": None}) == Mending()


def test_route_of_ours_that_has_lost_its_source_is_replaced_and_a_stranger_s_is_not() -> None:
    kept, other = SOUND.routes
    lost = replace(SOUND, routes=(kept, replace(other, source=None)))
    assert steps(lost) == Mending(stale=(replace(PLAN.routes[1], source=None),), routes=(PLAN.routes[1],))
    strange = replace(SOUND, routes=(kept, replace(other, gateway="192.168.12.2", protocol=4)))
    assert steps(strange) == Mending()


@pytest.mark.parametrize(
    "link",
    [
        None,
        replace(SOUND.links[0], kind="dummy"),
        replace(SOUND.links[0], parent=5),
        replace(SOUND.links[0], mac="02:00:00:00:47:11"),
    ],
)
def test_interface_that_is_not_the_one_of_add_is_left_alone(link: LinkFact | None) -> None:
    assert steps(replace(SOUND, links=(link,) if link else (), addresses=())) is None


def test_nothing_is_done_without_the_nic() -> None:
    assert steps(replace(SOUND, addresses=()), master=None) is None


# -- files


def record(container_id: str, **fields: object) -> Record:
    given = {"phase": "ready", "boot_id": boot_id(), "plan": PLAN, "pod": "shop/a", **fields}
    return Record(
        network="pods", container_id=container_id, ifname="eth0", netns="/nowhere", netns_device=1,
        netns_inode=2, **given,
    )  # type: ignore[arg-type]  # fmt: skip


def test_roster_knows_finished_attachments_of_this_boot(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    roster = Roster(str(tmp_path))
    assert not roster.scan()
    records.save(record("one"))
    records.save(record("adding", phase="adding"))
    records.save(record("old", boot_id="another"))
    records.save(record("bare", plan=Plan(link=LINK)))
    (tmp_path / "attachments/broken@eth0.json").write_text("{")
    (tmp_path / "attachments/.half@eth0.json.tmp").write_text("{}")
    (tmp_path / "attachments/other@eth0.json").write_text(
        (tmp_path / "attachments/one@eth0.json").read_text()
    )
    assert roster.scan()
    assert roster.attachments.keys() == {"one@eth0", "bare@eth0"}
    one = roster.attachments["one@eth0"]
    assert (one.interface, one.mac, one.master) == (LINK.name, LINK.mac, LINK.master)
    assert (one.addresses, one.names) == ((SOURCE,), ((NAME, (FIRST,)),))
    assert roster.attachments["bare@eth0"].addresses == ()
    assert (tmp_path / "attachments/broken@eth0.json").exists()


def test_roster_sees_what_changes_and_what_goes(tmp_path: Path) -> None:
    records = Records(str(tmp_path))
    roster = Roster(str(tmp_path))
    for number in range(3):
        records.save(record(f"c{number}"))
        assert roster.scan()
    records.save(record("c1", plan=lead(PLAN, SECOND)))
    assert roster.scan()
    assert roster.attachments["c1@eth0"].retired == (FIRST,)
    records.remove("c0", "eth0")
    assert roster.scan()
    assert roster.attachments.keys() == {"c1@eth0", "c2@eth0"}
    assert not roster.scan()


def test_roster_reads_nothing_where_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Records(str(tmp_path)).save(record("one"))
    before = time.time() - 10
    os.utime(tmp_path / "attachments", (before, before))
    roster = Roster(str(tmp_path))
    roster.scan()
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("the directory is listed again"))
    assert not roster.scan()


def test_names_in_the_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(
        f"127.0.0.1 localhost\n{FIRST} DB.example. alias # {SECOND} other.example\n\nnonsense db.example\n"
        f"2001:db8::1 db.example\n#{THIRD} db.example\n"
    )
    found = addresses_in({NAME, "other.example"}, str(path))
    assert found == {NAME: (ip_address(FIRST), ip_address("2001:db8::1"))}
    assert addresses_in({NAME}, str(tmp_path / "missing")) == {}


def test_counters_have_a_cell_each_and_outlive_the_caretaker() -> None:
    names = (*COUNTERS, *GAUGES, *TASKS)
    assert len(set(names)) == len(names)
    counters = CaretakerCounters()
    for number, name in enumerate(COUNTERS, 1):
        counters.count(name, number)
    for number, name in enumerate(GAUGES, 100):
        counters.show(name, number)
    counters.beat("names")
    assert counters.silence() < 60
    assert [counters.value(name) for name in (*COUNTERS, *GAUGES)] == [
        *range(1, len(COUNTERS) + 1),
        *range(100, 100 + len(GAUGES)),
    ]
    counters.fresh()
    assert [counters.value(name) for name in COUNTERS] == list(range(1, len(COUNTERS) + 1))
    assert {counters.value(name) for name in GAUGES} == {0}
    assert counters.silence() == 0
