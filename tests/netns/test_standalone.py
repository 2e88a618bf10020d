"""Without a chain: the network is the macvlan itself, addressed by an IPAM plugin or the runtime."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from lab import Lan, Namespace, Node, Pod, Request, source, unchanged
from lab.network import OUTSIDE4, OUTSIDE6

IPAM_FAILED, DRIFT = 109, 107
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")
DEBIAN = "1.0.0"


def host_local(node: Node, first: str = "192.168.12.200", last: str = "192.168.12.210") -> dict[str, Any]:
    pool = {"subnet": "192.168.12.0/24", "rangeStart": first, "rangeEnd": last, "gateway": "192.168.12.1"}
    routes = [{"dst": "203.0.113.0/24"}]
    return {"type": "host-local", "ranges": [[pool]], "routes": routes, "dataDir": f"{node.directory}/leases"}


def static(**more: Any) -> dict[str, Any]:
    addresses = [
        {"address": "192.168.12.77/24", "gateway": "192.168.12.1"},
        {"address": "fd00:12::77/64", "gateway": "fd00:12::1"},
    ]
    return {"type": "static", "addresses": addresses, **more}


def leases(node: Node) -> list[str]:
    directory = f"{node.directory}/leases/lan"
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(name for name in names if name[0].isdigit())


def attach(node: Node, pod: Pod, ipam: dict[str, Any] | None, version: str = DEBIAN, **conf: Any) -> Any:
    request = node.standalone(pod, version=version, conf={"ipam": ipam, **conf})
    return node.send_add(pod, request)


def test_address_from_host_local_reaches_the_lan_and_beyond(node: Node, lan: Lan, outside: Namespace) -> None:
    host = lan.host("192.168.12.50")
    pod = node.pod()
    with unchanged(pod, node):
        result = attach(node, pod, host_local(node)).ok()
        assert leases(node) == ["192.168.12.200"]
        assert [ip["address"] for ip in result["ips"]] == ["192.168.12.200/24"]
        with lan.capture() as wire:
            assert pod.reach(host, "192.168.12.50") == "192.168.12.200"
            frame = wire.wait(lambda f: f.source == "192.168.12.200" and f.proto == 6, "the pod's TCP")
        assert frame.src == pod.mac("net1") == result["interfaces"][0]["mac"]
        assert host.reach(pod, "192.168.12.200") == "192.168.12.50"
        assert pod.reach(outside, OUTSIDE4) == "192.168.12.200"
        node.check(pod, "net1").ok()
        node.delete(pod, "net1").ok()
    assert leases(node) == []


def test_static_addresses_and_routes_lie_in_the_main_table(node: Node, outside: Namespace) -> None:
    pod = node.pod()
    routes = [{"dst": "203.0.113.0/24"}, {"dst": "2001:db8:113::/64", "gw": "fd00:12::1"}]
    attach(node, pod, static(routes=routes)).ok()
    assert set(pod.addresses("net1")) == {"192.168.12.77/24", "fd00:12::77/64"}
    main = {(route["dst"], route.get("gateway")): route for route in pod.routes() + pod.routes(family=6)}
    assert main["203.0.113.0/24", "192.168.12.1"]["dev"] == "net1"
    assert main["2001:db8:113::/64", "fd00:12::1"]["dev"] == "net1"
    assert main["192.168.12.0/24", None]["protocol"] == "kernel"
    assert main["fd00:12::/64", None]["protocol"] == "kernel"
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.77"
    assert pod.reach(outside, OUTSIDE6) == "fd00:12::77"


def test_only_network_of_a_container(node: Node, outside: Namespace) -> None:
    """As podman uses it: eth0 itself is the macvlan, with the default route."""
    pod = node.pod()
    pod.disconnect()
    request = node.standalone(
        pod, "eth0", version=DEBIAN, conf={"ipam": static(routes=[{"dst": "0.0.0.0/0"}])}
    )
    result = node.send_add(pod, request).ok()
    assert [one["name"] for one in result["interfaces"]] == ["eth0"]
    assert pod.reach(outside, OUTSIDE4) == "192.168.12.77"


def test_addresses_from_the_runtime(node: Node, lan: Lan) -> None:
    pod = node.pod()
    runtime = {"ips": ["192.168.12.70/24", "fd00:12::70/64"], "mac": "02:00:00:00:00:70"}
    with unchanged(pod, node):
        attach(node, pod, None, "1.1.0", runtimeConfig=runtime).ok()
        assert set(pod.addresses("net1")) == {"192.168.12.70/24", "fd00:12::70/64"}
        assert pod.mac("net1") == "02:00:00:00:00:70"
        assert lan.reach(pod, "192.168.12.70")
        node.delete(pod, "net1").ok()


def test_two_attachments_of_one_container_come_and_go_by_themselves(node: Node, lan: Lan) -> None:
    pod = node.pod()
    for name, address in (("net1", "192.168.12.71/24"), ("net2", "192.168.12.72/24")):
        runtime = {"ips": [address]}
        node.send_add(pod, node.standalone(pod, name, conf={"runtimeConfig": runtime})).ok()
    assert lan.reach(pod, "192.168.12.71")
    assert lan.reach(pod, "192.168.12.72")
    node.delete(pod, "net1").ok()
    assert pod.link("net1") is None
    node.check(pod, "net2").ok()
    assert lan.reach(pod, "192.168.12.72")
    node.delete(pod, "net2").ok()


@pytest.mark.parametrize("version", VERSIONS)
def test_result_is_of_the_version_asked_for(node: Node, version: str) -> None:
    pod = node.pod()
    ipam = static(routes=[{"dst": "203.0.113.0/24", "gw": "192.168.12.1"}])
    with unchanged(pod, node):
        result = attach(node, pod, ipam, version).ok()
        assert result["cniVersion"] == version
        if version < "0.3.0":
            assert "interfaces" not in result
            assert "ips" not in result
            assert result["ip4"]["ip"] == "192.168.12.77/24"
            assert result["ip4"]["gateway"] == "192.168.12.1"
            assert {"dst": "203.0.113.0/24", "gw": "192.168.12.1"} in result["ip4"]["routes"]
            assert result["ip6"]["ip"] == "fd00:12::77/64"
        else:
            (interface,) = result["interfaces"]
            assert (interface["name"], interface["sandbox"]) == ("net1", pod.path)
            assert "mtu" not in interface
            assert [ip["address"] for ip in result["ips"]] == ["192.168.12.77/24", "fd00:12::77/64"]
            assert [ip.get("version") for ip in result["ips"]] == (
                ["4", "6"] if version < "1.0.0" else [None, None]
            )
            assert {ip["interface"] for ip in result["ips"]} == {0}
        node.delete(pod, "net1").ok()


# -- leases


def test_lease_is_given_back_when_the_address_is_taken_on_the_lan(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.200")
    pod = node.pod()
    with unchanged(pod, node):
        attach(node, pod, host_local(node)).refused(104, host.mac())
    assert leases(node) == []


def test_lease_is_given_back_when_the_plan_fails_after_it(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        attach(node, pod, host_local(node, "192.168.12.10", "192.168.12.10")).refused(103, "192.168.12.10")
    assert leases(node) == []


def test_nothing_is_leased_when_the_request_is_refused_before(node: Node) -> None:
    pod = node.pod()
    attach(node, pod, host_local(node), master="nosuch0").refused(101)
    assert leases(node) == []


def test_exhausted_pool_is_reported_in_the_plugins_own_words(node: Node) -> None:
    ipam = host_local(node, "192.168.12.200", "192.168.12.200")
    attach(node, node.pod(), ipam).ok()
    pod = node.pod()
    with unchanged(pod, node):
        attach(node, pod, ipam).refused(IPAM_FAILED, "host-local", "no IP addresses available")


def test_missing_ipam_plugin_is_named(node: Node) -> None:
    pod = node.pod()
    with unchanged(pod, node):
        attach(node, pod, {"type": "nosuch-ipam"}).refused(IPAM_FAILED, "nosuch-ipam", "CNI_PATH")


def test_lost_lease_is_found_by_check(node: Node) -> None:
    pod = node.pod()
    attach(node, pod, host_local(node)).ok()
    node.check(pod, "net1").ok()
    os.unlink(f"{node.directory}/leases/lan/192.168.12.200")
    answer = node.check(pod, "net1")
    assert answer.status != 0
    assert answer.json["code"] in (IPAM_FAILED, DRIFT)
    assert "host-local" in answer.json["msg"] + answer.json.get("details", "")


def test_lease_is_given_back_by_delete_without_netns_or_record(node: Node) -> None:
    pod = node.pod()
    attach(node, pod, host_local(node)).ok()
    os.unlink(node.record(pod, "net1"))
    pod.remove()
    node.delete(pod, "net1").ok()
    assert leases(node) == []


def test_pods_of_one_pool_get_different_addresses_at_once(node: Node) -> None:
    pods = [node.pod() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda pod: attach(node, pod, host_local(node)), pods))
    addresses = {answer.ok()["ips"][0]["address"] for answer in answers}
    assert len(addresses) == len(pods)


# -- IPAM in a chain


def test_chained_pod_without_source_is_given_an_address(node: Node, lan: Lan) -> None:
    host = lan.host("192.168.12.50")
    pod = node.pod("bridge")
    conf = {"ipam": host_local(node)}
    with unchanged(pod, node):
        result = node.add(pod, {"pod.network.openshift.io/assign-macvlan": "true"}, conf=conf).ok()
        assert result["ips"][-1]["address"] == "192.168.12.200/24"
        assert pod.reach(host, "192.168.12.50", source="192.168.12.200") == "192.168.12.200"
        node.check(pod).ok()
        node.delete(pod).ok()
    assert pod.reach(node, "192.168.12.10") == pod.address


def test_source_annotation_spares_the_pool(node: Node) -> None:
    pod = node.pod(version=DEBIAN)
    node.add(pod, source("192.168.12.99/24"), conf={"ipam": host_local(node)}).ok()
    assert not os.path.isdir(f"{node.directory}/leases")


def test_standalone_needs_no_grant_and_bare_interface_no_ipam(node: Node) -> None:
    pod = node.pod()
    result = node.send_add(pod, Request(node.standalone(pod).environment, node.standalone(pod).document)).ok()
    assert result["interfaces"][0]["name"] == "net1"
    assert result.get("ips", []) == []
    assert pod.addresses("net1") == {}
