"""Results of every version, and the way between them: nothing is lost that the other version can say."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_macvlan_egress.protocol import results
from cni_macvlan_egress.protocol.errors import DECODING_FAILURE, CniError

from .. import json_values
from ..refusals import refused
from . import golden
from .golden import FIRST, MIDDLE, VERSIONS

NEW_IN_1_1 = {
    "interfaces": {"mtu", "socketPath", "pciID"},
    "routes": {"mtu", "advmss", "priority", "table", "scope"},
}
WITH_INTERFACES = [version for version in VERSIONS if version not in FIRST]
PAIRS = list(itertools.product(VERSIONS, VERSIONS))
PAIRS_WITH_INTERFACES = list(itertools.product(WITH_INTERFACES, WITH_INTERFACES))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_conversion_says_all_that_both_versions_can_say(source: str, target: str) -> None:
    given_ = golden.result(source)
    before = copy.deepcopy(given_)
    assert results.convert(given_, source, target) == golden.result(target, known_to=source)
    assert given_ == before  # what came in may be printed later


@pytest.mark.parametrize("target", FIRST)
def test_first_form_has_one_address_a_family_and_only_their_routes(target: str) -> None:
    common = {
        "cniVersion": "1.1.0",
        "ips": [{"address": "10.0.0.5/24"}, {"address": "10.0.0.6/24", "gateway": "10.0.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}],
    }
    assert results.from_common(common, target) == {
        "cniVersion": target,
        "ip4": {"ip": "10.0.0.5/24", "routes": [{"dst": "0.0.0.0/0"}]},
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_empty_result_stays_empty(version: str) -> None:
    common = results.to_common({"cniVersion": version}, version)
    assert not {key: value for key, value in common.items() if key != "cniVersion" and value}
    assert results.from_common({"cniVersion": "1.1.0"}, version) == {"cniVersion": version}


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_null_is_an_empty_list(source: str, target: str) -> None:
    lists = ("ip4", "ip6") if source in FIRST else ("interfaces", "ips", "routes")
    converted = results.convert({"cniVersion": source, **dict.fromkeys(lists)}, source, target)
    assert converted["cniVersion"] == target
    assert not any(converted.get(key) for key in ("ip4", "ip6", "interfaces", "ips", "routes"))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_gateway_without_a_word_is_none(source: str, target: str) -> None:
    silent = {"ip4": {"ip": "10.0.0.5/24", "gateway": ""}}
    named = {"ips": [{"address": "10.0.0.5/24"}]} if source in WITH_INTERFACES else silent
    converted = results.convert({"cniVersion": source, **named}, source, target)
    assert not (converted["ip4"] if target in FIRST else converted["ips"][0]).get("gateway")
    if source != target:
        assert "gateway" not in (converted["ip4"] if target in FIRST else converted["ips"][0])


# -- fields that nobody here knows


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_unknown_fields_of_the_result_survive(source: str, target: str) -> None:
    more = {"x-vendor": {"deep": [1, None, {"a": 1.5}]}, "code": 0}
    converted = results.convert({**golden.result(source), **more}, source, target)
    assert {key: converted.get(key) for key in more} == more


@pytest.mark.parametrize(("source", "target"), PAIRS_WITH_INTERFACES)
def test_unknown_fields_of_every_item_survive(source: str, target: str) -> None:
    given_ = copy.deepcopy(golden.result(source))
    expected = copy.deepcopy(golden.result(target, known_to=source))
    for one in (given_, expected):
        for key in ("interfaces", "ips", "routes"):
            for number, item in enumerate(one[key]):
                item["x-vendor"] = [key, number]
    assert results.convert(given_, source, target) == expected


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[1] in FIRST])
def test_unknown_fields_of_an_address_survive_in_the_first_form(source: str, target: str) -> None:
    given_ = copy.deepcopy(golden.result(source))
    for number, item in enumerate([given_["ip4"], given_["ip6"]] if source in FIRST else given_["ips"]):
        item["x-vendor"] = number
    converted = results.convert(given_, source, target)
    assert [converted[key].get("x-vendor") for key in ("ip4", "ip6")] == [0, 1]


@pytest.mark.parametrize(("source", "target"), [pair for pair in PAIRS if pair[0] in FIRST])
def test_unknown_fields_of_the_first_forms_addresses_survive(source: str, target: str) -> None:
    given_ = copy.deepcopy(golden.result(source))
    given_["ip4"]["x-vendor"] = "mine"
    converted = results.convert(given_, source, target)
    assert (converted["ip4"] if target in FIRST else converted["ips"][0]).get("x-vendor") == "mine"


def test_later_word_for_an_address_does_not_take_the_place_of_the_first_forms() -> None:
    result = {"ip4": {"ip": "10.0.0.5/24", "address": 1.5}}
    assert results.to_common(result, "0.2.0")["ips"] == [{"address": "10.0.0.5/24"}]


# -- properties

unknown = st.dictionaries(st.sampled_from(["x-a", "x-b"]), json_values.values, max_size=1)


def items(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """A list of objects that have the fields, any of which may be absent if its name ends with an underscore."""
    needed = {name: value for name, value in fields.items() if not name.endswith("_")}
    optional = {name.rstrip("_"): value for name, value in fields.items() if name.endswith("_")}
    one = st.builds(
        lambda known, more: {**more, **known}, st.fixed_dictionaries(needed, optional=optional), unknown
    )
    return st.lists(one, max_size=4)


addresses = st.ip_addresses().map(str)
prefixes = st.one_of(
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds("{}/{}".format, st.ip_addresses(v=6), st.integers(0, 128)),
)
words = st.text(max_size=6)
numbers = st.integers(0, 9000)
common_results = st.builds(
    lambda interfaces, ips, routes, more: {
        **more, "cniVersion": "1.1.0", "interfaces": interfaces, "ips": ips, "routes": routes,
    },
    items(name=words, mac_=words, sandbox_=words, mtu_=numbers, socketPath_=words, pciID_=words),
    items(address=prefixes, gateway_=addresses, interface_=st.integers(0, 5)),
    items(dst=prefixes, gw_=addresses, mtu_=numbers, priority_=numbers, table_=numbers, scope_=numbers),
    st.dictionaries(st.sampled_from(["dns", "x-vendor", "cni.dev/x"]), json_values.values, max_size=2),
)  # fmt: skip


def sayable(result: dict[str, Any], version: str) -> dict[str, Any]:
    """A common result without what was new in 1.1.0, if the version is older."""
    if version == "1.1.0":
        return result
    lists = {
        key: [{name: value for name, value in item.items() if name not in names} for item in result[key]]
        for key, names in NEW_IN_1_1.items()
    }
    return {**result, **lists}


@given(common_results, st.sampled_from(WITH_INTERFACES))
def test_there_and_back_loses_only_what_the_version_cannot_say(result: dict[str, Any], version: str) -> None:
    before = copy.deepcopy(result)
    lowered = results.from_common(result, version)
    assert lowered["cniVersion"] == version
    assert results.to_common(lowered, version) == sayable(result, version)
    assert result == before


@given(common_results, st.sampled_from(VERSIONS))
def test_second_time_there_and_back_changes_nothing(result: dict[str, Any], version: str) -> None:
    once = results.from_common(result, version)
    assert results.from_common(results.to_common(once, version), version) == once


@given(common_results, st.sampled_from(MIDDLE))
def test_addresses_name_their_family_where_the_version_wants_it(result: dict[str, Any], version: str) -> None:
    for ip in results.from_common(result, version)["ips"]:
        assert ip["version"] == ("6" if ":" in ip["address"] else "4")


@given(
    common_results,
    items(address=prefixes, gateway_=addresses),
    st.sampled_from(WITH_INTERFACES),
    st.sampled_from(WITH_INTERFACES),
)
def test_appended_interface_leaves_the_indexes_of_the_others(
    result: dict[str, Any], ours: list[dict[str, Any]], source: str, target: str
) -> None:
    previous = results.from_common(result, source)
    appended = results.append(results.to_common(previous, source), {"name": "macvlan0"}, ours)
    shown = results.from_common(appended, target)
    count = len(previous["interfaces"])
    assert [one["name"] for one in shown["interfaces"][:count]] == [
        one["name"] for one in previous["interfaces"]
    ]
    assert shown["interfaces"][count:] == [{"name": "macvlan0"}]
    old, new = shown["ips"][: len(previous["ips"])], shown["ips"][len(previous["ips"]) :]
    assert [one.get("interface") for one in old] == [one.get("interface") for one in previous["ips"]]
    assert [one["interface"] for one in new] == [count] * len(ours)
    assert [one["address"] for one in new] == [one["address"] for one in ours]
    assert shown["routes"] == sayable(results.from_common(result, source), min(source, target))["routes"]


# -- malformed


def one_of_each(key: str) -> list[object]:
    good = {
        "interfaces": {"name": "eth0"},
        "ips": {"address": "10.0.0.5/24"},
        "routes": {"dst": "0.0.0.0/0"},
    }[key]
    (needed,) = good
    return [
        5,
        True,
        "x",
        {"a": 1},
        good,
        [None],
        [5],
        ["x"],
        [[]],
        [{}],
        [{needed: 5}],
        [{needed: None}],
        [good, {}],
    ]


@pytest.mark.parametrize("version", WITH_INTERFACES)
@pytest.mark.parametrize("key", ["interfaces", "ips", "routes"])
def test_list_that_is_none_is_named(version: str, key: str) -> None:
    for value in one_of_each(key):
        with refused(DECODING_FAILURE, "prevResult", key):
            results.to_common({"cniVersion": version, key: value}, version)


@pytest.mark.parametrize(
    "value",
    [
        5, "x", [], [{}], {"gateway": "10.0.0.1"}, {"ip": 5}, {"ip": None, "gateway": "10.0.0.1"},
        {"ip": "10.0.0.5/24", "routes": "x"}, {"ip": "10.0.0.5/24", "routes": [5]},
        {"ip": "10.0.0.5/24", "routes": [{"gw": "10.0.0.1"}]},
    ],
    ids=str,
)  # fmt: skip
def test_address_of_the_first_form_that_is_none_is_named(value: object) -> None:
    for version, key in itertools.product(FIRST, ("ip4", "ip6")):
        with refused(DECODING_FAILURE, "prevResult", key):
            results.to_common({"cniVersion": version, key: value}, version)


parts = st.one_of(
    json_values.values,
    st.lists(json_values.objects | items(address=words, name=words, dst=words), max_size=2),
    items(address_=words, name_=words, dst_=words, ip_=words, routes_=json_values.values),
    st.fixed_dictionaries({"ip": words | json_values.values, "routes": json_values.values}),
)
malformed = st.dictionaries(
    st.sampled_from(["interfaces", "ips", "routes", "ip4", "ip6", "dns"]), parts, max_size=4
)


@given(malformed, st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_any_object_is_converted_or_refused(result: dict[str, Any], source: str, target: str) -> None:
    try:
        common = results.to_common(result, source)
        shown = results.from_common(
            results.append(common, {"name": "n"}, [{"address": "10.0.0.5/24"}]), target
        )
        results.from_common(common, target)
    except CniError as error:
        assert error.code == DECODING_FAILURE
    else:
        assert shown["cniVersion"] == target


@pytest.mark.parametrize(
    ("result", "version"), [({"cniVersion": "0.4.0"}, "0.4.0"), ({}, "1.0.0"), ({"cniVersion": ""}, "1.0.0")]
)
def test_version_of_a_result_is_its_own_or_the_one_asked_for(result: dict[str, Any], version: str) -> None:
    assert results.version_of(result, "1.0.0") == version


@pytest.mark.parametrize("version", ["9.9.9", "1.1", 1, 1.1, True, ["1.1.0"], {"a": 1}])
def test_unknown_version_of_a_result_is_refused(version: object) -> None:
    with refused(DECODING_FAILURE, "prevResult", "cniVersion", repr(version)):
        results.version_of({"cniVersion": version}, "1.0.0")
