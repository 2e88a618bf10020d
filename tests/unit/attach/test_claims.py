"""Who holds which address on a node: one holder each, and nobody who is gone."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from cni_macvlan_egress.attach import claims as claims_module
from cni_macvlan_egress.attach.claims import Claims
from cni_macvlan_egress.attach.records import Record, Records
from cni_macvlan_egress.protocol.errors import ADDRESS_HELD, IO_FAILURE, CniError

from ..refusals import refused
from .examples import record
from .faults import FaultyOs

ADDRESS, OTHER = "192.168.12.99", "fd00:12::99"


class Node:
    """A node's register and records; its pods are alive unless said otherwise."""

    def __init__(self, directory: Path) -> None:
        self.records = Records(f"{directory}/state")
        self.dead: set[str] = set()
        self.claims = Claims(self.records, f"{directory}/run", self._is_alive)

    def _is_alive(self, record: Record) -> bool:
        return record.container_id not in self.dead

    def pod(self, container_id: str, ifname: str = "eth0", name: str = "shop/cart") -> None:
        """A pod whose record has been written."""
        self.records.save(record(container_id, ifname=ifname, pod=name))

    def take(self, container_id: str, *addresses: str, ifname: str = "eth0") -> None:
        self.claims.take(addresses or (ADDRESS,), container_id, ifname)

    def holds(self, container_id: str, *addresses: str, ifname: str = "eth0") -> bool:
        return self.claims.lost(addresses or (ADDRESS,), container_id, ifname) == []

    def register(self) -> list[str]:
        """Every address that somebody holds."""
        directory = Path(self.records.state_dir) / "addresses"
        return sorted(one.name for one in directory.iterdir()) if directory.is_dir() else []


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.pod("c1")
    node.pod("c2", name="bank/till")
    return node


def test_address_is_held_until_it_is_released(node: Node) -> None:
    assert not node.holds("c1")
    node.take("c1", ADDRESS, OTHER)
    assert node.holds("c1", ADDRESS, OTHER)
    assert not node.holds("c2")
    assert node.register() == [ADDRESS, OTHER]
    node.claims.release([ADDRESS], "c1", "eth0")
    assert node.claims.lost([ADDRESS, OTHER], "c1", "eth0") == [ADDRESS]
    assert node.register() == [OTHER]


def test_second_holder_is_refused_and_told_who_the_first_is(node: Node) -> None:
    node.take("c2")
    with refused(ADDRESS_HELD, ADDRESS, "pod bank/till", "c2"):
        node.take("c1")
    assert node.holds("c2")


def test_holder_without_a_pods_name_is_named_by_its_container(node: Node) -> None:
    node.pod("c3", name="")
    node.take("c3")
    with refused(ADDRESS_HELD, "container c3"):
        node.take("c1")


def test_same_attachment_may_take_its_address_again(node: Node) -> None:
    node.take("c1")
    node.take("c1")
    assert node.holds("c1")


def test_other_interface_of_the_same_container_is_another_holder(node: Node) -> None:
    node.pod("c1", ifname="net1")
    node.take("c1")
    with refused(ADDRESS_HELD, ADDRESS):
        node.take("c1", ifname="net1")
    node.claims.release([ADDRESS], "c1", "net1")
    assert node.holds("c1")


def namespace_gone(node: Node) -> None:
    node.dead.add("c1")


def record_gone(node: Node) -> None:
    node.records.remove("c1", "eth0")


def record_unreadable(node: Node) -> None:
    (Path(node.records.state_dir) / "attachments" / "c1@eth0.json").write_text("{")


@pytest.mark.parametrize("happen", [namespace_gone, record_gone, record_unreadable])
def test_address_of_a_holder_that_is_gone_can_be_taken(node: Node, happen: Callable[[Node], None]) -> None:
    node.take("c1")
    happen(node)
    node.take("c2")
    assert node.holds("c2")
    node.claims.release([ADDRESS], "c1", "eth0")  # the late DEL of the first
    assert node.holds("c2")


def test_attachment_lets_go_of_its_own_addresses_only(node: Node) -> None:
    node.take("c1", ADDRESS)
    node.take("c2", OTHER)
    node.claims.release([ADDRESS, OTHER, "192.168.12.1"], "c1", "eth0")
    assert node.register() == [OTHER]
    node.claims.release([], "c2", "eth0")
    assert node.holds("c2", OTHER)


def test_all_of_an_attachment_go_when_nobody_knows_which(node: Node) -> None:
    node.claims.release_all_of("c1", "eth0")  # there is no register yet
    node.take("c1", ADDRESS, OTHER)
    node.take("c2", "192.168.12.98")
    node.claims.release_all_of("c1", "eth0")
    assert node.register() == ["192.168.12.98"]


def test_claims_without_a_record_go_and_others_stay(node: Node) -> None:
    node.claims.release_orphans()
    node.take("c1", ADDRESS)
    node.take("c2", OTHER)
    node.records.remove("c1", "eth0")
    node.claims.release_orphans()
    assert node.register() == [OTHER]


def test_one_of_many_at_once_gets_the_address(node: Node) -> None:
    names = [f"c{number}" for number in range(10, 18)]
    for name in names:
        node.pod(name)

    def attempt(name: str) -> bool:
        try:
            node.take(name)
        except CniError as error:
            assert error.code == ADDRESS_HELD
            return False
        return True

    with ThreadPoolExecutor() as pool:
        winners = [name for name, won in zip(names, pool.map(attempt, names), strict=True) if won]
    assert len(winners) == 1
    assert node.holds(winners[0])


# -- the file system


def test_every_failing_call_is_told_and_leaves_at_most_the_old_holder(
    tmp_path: Path, mocker: MockerFixture, node: Node
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    node.take("c1")
    node.dead.add("c1")
    quiet = FaultyOs(set(), full)
    mocker.patch.object(claims_module, "os", quiet)
    node.take("c2")
    mocker.stopall()
    assert "symlink" in quiet.calls
    for number, name in enumerate(quiet.calls):
        node.dead = set()
        node.claims.release_all_of("c2", "eth0")
        node.take("c1")
        node.dead = {"c1"}
        mocker.patch.object(claims_module, "os", FaultyOs({number}, full))
        with refused(IO_FAILURE, ADDRESS, os.strerror(errno.ENOSPC)):
            node.take("c2")
        mocker.stopall()
        assert not node.holds("c2"), name
        node.take("c2")
        assert node.holds("c2"), name


def test_something_else_in_the_register_is_no_claim_of_anybody(node: Node) -> None:
    node.take("c1", OTHER)
    stray = Path(node.records.state_dir) / "addresses" / ADDRESS
    stray.write_text("a file that somebody put here")
    with refused(IO_FAILURE, ADDRESS):
        node.take("c1", ADDRESS)
    assert not node.holds("c1", ADDRESS)
    node.claims.release([ADDRESS, OTHER], "c1", "eth0")
    assert node.register() == [ADDRESS]
    node.take("c1", OTHER)
    node.claims.release_all_of("c1", "eth0")
    assert node.register() == [ADDRESS]
