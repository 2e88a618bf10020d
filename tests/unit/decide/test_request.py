"""Configuration, runtimeConfig and annotations merged: the later ones win."""

from __future__ import annotations

import pytest
from hypothesis import given

from cni_macvlan_egress.decide.request import Pod, Request, merge
from cni_macvlan_egress.model.annotations import PodAnnotations
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION, CniError

from .. import json_values
from ..refusals import refused
from .examples import ASSIGN, DUAL, request, source

RUNTIME = {"ips": ["192.168.12.70/24", "fd00:12::70/64"], "mac": "02-00-00-00-00-70"}
IPAM = {"type": "host-local"}


def test_chained_interface_is_the_configurations_and_standalone_the_runtimes() -> None:
    chained = request({ASSIGN: "true"}, ifName="lan0")
    assert (chained.standalone, chained.interface, chained.main_interface) == (False, "lan0", "eth0")
    standalone = request(chained=False, ifname="net1", ifName="lan0")
    assert (standalone.standalone, standalone.interface, standalone.main_interface) == (True, "net1", "")


@pytest.mark.parametrize(
    ("annotations", "conf", "master", "annotated"),
    [
        ({ASSIGN: "true"}, {}, None, False),
        ({ASSIGN: "true"}, {"master": "auto"}, None, False),
        ({ASSIGN: "true"}, {"master": "eth1"}, "eth1", False),
        ({ASSIGN: "eth2"}, {}, "eth2", True),
        ({ASSIGN: "eth2"}, {"master": "eth1"}, "eth2", True),
        (DUAL, {"master": "eth1"}, "eth1", False),
    ],
)
def test_nic_of_the_annotation_wins(
    annotations: dict, conf: dict, master: str | None, annotated: bool
) -> None:
    found = request(annotations, **conf)
    assert (found.master, found.master_annotated) == (master, annotated)


@pytest.mark.parametrize("name", ["mode", "mtu", "mac", "routes"])
def test_annotation_wins_over_the_configuration(name: str) -> None:
    default = {"mode": "bridge", "mtu": None, "mac": "kernel", "routes": "destinations"}
    configured = {"mode": "vepa", "mtu": 1400, "mac": "address", "routes": "default"}
    annotated = {"mode": "private", "mtu": "1300", "mac": "02:00:00:00:00:07", "routes": "destinations"}
    said = {**DUAL, f"macvlan-egress/{name}": annotated[name]}
    assert getattr(request(DUAL), name) == default[name]
    assert getattr(request(DUAL, **{name: configured[name]}), name) == configured[name]
    assert str(getattr(request(said, **{name: configured[name]}), name)) == annotated[name]


def addressing(found: Request) -> tuple[str, bool, bool, bool]:
    return ",".join(map(str, found.sources)), found.sources_annotated, found.use_ipam, found.bare


@pytest.mark.parametrize("chained", [True, False])
@pytest.mark.parametrize("ipam", [None, IPAM])
def test_annotated_source_comes_before_any_other(chained: bool, ipam: dict | None) -> None:
    found = request(source("192.168.12.99/24"), chained=chained, runtime=RUNTIME, ipam=ipam)
    assert addressing(found) == ("192.168.12.99/24", True, False, False)


def test_ipam_comes_before_the_runtimes_addresses_because_it_gets_them() -> None:
    assert addressing(request(chained=False, runtime=RUNTIME, ipam=IPAM)) == ("", False, True, False)


def test_runtimes_address_is_the_interfaces_only_where_no_chain_is() -> None:
    alone = request(chained=False, runtime=RUNTIME)
    assert addressing(alone) == ("192.168.12.70/24,fd00:12::70/64", False, False, False)
    assert alone.mac == "02:00:00:00:00:70"
    chained = request({ASSIGN: "true"}, runtime=RUNTIME)
    assert addressing(chained) == ("", False, False, True)
    assert chained.mac == "kernel"


@pytest.mark.parametrize(
    ("args", "sources", "mac"),
    [
        ({}, "", "kernel"),
        ({"IP": "", "MAC": ""}, "", "kernel"),
        ({"IP": "192.168.12.71/24"}, "192.168.12.71/24", "kernel"),
        ({"IP": "192.168.12.71,fd00:12::71"}, "192.168.12.71/32,fd00:12::71/128", "kernel"),
        ({"MAC": "02:00:00:00:00:71"}, "", "02:00:00:00:00:71"),
    ],
)
def test_arguments_stand_in_for_what_the_runtime_config_does_not_say(
    args: dict, sources: str, mac: str
) -> None:
    alone = request(chained=False, args=args)
    assert (addressing(alone)[0], alone.mac) == (sources, mac)
    both = request(chained=False, args=args, runtime=RUNTIME)
    assert (addressing(both)[0], both.mac) == (",".join(RUNTIME["ips"]), "02:00:00:00:00:70")
    chained = request({ASSIGN: "true"}, args=args)
    assert (addressing(chained)[0], chained.mac) == ("", "kernel")


@pytest.mark.parametrize("args", [{"IP": "192.168.12.0/24"}, {"IP": "pool"}, {"IP": ","}, {"MAC": "x"}])
def test_bad_argument_is_refused(args: dict[str, str]) -> None:
    with refused(INVALID_CONFIGURATION):
        request(chained=False, args=args)


def test_annotation_asks_and_configuration_does_not() -> None:
    assert request({ASSIGN: "true"}).annotated
    assert not request(chained=False, master="eth1", ipam=IPAM).annotated


@pytest.mark.parametrize(
    ("runtime", "words"),
    [
        ({"ips": "192.168.12.70/24"}, ["runtimeConfig.ips", "list"]),
        ({"ips": {"a": 1}}, ["runtimeConfig.ips", "list"]),
        ({"ips": ["192.168.12.0/24"]}, ["runtimeConfig.ips", "192.168.12.0"]),
        ({"ips": ["192.168.12.70/24", 5]}, ["runtimeConfig.ips", "5"]),
        ({"mac": "x"}, ["runtimeConfig.mac", "'x'"]),
        ({"mac": "01:00:00:00:00:01"}, ["runtimeConfig.mac", "multicast"]),
    ],
    ids=str,
)
def test_bad_value_of_the_runtime_is_named(runtime: dict, words: list[str]) -> None:
    with refused(INVALID_CONFIGURATION, *words):
        request(chained=False, runtime=runtime)
    request({ASSIGN: "true"}, runtime=runtime)  # in a chain they are meant for the main interface


@given(json_values.values, json_values.values)
def test_any_values_of_the_runtime_are_taken_or_refused(ips: object, mac: object) -> None:
    for chained in (True, False):
        try:
            merge(Configuration(), {"ips": ips, "mac": mac}, PodAnnotations(), ifname="eth0", chained=chained)
        except CniError as error:
            assert error.code == INVALID_CONFIGURATION


@pytest.mark.parametrize(
    ("pod", "text"), [(Pod(), ""), (Pod("shop", "cart", "1-2"), "shop/cart"), (Pod("shop"), "")]
)
def test_pod_is_named_as_kubernetes_does(pod: Pod, text: str) -> None:
    assert str(pod) == text
