"""Paths whose MTU is smaller than the client's: who sends too much is told, and large transfers pass."""

from __future__ import annotations

import pytest
from lab import Lan, Namespace, Node, Pod
from lab.bulk import transfer
from lab.network import OUTSIDE4, OUTSIDE6
from lab.path_mtu import path_mtu, path_mtu_back
from lab.traffic import NOBODY, exchange, ping

from .asking import OFF, egress, own, redirect

MTU = 1500
# IP and TCP headers without options; Linux adds time stamps to each segment.
HEADERS, TIME_STAMPS = {4: 40, 6: 60}, 12
# IP and UDP
UDP_HEADERS = {4: 28, 6: 48}
SIZE = 20_000_000
LINES = (f"5001 tcp {OUTSIDE4}", f"5001 tcp {OUTSIDE6}", f"5002 udp {OUTSIDE4}", f"5002 udp {OUTSIDE6}")


def filling(version: int, mtu: int) -> int:
    """The payload of the largest datagram."""
    return mtu - UDP_HEADERS[version]


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_equal_mtus_leave_the_segments_alone(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    mss = exchange("tcp", client, (own(pod, version), 5001), outside, 5001).mss
    assert mss == (MTU - HEADERS[version] - TIME_STAMPS,) * 2
    assert path_mtu(client, (own(pod, version), 5002), filling(version, MTU)) is None


@pytest.mark.parametrize(("inner", "outer"), [(MTU, 1400), (1420, MTU), (1400, 1300)])
def test_segments_fit_the_smaller_interface(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int, inner: int, outer: int
) -> None:
    pod.ip(f"link set eth0 mtu {inner}")
    node.add(pod, redirect(*LINES, mtu=str(outer)), conf=OFF).ok()
    visit = exchange("tcp", client, (own(pod, version), 5001), outside, 5001)
    assert visit.mss == (min(inner, outer) - HEADERS[version] - TIME_STAMPS,) * 2
    assert visit.source == egress(own(pod, version))


def test_client_is_told_of_the_macvlans_smaller_mtu(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    node.add(pod, redirect(*LINES, mtu="1400"), conf=OFF).ok()
    to = (own(pod, version), 5002)
    assert path_mtu(client, to, filling(version, 1400)) is None
    assert path_mtu(client, to, filling(version, MTU)) == 1400


def test_client_is_told_of_a_smaller_mtu_behind_the_router(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    lan.ip("link set out0 mtu 1300")
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    to = (own(pod, version), 5002)
    assert path_mtu(client, to, filling(version, 1300)) is None
    assert path_mtu(client, to, filling(version, MTU)) == 1300


def test_server_is_told_of_a_smaller_main_interface(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    pod.ip("link set eth0 mtu 1420")
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    to = (own(pod, version), 5002)
    assert path_mtu_back(client, to, outside, 5002, filling(version, 1420)) is None
    assert path_mtu_back(client, to, outside, 5002, filling(version, MTU)) == 1420


def test_server_is_told_of_a_smaller_mtu_in_the_cluster(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    """Between the node and the client: the message crosses both translations."""
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    link = node.route_get(own(client, version))["dev"]
    node.ip(f"link set {link} mtu 1350")
    to = (own(pod, version), 5002)
    assert path_mtu_back(client, to, outside, 5002, filling(version, 1350)) is None
    assert path_mtu_back(client, to, outside, 5002, filling(version, MTU)) == 1350


def test_large_upload_through_a_step_behind_the_router(
    node: Node, lan: Lan, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    lan.ip("link set out0 mtu 1300")
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    visit = transfer(client, (own(pod, version), 5001), outside, 5001, SIZE)
    assert visit.source == egress(own(pod, version))
    assert visit.mss[1] == 1300 - HEADERS[version] - TIME_STAMPS, "the client was not told"


@pytest.mark.parametrize("download", [False, True], ids=["upload", "download"])
def test_large_transfer_through_a_step_in_the_pod(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int, download: bool
) -> None:
    pod.ip("link set eth0 mtu 1450")
    node.add(pod, redirect(*LINES, mtu="1400"), conf=OFF).ok()
    visit = transfer(client, (own(pod, version), 5001), outside, 5001, SIZE, download=download)
    assert visit.source == egress(own(pod, version))


def test_fragments_pass_a_step_in_the_pod(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    node.add(pod, redirect(OUTSIDE4, OUTSIDE6, mtu="1400"), conf=OFF).ok()
    address = own(pod, version)
    if version == 6:  # only the sender makes fragments, so that it has to be told first
        assert ping(client, address, outside, payload=8000, timeout=0.3) == NOBODY
    assert ping(client, address, outside, payload=8000).source == egress(address)


def test_mtu_of_the_macvlan_follows_its_nic(
    node: Node, outside: Namespace, pod: Pod, client: Pod, version: int
) -> None:
    node.ip("link set eth0 mtu 1400")
    node.add(pod, redirect(*LINES), conf=OFF).ok()
    assert path_mtu(client, (own(pod, version), 5002), filling(version, MTU)) == 1400
    visit = transfer(client, (own(pod, version), 5001), outside, 5001, SIZE // 20)
    assert visit.mss == (1400 - HEADERS[version] - TIME_STAMPS,) * 2
