"""The log file: one JSON object a line, and never in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pytest_mock import MockerFixture

from cni_macvlan_egress import log
from cni_macvlan_egress.log import Log, from_configuration
from cni_macvlan_egress.model import keys

from . import json_values


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_all(file: Log) -> None:
    file.info("i")
    file.warning("w")
    file.error("e")


@pytest.mark.parametrize(
    ("level", "written"), [("debug", "iwe"), ("info", "iwe"), ("warning", "we"), ("error", "e")]
)
def test_lines_of_the_least_level_and_above_are_written(tmp_path: Path, level: str, written: str) -> None:
    write_all(Log(f"{tmp_path}/log", level))
    assert "".join(line["msg"] for line in lines(tmp_path / "log")) == written


def test_line_has_time_level_message_and_what_is_known(tmp_path: Path) -> None:
    Log(f"{tmp_path}/log").error(
        "went\nwrong", code=7, empty="", nothing=None, zero=0, addresses=("a", "b"), other={1}
    )
    (line,) = lines(tmp_path / "log")
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "error",
        "msg": "went\nwrong",
        "code": 7,
        "zero": 0,
        "addresses": ["a", "b"],
        "other": "{1}",
    }


def test_lines_are_added_to_what_is_there(tmp_path: Path) -> None:
    for number in range(3):
        Log(f"{tmp_path}/log").info(str(number))
    assert [line["msg"] for line in lines(tmp_path / "log")] == ["0", "1", "2"]


def unwritable(tmp_path: Path) -> list[str]:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    return [
        f"{tmp_path}/missing/log",
        f"{tmp_path}/directory",
        f"{tmp_path}/link",
        f"{tmp_path}/fifo",
        f"{tmp_path}/{'x' * 300}",
        f"{tmp_path}/a\0b",
        f"{tmp_path}/\ud800",
        "/dev/full",
    ]


def test_log_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    for path in unwritable(tmp_path):
        write_all(from_configuration({"logFile": path}))
    assert not (tmp_path / "victim").exists()


def test_file_descriptor_is_closed_when_the_write_fails(tmp_path: Path, mocker: MockerFixture) -> None:
    before = os.listdir("/proc/self/fd")
    mocker.patch.object(log.os, "write", side_effect=OSError(28, "full"))
    Log(f"{tmp_path}/log").error("e")
    mocker.stopall()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("configuration", "path", "level"),
    [
        ({}, None, "iwe"),
        ({"logLevel": "error"}, None, "e"),
        ({"logFile": "relative"}, None, "iwe"),
        ({"logFile": 5, "logLevel": 5}, None, "iwe"),
        ({"logFile": None, "logLevel": "loud"}, None, "iwe"),
        ({"logFile": "/x", "logLevel": "warning"}, "/x", "we"),
        ({"logLevel": ["error"]}, None, "iwe"),
    ],
    ids=str,
)
def test_log_of_a_configuration_however_broken(
    configuration: dict[str, Any], path: str | None, level: str, tmp_path: Path
) -> None:
    found = from_configuration(configuration)
    assert found.path == (path or keys.DEFAULT_LOG_FILE)
    found.path = f"{tmp_path}/log"
    write_all(found)
    assert "".join(line["msg"] for line in lines(tmp_path / "log")) == level


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values.any_text, json_values.values)
def test_any_text_is_one_line(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    Log(str(path)).error(text, details=text, value=value)
    (line,) = lines(path)
    assert line["msg"] == text
    assert line.get("details", "") == text
