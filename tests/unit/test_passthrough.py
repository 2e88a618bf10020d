"""The answer for the many pods that want nothing, and for them alone."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from cni_macvlan_egress import passthrough
from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.annotations import PodAnnotations
from cni_macvlan_egress.protocol.errors import INVALID_CONFIGURATION, CniError

from . import json_values
from .calls import ANNOTATIONS, POD_ARGS, call, configuration
from .refusals import refused

PREVIOUS: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/none"}],
    "ips": [{"address": "10.244.0.5/24", "interface": 1}],
}
ODDLY_SPELLED = (
    '{ "ips":[{"address" : "10.244.0.5/24"} ],\n\t"x": 1.50, "cniVersion":"1.1.0", "é": "\\u00e9" }'
)
ASSIGN, SOURCE = keys.ASSIGN, "macvlan-egress/source"


def annotated(found: object, **more: Any) -> dict[str, Any]:
    return configuration(prevResult=PREVIOUS, runtimeConfig={ANNOTATIONS: found}, **more)


@pytest.fixture(autouse=True)
def api(mocker: MockerFixture) -> MagicMock:
    """What asks the API server; there is none unless a test says so, even if these tests run in a pod."""
    mocker.patch("cni_macvlan_egress.sources.kubernetes.configured", return_value=False)
    return mocker.patch("cni_macvlan_egress.sources.kubernetes.fetch_for", side_effect=AssertionError)


# -- ADD


@pytest.mark.parametrize(
    "annotations",
    [
        None,
        {},
        {"other": "x"},
        {ASSIGN: "false"},
        {ASSIGN: ""},
        {ASSIGN: None},
        {f"x{SOURCE}": "192.168.12.99"},
    ],
)
def test_pod_that_asks_for_nothing_gets_the_previous_result(annotations: object) -> None:
    assert (
        json.loads(passthrough.answer(call("ADD", annotated(annotations), CNI_ARGS=POD_ARGS)) or "")
        == PREVIOUS
    )


def test_previous_result_is_handed_on_to_the_letter() -> None:
    text = json.dumps(configuration(runtimeConfig={ANNOTATIONS: {}}))
    document = f'{text[:-1]}, "prevResult" :\n{ODDLY_SPELLED}\t}}'
    assert passthrough.answer(call("ADD", document, CNI_ARGS=POD_ARGS)) == ODDLY_SPELLED


@pytest.mark.parametrize(
    ("previous", "version", "result"),
    [
        ({}, "1.0.0", {"cniVersion": "1.0.0"}),
        ({"ips": [], "x": 1}, "1.1.0", {"cniVersion": "1.1.0", "ips": [], "x": 1}),
        (
            {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.244.0.5/24", "interface": 0}]},
            "1.0.0",
            {"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.5/24", "interface": 0}]},
        ),
        (
            {
                "cniVersion": "1.1.0",
                "ips": [{"address": "10.244.0.5/24"}],
                "interfaces": None,
                "routes": None,
            },
            "0.2.0",
            {"cniVersion": "0.2.0", "ip4": {"ip": "10.244.0.5/24"}},
        ),
    ],
    ids=str,
)
def test_previous_result_of_another_version_is_rewritten(previous: dict, version: str, result: dict) -> None:
    document = configuration(cniVersion=version, prevResult=previous)
    assert json.loads(passthrough.answer(call("ADD", document)) or "") == result


@pytest.mark.parametrize(
    "annotations",
    [
        {ASSIGN: "true"},
        {ASSIGN: "eth1"},
        {ASSIGN: 1},
        {SOURCE: "192.168.12.99"},
        {"macvlan-egress/x": ""},
        [],
        "x",
        5,
    ],
)
def test_pod_that_asks_for_anything_is_served_in_full(annotations: object) -> None:
    assert passthrough.answer(call("ADD", annotated(annotations), CNI_ARGS=POD_ARGS)) is None


@pytest.mark.parametrize(
    ("document", "args", "passes"),
    [
        # A runtime that is not Kubernetes and tells no annotations has none to tell.
        (configuration(prevResult=PREVIOUS), "", True),
        (configuration(prevResult=PREVIOUS, annotations=["kubernetes", "runtime"]), "", True),
        (configuration(prevResult=PREVIOUS), "K8S_POD_NAME=cart", True),
        # On Kubernetes silence must not pass for "no annotations".
        (configuration(prevResult=PREVIOUS), POD_ARGS, False),
        (configuration(prevResult=PREVIOUS, runtimeConfig={"mac": "x"}), POD_ARGS, False),
        # Somebody else may know more.
        (annotated({}, annotations=["/var/lib/annotations", "runtime"]), "", False),
        (annotated({}, annotations=["kubernetes", "runtime"]), POD_ARGS, False),
        (annotated({SOURCE: "192.168.12.99"}, annotations=["kubernetes", "runtime"]), "", False),
        (annotated({SOURCE: "192.168.12.99"}, annotations=["kubernetes"]), "", True),
        (configuration(prevResult=PREVIOUS, annotations=["runtime", "/var/lib/annotations"]), "", False),
        (annotated({}, annotations=["runtime", "/var/lib/annotations"]), POD_ARGS, True),
        (annotated({}, annotations=[]), "", True),
        (annotated({}, annotations=[]), POD_ARGS, False),
        (annotated({}, annotations="runtime"), "", False),
        (configuration(prevResult=PREVIOUS, annotations=[{}]), "", False),
        (configuration(prevResult=PREVIOUS, annotations=["runtime", 5]), "", False),
        # The network is the macvlan itself.
        (configuration(runtimeConfig={ANNOTATIONS: {}}), POD_ARGS, False),
        (configuration(prevResult=None), "", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nobody_passes_by_whom_a_source_might_speak_for(document: dict, args: str, passes: bool) -> None:
    assert (passthrough.answer(call("ADD", document, CNI_ARGS=args)) is not None) is passes


@pytest.mark.parametrize(
    ("annotations", "passes"), [({"other": "x"}, True), ({SOURCE: "192.168.12.99"}, False)]
)
@pytest.mark.parametrize(
    "order", [["runtime", "kubernetes"], ["kubernetes", "/var/lib/annotations"], ["kubernetes"]]
)
def test_api_is_asked_once_where_the_runtime_is_silent(
    mocker: MockerFixture, api: MagicMock, order: list[str], annotations: dict[str, str], passes: bool
) -> None:
    mocker.patch("cni_macvlan_egress.sources.kubernetes.configured", return_value=True)
    api.side_effect, api.return_value = None, annotations
    asked = call("ADD", configuration(prevResult=PREVIOUS, annotations=order), CNI_ARGS=POD_ARGS)
    assert (passthrough.answer(asked) is not None) is passes
    assert asked.fetched == annotations
    api.assert_called_once()


def test_api_is_not_asked_where_the_runtime_speaks(mocker: MockerFixture) -> None:
    mocker.patch("cni_macvlan_egress.sources.kubernetes.configured", return_value=True)
    assert passthrough.answer(call("ADD", annotated({}), CNI_ARGS=POD_ARGS)) is not None
    assert passthrough.answer(call("ADD", annotated({ASSIGN: "true"}), CNI_ARGS=POD_ARGS)) is None


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_unknown_key_is_refused_though_nobody_asks(verb: str) -> None:
    with refused(INVALID_CONFIGURATION, "mastr", "'master'"):
        passthrough.answer(call(verb, annotated({}, mastr="eth0", stateDir="/nowhere")))


@pytest.mark.parametrize("verb", ["GC", "STATUS"])
def test_verbs_of_the_whole_network_are_served_in_full(verb: str) -> None:
    assert passthrough.answer(call(verb, annotated({}))) is None


# -- DEL and CHECK


@pytest.fixture
def state_dir(tmp_path: Path) -> str:
    (tmp_path / "state" / "attachments").mkdir(parents=True)
    return f"{tmp_path}/state"


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
@pytest.mark.parametrize("annotations", [{}, {SOURCE: "192.168.12.99"}], ids=["plain", "annotated"])
def test_pod_without_a_record_is_done_at_once(verb: str, state_dir: str, annotations: dict[str, str]) -> None:
    assert passthrough.answer(call(verb, annotated(annotations, stateDir=state_dir))) == ""
    assert passthrough.answer(call(verb, annotated(annotations, stateDir=f"{state_dir}/nowhere"))) == ""


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
@pytest.mark.parametrize("name", ["c1@eth0.json", ".c1@eth0.json.tmp"])
def test_pod_with_a_record_is_served_in_full(verb: str, state_dir: str, name: str) -> None:
    Path(state_dir, "attachments", name).write_text("")
    assert passthrough.answer(call(verb, annotated({}, stateDir=f"{state_dir}/"))) is None
    for changed in ({"CNI_CONTAINERID": "c2"}, {"CNI_IFNAME": "net1"}):
        assert passthrough.answer(call(verb, annotated({}, stateDir=state_dir), **changed)) == ""


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
def test_lost_record_is_known_by_our_interface_in_the_result(verb: str, state_dir: str) -> None:
    def answer(name: str, **more: Any) -> str | None:
        interface = {"name": name, "sandbox": "/run/netns/none"}
        document = annotated({}, stateDir=state_dir, **more)
        return passthrough.answer(
            call(verb, {**document, "prevResult": {"interfaces": [*PREVIOUS["interfaces"], interface]}})
        )

    assert answer("macvlan0") is None
    assert answer("lan0", ifName="lan0") is None
    assert answer("lan0") == ""
    assert answer("macvlan0", ifName="lan0") == ""


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
def test_interface_of_that_name_on_the_node_is_not_the_pods(verb: str, state_dir: str) -> None:
    document = {**annotated({}, stateDir=state_dir), "prevResult": {"interfaces": [{"name": "macvlan0"}]}}
    assert passthrough.answer(call(verb, document)) == ""


def test_standalone_attachment_is_never_passed_by(state_dir: str) -> None:
    for verb in ("ADD", "DEL", "CHECK"):
        assert passthrough.answer(call(verb, configuration(stateDir=state_dir))) is None


@pytest.mark.parametrize("state", ["state", 5, "/a\0b", "/\ud800", ["/a"]])
def test_bad_state_directory_does_not_keep_a_pod_from_being_deleted(state: object) -> None:
    # What a release makes of a bad configuration is said in Configuration.for_release.
    assert passthrough.answer(call("DEL", annotated({}, stateDir=state))) is None


# -- properties

names = st.sampled_from([ASSIGN, SOURCE, "macvlan-egress/gateway", "macvlan-egress/x", "other"])
texts = st.sampled_from(["", "true", "false", " false ", "eth1", "192.168.12.99"]) | json_values.any_text
sources = st.lists(st.sampled_from(["runtime", "kubernetes", "/dir"]) | json_values.values, max_size=3)
documents = st.fixed_dictionaries(
    {"cniVersion": st.sampled_from(["0.3.1", "1.0.0", "1.1.0"]), "name": st.just("cluster")},
    optional={
        "prevResult": st.just(PREVIOUS)
        | json_values.objects
        | st.fixed_dictionaries({"interfaces": json_values.values}),
        "runtimeConfig": st.fixed_dictionaries(
            {ANNOTATIONS: st.dictionaries(names, texts) | json_values.values}
        ),
        "annotations": sources | json_values.values,
        "ifName": json_values.values,
        "stateDir": json_values.any_text.map("/nowhere/{}".format) | json_values.values,
    },
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents, st.sampled_from(["ADD", "DEL", "CHECK"]), st.sampled_from(["", POD_ARGS]))
@example({"cniVersion": "1.1.0", "name": "n", "prevResult": {}, "annotations": [{}]}, "ADD", "")
@example({"cniVersion": "1.1.0", "name": "n", "prevResult": {}, "stateDir": "/\ud800"}, "DEL", "")
def test_any_document_is_passed_on_or_served_or_refused(
    document: dict[str, Any], verb: str, args: str
) -> None:
    try:
        asked = call(verb, document, CNI_ARGS=args)
    except CniError:
        return
    try:
        answer = passthrough.answer(asked)
    except CniError:
        return
    if verb == "ADD" and answer is not None:
        assert json.loads(answer)["cniVersion"] == asked.version
        told = (
            asked.runtime_config.get(ANNOTATIONS)
            if "runtime" in document.get("annotations", ["runtime"])
            else {}
        )
        # To pass by is to have understood that nothing is wanted.
        assert not PodAnnotations.of(told or {}).attach


def test_nothing_is_left_behind(state_dir: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for verb in ("ADD", "DEL", "CHECK"):
            passthrough.answer(call(verb, annotated({}, stateDir=f"{directory}/state")))
        assert list(Path(directory).iterdir()) == []
