"""The entry to install: from the command line's options, from a file, or from what is there already."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model.complaints import show
from ..model.configuration import Configuration
from ..model.conflist_text import TYPE
from ..model.keys import POD_ANNOTATIONS_CAPABILITY
from ..protocol.errors import DECODING_FAILURE, INVALID_CONFIGURATION, IO_FAILURE, CniError

_QUESTION = (
    "Pods of which namespaces may use the plugin by annotation?\n"
    "(names or globs, separated by spaces; * for all of them)\n> "
)
_MISSING = (
    "no namespace may use the plugin by annotation, and there is no terminal to ask on: name some with --namespaces "
    "GLOB... ('*' for all), or give the whole entry with --config FILE"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options that make an entry."""
    entry = parser.add_argument_group("the plugin's entry; keys that no option names stay as they are")
    entry.add_argument(
        "--namespaces",
        nargs="+",
        metavar="GLOB",
        help="namespaces whose pods may use the plugin by annotation ('allow')",
    )
    entry.add_argument("--master", metavar="NIC", help="the NIC to attach to (default: found for each pod)")
    entry.add_argument(
        "--cluster-networks", nargs="+", metavar="CIDR", help="the networks of pods, services and nodes"
    )
    entry.add_argument(
        "--policy",
        nargs="*",
        metavar="SOURCE",
        help="enforce egress policies, from a directory (absolute path), from 'kubernetes', or both; alone: from the "
        "usual directory",
    )
    entry.add_argument("--config", metavar="FILE", help="a JSON file that is the whole entry")
    entry.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="KEY=JSON",
        help="any other key, such as --set 'mode=\"private\"'; null removes it",
    )


@dataclass(frozen=True, slots=True)
class EntryOptions:
    """What is asked for.

    Attributes:
        whole: the entry that replaces whatever is there; None: only keys are changed.
        keys: those to change; None removes one.
    """

    whole: dict[str, Any] | None
    keys: dict[str, Any]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> EntryOptions:
        """The options as they were given.

        Raises:
            CniError: IO_FAILURE, DECODING_FAILURE: --config cannot be read.
        """
        keys: dict[str, Any] = {}
        if arguments.namespaces is not None:
            keys["allow"] = [{"namespaces": _words(arguments.namespaces)}]
        if arguments.master is not None:
            keys["master"] = arguments.master
        if arguments.cluster_networks is not None:
            keys["clusterNetworks"] = _words(arguments.cluster_networks)
        if arguments.policy is not None:
            keys["policy"] = _policy(arguments.policy)
        keys.update(arguments.set)
        return cls(_from_file(arguments.config) if arguments.config else None, keys)

    def completed(self, present: dict[str, Any] | None) -> EntryOptions:
        """The same with the namespaces, asked for on the terminal if they are needed and not said.

        Args:
            present: the entry that is there, or was.

        Raises:
            CniError: INVALID_CONFIGURATION if there is nobody to ask.
        """
        base = self.whole if self.whole is not None else present
        # An entry may be for egress policies alone; a file that says so is taken at its word.
        if base is not None or "allow" in self.keys or "policy" in self.keys:
            return self
        return EntryOptions(None, {"allow": [{"namespaces": _ask()}], **self.keys})

    def entry(self, present: dict[str, Any] | None) -> dict[str, Any]:
        """The entry, valid.

        Args:
            present: the entry that is there, or was.

        Raises:
            CniError: INVALID_CONFIGURATION naming key, value and rule.
        """
        base = self.whole if self.whole is not None else present or {}
        if base.get("type", TYPE) != TYPE:
            raise CniError(INVALID_CONFIGURATION, f"type: {show(base['type'])}: the entry's type is {TYPE!r}")
        entry: dict[str, Any] = {"type": TYPE, "capabilities": {POD_ANNOTATIONS_CAPABILITY: True}}
        entry.update(base)
        for key, value in self.keys.items():
            if value is None:
                entry.pop(key, None)
            else:
                entry[key] = value
        entry["type"] = TYPE
        entry["capabilities"] = _capabilities(entry.get("capabilities", {}))
        Configuration.of(entry)
        return entry


def _capabilities(value: object) -> dict[str, bool]:
    """Those that are there, and the one without which runtimes pass no annotations."""
    if not isinstance(value, dict) or not all(isinstance(one, bool) for one in value.values()):
        raise CniError(
            INVALID_CONFIGURATION, f"capabilities: {show(value)}: an object of true and false is expected"
        )
    return {**value, POD_ANNOTATIONS_CAPABILITY: True}


def _policy(sources: Sequence[str]) -> dict[str, Any]:
    """`policy` as the configuration has it."""
    policy: dict[str, Any] = {}
    for source in sources:
        if source == "kubernetes":
            policy["kubernetes"] = True
        elif "directory" in policy:
            raise CniError(INVALID_CONFIGURATION, f"--policy: {show(source)}: only one directory is possible")
        else:
            policy["directory"] = source
    return policy


def _from_file(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CniError(DECODING_FAILURE, f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CniError(DECODING_FAILURE, f"{path}: one JSON object is expected: the plugin's entry")
    return value


def _ask() -> list[str]:
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise CniError(INVALID_CONFIGURATION, _MISSING)
    sys.stderr.write(_QUESTION)
    sys.stderr.flush()
    namespaces = _words([sys.stdin.readline()])
    if not namespaces:
        raise CniError(
            INVALID_CONFIGURATION, "no namespace was named: without one, no pod may use the plugin"
        )
    return namespaces


def _words(texts: Sequence[str]) -> list[str]:
    """Words that may be separated by commas and white space too."""
    return [word for text in texts for word in re.split(r"[,\s]+", text) if word]


def _assignment(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=JSON")
    try:
        return key, json.loads(value)
    except (ValueError, RecursionError):
        hint = f"; a string needs quotes: {key}={json.dumps(value)}" if value.isidentifier() else ""
        raise argparse.ArgumentTypeError(f"{value!r} is not JSON{hint}") from None
