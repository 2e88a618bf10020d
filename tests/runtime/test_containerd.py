"""A pod's life under a real containerd: the plugin is the last of a chain, as conf/ has it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cri
import pytest
import shipped
import traces
from containerd import GRANTED, Containerd
from lab import ASSIGN, Lan, Namespace, Node
from lab.network import OUTSIDE4

_, ANNOTATED = shipped.pod(shipped.EGRESS_POD)
ROUTERS, BARE = shipped.pod(shipped.ROUTER_POD)
SOURCE = ANNOTATED["macvlan-egress/source"].partition("/")[0]
ROUTER = ANNOTATED["macvlan-egress/gateway"]
after_each_main_plugin = pytest.mark.parametrize("containerd", [shipped.BRIDGE, shipped.PTP], indirect=True)


def test_containerd_takes_the_chain(containerd: Containerd) -> None:
    assert containerd.cri.version().runtime_name == "containerd"
    assert containerd.cri.conditions() == {"RuntimeReady": True, "NetworkReady": True}


@after_each_main_plugin
def test_annotated_pod_is_on_the_lan(containerd: Containerd, lan: Lan, outside: Namespace) -> None:
    pod = containerd.run_pod(annotations=ANNOTATED)
    assert pod.links() == ["eth0", "lo", "macvlan0"]
    assert "UP" in pod.link("macvlan0")["flags"]
    assert list(pod.addresses("macvlan0")) == [f"{SOURCE}/24"]
    assert lan.reach(pod, SOURCE) == ROUTER
    assert lan.neighbour(SOURCE) == pod.mac("macvlan0")
    assert pod.reach(outside, OUTSIDE4, source=SOURCE) == SOURCE


@after_each_main_plugin
def test_annotated_pod_keeps_its_address_in_the_cluster(containerd: Containerd, node: Node) -> None:
    pod = containerd.run_pod(annotations=ANNOTATED)
    assert containerd.leases() == [pod.ip]
    assert list(pod.addresses("eth0")) == [f"{pod.ip}/24"]
    neighbour = containerd.run_pod()
    assert neighbour.reach(pod, pod.ip) == neighbour.ip
    assert node.reach(pod, pod.ip)


def test_pod_with_assign_macvlan_alone_gets_a_bare_interface(containerd: Containerd) -> None:
    pod = containerd.run_pod(annotations=BARE, namespace=ROUTERS)
    assert "UP" in pod.link("macvlan0")["flags"]
    assert not pod.addresses("macvlan0")
    assert list(pod.addresses("eth0")) == [f"{pod.ip}/24"]


@pytest.mark.parametrize("annotations", [{}, {"team": "blue"}, {ASSIGN: "false"}], ids=str)
def test_plain_pod_gets_and_leaves_nothing(containerd: Containerd, annotations: dict[str, str]) -> None:
    pod = containerd.run_pod(annotations=annotations, namespace="elsewhere")
    assert pod.links() == ["eth0", "lo"]
    assert traces.files(containerd.plugin_dir) == []
    pod.stop()
    assert traces.files(containerd.plugin_dir) == []


def test_two_pods_of_one_node_do_not_share_a_source(containerd: Containerd, lan: Lan) -> None:
    first = containerd.run_pod(annotations=ANNOTATED)
    with pytest.raises(cri.Error, match=f"{SOURCE} is held by pod {GRANTED}/"):
        containerd.run_pod(annotations=ANNOTATED)
    assert containerd.namespaces() == [first.name]
    assert lan.reach(first, SOURCE) == ROUTER
    first.stop()
    second = containerd.run_pod(annotations=ANNOTATED)
    assert list(second.addresses("macvlan0")) == [f"{SOURCE}/24"]
    assert second.reach(lan, ROUTER, source=SOURCE) == SOURCE


def test_stopping_a_pod_twice_and_removing_it_leaves_nothing(containerd: Containerd, node: Node) -> None:
    pod = containerd.run_pod(annotations=ANNOTATED)
    assert containerd.namespaces() == [pod.name]
    assert containerd.leases() == [pod.ip]
    assert containerd.records()
    pod.stop()
    assert_nothing_left(containerd, node)
    pod.stop()
    pod.remove()
    assert_nothing_left(containerd, node)
    assert containerd.cri.pod_ids() == []


def test_pod_can_be_stopped_after_the_configuration_went_bad(containerd: Containerd, node: Node) -> None:
    pod = containerd.run_pod(annotations=ANNOTATED)
    containerd.reconfigure(allow="nobody", mtu=-1, colour="blue")
    with pytest.raises(cri.Error, match="colour"):
        containerd.run_pod(annotations=ANNOTATED)
    pod.stop()
    pod.remove()
    assert_nothing_left(containerd, node)


def test_pods_started_and_stopped_at_once(containerd: Containerd, lan: Lan, node: Node) -> None:
    sources = [f"192.168.12.{number}" for number in range(101, 107)]
    wishes = [{**ANNOTATED, "macvlan-egress/source": f"{source}/24"} for source in sources]
    with ThreadPoolExecutor(len(sources)) as pool:
        pods = list(pool.map(containerd.run_pod, wishes))
        for pod, source in zip(pods, sources, strict=True):
            assert list(pod.addresses("macvlan0")) == [f"{source}/24"]
            assert pod.reach(lan, ROUTER, source=source) == source
        list(pool.map(lambda pod: pod.stop(), pods))
    assert_nothing_left(containerd, node)


def test_pod_outlives_a_crash_of_containerd(containerd: Containerd, lan: Lan, node: Node) -> None:
    pod = containerd.run_pod(annotations=ANNOTATED)
    containerd.crash()
    assert pod.reach(lan, ROUTER, source=SOURCE) == SOURCE
    with pytest.raises(cri.Error, match=f"{SOURCE} is held by pod {GRANTED}/"):
        containerd.run_pod(annotations=ANNOTATED)
    pod.stop()
    pod.remove()
    assert_nothing_left(containerd, node)


def test_failed_attachment_says_why_and_leaves_nothing(containerd: Containerd, node: Node) -> None:
    with pytest.raises(cri.Error) as failure:
        containerd.run_pod(annotations={**ANNOTATED, "macvlan-egress/source": "not-an-address"})
    assert "macvlan-egress/source" in str(failure.value)
    assert "not-an-address" in str(failure.value)
    assert_nothing_left(containerd, node)


def test_pod_in_a_namespace_without_a_grant_is_refused(containerd: Containerd, node: Node) -> None:
    with pytest.raises(cri.Error) as failure:
        containerd.run_pod(annotations=ANNOTATED, namespace="elsewhere")
    assert "allow" in str(failure.value)
    assert "elsewhere" in str(failure.value)
    assert_nothing_left(containerd, node)


def assert_nothing_left(containerd: Containerd, node: Node) -> None:
    """Neither of the plugin, nor of the main plugin, nor of containerd."""
    assert containerd.records() == []
    assert containerd.locks() == []
    assert containerd.leases() == []
    assert containerd.namespaces() == []
    assert sorted(link["ifname"] for link in node.show("link show")) == ["cni0", "eth0", "lo"]
