"""The door: one JSON object on stdout or nothing, a short word on stderr, the rest in the log."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from cni_macvlan_egress import entry
from cni_macvlan_egress.model import keys
from cni_macvlan_egress.protocol.errors import (
    DECODING_FAILURE,
    DEPENDENCY_MISSING,
    DRIFT,
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    TABLE,
    CniError,
)

from . import json_values
from .calls import ANNOTATIONS, POD_ARGS, configuration, variables

PREVIOUS = {"cniVersion": "1.1.0", "ips": []}


class Door:
    """Calls the plugin in this process, through its file descriptors."""

    def __init__(self, capfd: pytest.CaptureFixture[str], directory: Path) -> None:
        self._capfd = capfd
        self._directory = directory
        self.log_file = directory / "log"

    def call(self, verb: str, document: dict[str, Any] | bytes = b"", **changed: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        (self._directory / "stdin").write_bytes(data)
        kept = os.dup(0)
        fd = os.open(self._directory / "stdin", os.O_RDONLY)
        os.dup2(fd, 0)
        try:
            status = entry.serve(variables(verb, **changed))
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(fd)
        output, words = self._capfd.readouterr()
        return status, output, words

    def error(self, verb: str, document: dict[str, Any] | bytes = b"", **changed: str) -> dict[str, Any]:
        """The error that a call has to answer with."""
        status, output, words = self.call(verb, document, **changed)
        assert status == 1
        assert output.count("\n") == 1
        body: dict[str, Any] = json.loads(output)
        assert body["code"] in TABLE
        assert words.count("\n") <= 1
        assert "Traceback" not in words
        return body

    def logged(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.log_file.read_text().splitlines()]
            if self.log_file.exists()
            else []
        )


@pytest.fixture
def door(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door(capfd, tmp_path)
    monkeypatch.setattr(keys, "DEFAULT_LOG_FILE", str(door.log_file))
    return door


# -- answers


def test_version_is_told_without_a_word_on_stdin(door: Door) -> None:
    status, output, words = door.call("VERSION", b"no json", CNI_CONTAINERID="", CNI_PATH="")
    assert (status, words) == (0, "")
    assert json.loads(output)["cniVersion"] == "1.1.0"


def test_unannotated_pod_gets_its_result_and_leaves_no_line(door: Door) -> None:
    document = configuration(prevResult=PREVIOUS, runtimeConfig={ANNOTATIONS: {}})
    assert door.call("ADD", document) == (0, json.dumps(PREVIOUS) + "\n", "")
    assert door.call("DEL", {**document, "stateDir": "/nowhere"}) == (0, "", "")
    assert door.logged() == []


def test_other_calls_go_on_to_the_verbs(door: Door, mocker: MockerFixture) -> None:
    answer = mocker.patch("cni_macvlan_egress.attach.verbs.answer", return_value="the result")
    assert door.call("ADD", configuration()) == (0, "the result\n", "")
    assert answer.call_args.args[0].network == "cluster"


def test_answer_is_written_in_utf8_whatever_the_locale(door: Door, mocker: MockerFixture) -> None:
    mocker.patch("cni_macvlan_egress.attach.verbs.answer", return_value='{"x": "é日"}')
    assert door.call("ADD", configuration())[1] == '{"x": "é日"}\n'


# -- errors


@pytest.mark.parametrize(
    ("verb", "document", "changed", "code", "version"),
    [
        ("ADD", configuration(), {"CNI_NETNS": ""}, INVALID_ENVIRONMENT, "1.1.0"),
        ("NONE", configuration(), {}, INVALID_ENVIRONMENT, "1.1.0"),
        ("ADD", b"{", {}, DECODING_FAILURE, "1.1.0"),
        ("ADD", b"\xff", {}, DECODING_FAILURE, "1.1.0"),
        ("ADD", configuration(cniVersion="0.4.0", name="a/b"), {}, INVALID_CONFIGURATION, "0.4.0"),
        ("ADD", configuration(cniVersion="9.9.9"), {}, INCOMPATIBLE_VERSION, "1.1.0"),
        ("ADD", configuration(cniVersion={"a": 1}), {}, INCOMPATIBLE_VERSION, "1.1.0"),
        ("GC", configuration(cniVersion="1.0.0"), {}, INCOMPATIBLE_VERSION, "1.0.0"),
        ("ADD", configuration(cniVersion="0.3.1", mastr=1), {}, INVALID_CONFIGURATION, "0.3.1"),
        ("ADD", configuration(cniVersion="0.3.1", mtu="x"), {}, INVALID_CONFIGURATION, "0.3.1"),
    ],
    ids=str,
)
def test_error_is_answered_in_the_version_of_the_call(
    door: Door, verb: str, document: Any, changed: dict[str, str], code: int, version: str
) -> None:
    body = door.error(verb, document, **changed)
    assert (body["code"], body["cniVersion"]) == (code, version)
    if not isinstance(document, dict) or changed or verb == "NONE":
        assert door.logged() == []  # nobody has said yet where the log is
    else:
        (line,) = door.logged()
        assert (line["level"], line["code"], line["msg"], line["command"]) == (
            "error",
            code,
            body["msg"],
            verb,
        )


def test_log_names_the_pod(door: Door) -> None:
    door.error("ADD", configuration(mastr=1), CNI_ARGS=POD_ARGS)
    (line,) = door.logged()
    assert (line["pod"], line["containerID"]) == ("shop/cart", "c1")


@pytest.mark.parametrize(("details", "shown"), [("first; second", {"details": "first; second"}), ("", {})])
def test_details_are_shown_if_there_are_any(
    door: Door, mocker: MockerFixture, details: str, shown: dict[str, str]
) -> None:
    mocker.patch(
        "cni_macvlan_egress.attach.verbs.answer", side_effect=CniError(DRIFT, "two differences", details)
    )
    body = door.error("CHECK", configuration())
    assert body == {"cniVersion": "1.1.0", "code": DRIFT, "msg": "two differences", **shown}


def test_fault_of_the_plugin_is_one_error_and_its_traceback_goes_to_the_log(
    door: Door, mocker: MockerFixture
) -> None:
    mocker.patch("cni_macvlan_egress.attach.verbs.answer", side_effect=ZeroDivisionError("of a kind"))
    body = door.error("ADD", configuration())
    assert body["code"] == INTERNAL
    assert "ZeroDivisionError: of a kind" in body["msg"]
    (line,) = door.logged()
    assert "Traceback" in line["traceback"]
    assert "verbs.answer" in line["traceback"]


@pytest.mark.parametrize(
    "error", [RecursionError("deep"), MemoryError(), OSError(5, "I/O"), UnicodeError("x")]
)
def test_no_exception_gets_by_the_door(door: Door, mocker: MockerFixture, error: Exception) -> None:
    mocker.patch("cni_macvlan_egress.attach.verbs.answer", side_effect=error)
    assert door.error("ADD", configuration())["code"] == INTERNAL


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("pydantic", DEPENDENCY_MISSING),
        ("pyroute2.x", DEPENDENCY_MISSING),
        ("cni_macvlan_egress.x", INTERNAL),
    ],
)
def test_missing_package_is_told_from_a_fault(
    door: Door, mocker: MockerFixture, name: str, code: int
) -> None:
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)
    mocker.patch("cni_macvlan_egress.attach.verbs.answer", side_effect=error)
    body = door.error("ADD", configuration())
    assert body["code"] == code
    assert name in body["msg"]
    assert ("pip" in body["msg"]) is (code == DEPENDENCY_MISSING)


@pytest.mark.parametrize("path", ["/nowhere/log", "relative", "/a\0b", "/\ud800", 5, None, "/proc/self/mem"])
def test_log_that_cannot_be_written_is_no_obstacle_to_the_error(door: Door, path: object) -> None:
    assert door.error("ADD", configuration(logFile=path, mastr=1))["code"] == INVALID_CONFIGURATION


documents = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda document: json.dumps(document).encode(), json_values.values),
    st.builds(
        lambda known, more: json.dumps({**more, **known}).encode(),
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.just("cluster") | json_values.values,
                "cniVersion": st.sampled_from(["0.1.0", "1.1.0"]) | json_values.values,
                "prevResult": st.just(PREVIOUS) | json_values.values,
                "runtimeConfig": json_values.values
                | st.builds(lambda n: {ANNOTATIONS: n}, json_values.values),
                "annotations": json_values.values,
            },
        ),
        json_values.objects,
    ),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"]) | json_values.any_text,
    st.dictionaries(
        st.sampled_from(["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"]), json_values.any_text
    ),
    documents,
)
def test_any_call_is_answered_with_one_json_object_or_nothing(
    door: Door, mocker: MockerFixture, verb: str, changed: dict[str, str], document: bytes
) -> None:
    mocker.patch("cni_macvlan_egress.attach.verbs.answer", return_value="")
    status, output, words = door.call(verb, document, **changed)
    assert "Traceback" not in words
    if status == 0 and not output:
        return
    body = json.loads(output)
    assert isinstance(body, dict)
    assert body.get("code") != INTERNAL, body
    assert ("code" in body and "msg" in body) or status == 0
