"""The plugin's object in a conflist: defaults, refusals by name, and leniency where something is to be released."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.configuration import Configuration
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION, CniError

from .. import json_values
from ..calls import configuration
from ..refusals import refused

# One usable value and one that breaks a rule, for every key.
GOOD: dict[str, Any] = {
    "master": "eth1",
    "mode": "private",
    "mtu": 1400,
    "ifName": "lan0",
    "mac": "02-00-00-00-00-07",
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "192.168.12.0/24"}]]},
    "allow": [{"namespaces": ["shop", "team-*"], "sources": ["192.168.12.0/24"], "masters": ["eth0"]}],
    "conflictDetection": "off",
    "conflictTimeoutMs": 100,
    "routes": "default",
    "clusterNetworks": ["10.244.0.0/16", "fd00:244::/64"],
    "annotations": ["runtime", "/var/lib/annotations"],
    "kubeconfig": "/etc/cni/kubeconfig",
    "stateDir": "/state",
    "runDir": "/locks",
    "logFile": "/log",
    "logLevel": "debug",
}
BAD: dict[str, Any] = {
    "master": "a b",
    "mode": "hub",
    "mtu": "1400",
    "ifName": "",
    "mac": "ff:ff:ff:ff:ff:ff",
    "ipam": {"type": "a/b"},
    "allow": [{"namespaces": []}],
    "conflictDetection": "none",
    "conflictTimeoutMs": 9,
    "routes": "all",
    "clusterNetworks": ["10.244.0.1/16"],
    "annotations": ["runtime", "relative"],
    "kubeconfig": "relative",
    "stateDir": "state",
    "runDir": "/a\0b",
    "logFile": 5,
    "logLevel": "loud",
}


def test_defaults_work_without_a_word() -> None:
    found = Configuration.of(configuration())
    assert found.model_dump(by_alias=True) == {
        "master": "auto",
        "mode": "bridge",
        "mtu": None,
        "ifName": "macvlan0",
        "mac": "kernel",
        "ipam": None,
        "allow": None,
        "conflictDetection": "fast",
        "conflictTimeoutMs": 200,
        "routes": "destinations",
        "clusterNetworks": (),
        "policy": None,
        "annotations": ("runtime", "kubernetes"),
        "kubeconfig": None,
        "stateDir": "/var/lib/cni/macvlan-egress",
        "runDir": "/run/macvlan-egress",
        "logFile": "/var/log/macvlan-egress.log",
        "logLevel": "info",
    }


def test_every_key_is_read() -> None:
    found = Configuration.of(configuration(**GOOD))
    assert (found.master, found.mode, found.mtu, found.if_name) == ("eth1", "private", 1400, "lan0")
    assert found.mac == "02:00:00:00:00:07"
    assert found.ipam is not None
    assert found.ipam.model_dump() == GOOD["ipam"]
    assert found.allow is not None
    assert found.allow[0].namespaces == ("shop", "team-*")
    assert [str(one) for one in found.allow[0].sources or ()] == ["192.168.12.0/24"]
    assert found.allow[0].masters == ("eth0",)
    assert [str(one) for one in found.cluster_networks] == GOOD["clusterNetworks"]
    assert (found.conflict_detection, found.conflict_timeout_ms, found.routes) == ("off", 100, "default")
    assert found.annotations == ("runtime", "/var/lib/annotations")
    assert (found.kubeconfig, found.state_dir, found.run_dir) == ("/etc/cni/kubeconfig", "/state", "/locks")
    assert (found.log_file, found.log_level) == ("/log", "debug")


@pytest.mark.parametrize("key", GOOD)
def test_key_is_accepted_alone(key: str) -> None:
    default = Configuration.of(configuration())
    assert Configuration.of(configuration(**{key: GOOD[key]})) != default


@pytest.mark.parametrize("key", BAD)
def test_bad_value_is_named_with_its_key(key: str) -> None:
    with refused(INVALID_CONFIGURATION, key, "docs/configuration.md"):
        Configuration.of(configuration(**{**GOOD, key: BAD[key]}))


@pytest.mark.parametrize("key", [key for key in BAD if key not in ("mtu", "ipam", "allow", "kubeconfig")])
def test_null_is_no_value(key: str) -> None:
    with refused(INVALID_CONFIGURATION, key):
        Configuration.of(configuration(**{key: None}))


@pytest.mark.parametrize(
    ("keys_", "words"),
    [
        ({"allow": [{"namespaces": ["*"]}, {"namespaces": [""]}]}, ["allow.1.namespaces.0"]),
        ({"allow": [{"namespaces": ["*"], "sources": ["x"]}]}, ["allow.0.sources.0", "'x'", "CIDR"]),
        ({"allow": [{"namespaces": ["*"], "master": ["x"]}]}, ["allow.0.master", "not known"]),
        ({"ipam": {}}, ["ipam.type", "required"]),
        ({"ipam": {"type": 5}}, ["ipam.type", "string"]),
        (
            {"clusterNetworks": ["10.0.0.0/8", "10.1.2.3/8"]},
            ["clusterNetworks.1", "did you mean 10.0.0.0/8?"],
        ),
        ({"mac": "x"}, ["mac", "'x'", "'kernel', 'address'"]),
        ({"mtu": 1e3}, ["mtu", "1000.0", "whole number"]),
        ({"mtu": 67}, ["mtu", "67", "68"]),
        ({"stateDir": "x\n" * 500}, ["stateDir", "absolute path"]),
    ],
    ids=str,
)
def test_place_value_and_rule_are_named(keys_: dict[str, Any], words: list[str]) -> None:
    with refused(INVALID_CONFIGURATION, *words):
        Configuration.of(configuration(**keys_))


@given(st.sets(st.sampled_from(sorted(BAD))))
def test_release_leaves_out_what_is_wrong_and_keeps_the_rest(wrong: set[str]) -> None:
    found = Configuration.for_release(
        configuration(**{**GOOD, **{key: BAD[key] for key in wrong}}, unknown=1)
    )
    expected = Configuration.of(
        configuration(**{key: value for key, value in GOOD.items() if key not in wrong})
    )
    assert found == expected


# -- properties

plausible = st.one_of(
    json_values.values,
    st.sampled_from([*GOOD.values(), *BAD.values()]),
    st.lists(json_values.any_text | st.ip_addresses().map("{}/24".format), max_size=2),
    st.lists(
        st.dictionaries(st.sampled_from(["namespaces", "sources", "masters", "x"]), json_values.values),
        max_size=2,
    ),
    st.dictionaries(st.sampled_from(["type", "x"]), json_values.values, max_size=2),
    st.integers(-(10**30), 10**30),
)
wild = st.dictionaries(
    st.sampled_from(sorted(keys.CONFIGURATION | keys.ENVELOPE)) | json_values.any_text, plausible, max_size=6
)


@settings(max_examples=80)
@given(wild)
@example({"ifName": "\ud800"})
@example({"stateDir": "/\ud800"})
@example({"logFile": "/\ud800"})
@example({"ipam": {"type": "\ud800"}})
@example({"ipam": {"type": "x", "\ud800": 1}})
@example({"policy": {}})
def test_any_object_is_a_configuration_or_refused(raw: dict[str, Any]) -> None:
    try:
        Configuration.of(raw)
    except CniError as error:
        assert error.code == INVALID_CONFIGURATION
        assert "\n" not in error.msg


@settings(max_examples=80)
@given(wild)
@example({"ifName": "\ud800"})
@example({"policy": {}, "unknown": 1})
def test_release_takes_any_object(raw: dict[str, Any]) -> None:
    released = Configuration.for_release(raw)
    try:
        strict = Configuration.of(raw)
    except CniError:
        return
    assert released == strict


# -- policy

CLUSTER = {"clusterNetworks": ["10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("policy", "directory"),
    [
        ({}, "/etc/cni/macvlan-egress/policies.d"),
        ({"log": True}, "/etc/cni/macvlan-egress/policies.d"),
        ({"directory": "/srv/policies"}, "/srv/policies"),
        ({"directory": "/srv/policies", "kubernetes": True}, "/srv/policies"),
        ({"kubernetes": True}, None),
    ],
)
def test_directory_of_policies_is_read_unless_only_the_api_is_named(
    policy: dict[str, object], directory: str | None
) -> None:
    found = Configuration.of(configuration(policy=policy, **CLUSTER))
    assert found.policy is not None
    assert found.policy.source_directory == directory


def test_policies_need_to_know_what_they_must_not_block() -> None:
    with pytest.raises(CniError, match="clusterNetworks must name the networks of pods"):
        Configuration.of(configuration(policy={}))


def test_release_goes_on_without_a_policy_that_is_wrong() -> None:
    assert Configuration.for_release(configuration(policy={})).policy is None
    assert Configuration.for_release(configuration(policy={"directory": "here"}, **CLUSTER)).policy is None


@pytest.mark.parametrize(
    "policy", [{"directory": "here"}, {"unknownMacs": "maybe"}, {"files": "/srv"}, "yes"]
)
def test_wrong_policy_settings_are_named(policy: object) -> None:
    with pytest.raises(CniError, match="policy"):
        Configuration.of(configuration(policy=policy, **CLUSTER))
