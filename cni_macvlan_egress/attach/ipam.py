"""Delegation to an IPAM plugin, as the specification prescribes it: same environment, same stdin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..decide.addressing import Addressing
from ..model.addresses import parse_host_address, parse_host_interface, parse_network
from ..model.complaints import printable
from ..protocol import results, wire
from ..protocol.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_ENVIRONMENT,
    IPAM_FAILED,
    TRY_AGAIN_LATER,
    UNKNOWN_CONTAINER,
    CniError,
)
from ..turns import waiting

# In a chain the main CNI may use the same IPAM plugin for the same container and interface name. Under a network
# name of their own our leases are neither released nor collected together with those.
_CHAIN_SUFFIX = ".macvlan-egress"
_SHOWN_CHARACTERS = 500
_FORWARDED = ("cniVersion", "name", "type", "ipam", "args", "dns", "runtimeConfig")


class IpamError(CniError):
    """The plugin answered with an error.

    Attributes:
        answered: its code; None if it did not name one.
    """

    def __init__(self, answered: object, msg: str, details: str) -> None:
        super().__init__(TRY_AGAIN_LATER if answered == TRY_AGAIN_LATER else IPAM_FAILED, msg, details)
        self.answered = answered


class Delegate:
    """An IPAM plugin to call for one attachment or network.

    Args:
        configuration: the plugin's object as it came on stdin, with its `ipam`.
        variables: the CNI_… environment of this call.
        search: the directories of CNI_PATH.

    Raises:
        CniError: IPAM_FAILED if the object names no plugin.
    """

    def __init__(
        self, configuration: Mapping[str, Any], variables: Mapping[str, str], search: list[str]
    ) -> None:
        self.configuration = dict(configuration)
        self._variables = variables
        self._search = search
        ipam = self.configuration.get("ipam")
        kind = ipam.get("type") if isinstance(ipam, dict) else None
        if not isinstance(kind, str):  # a state file that somebody has changed
            raise CniError(
                IPAM_FAILED, "the state file does not say which IPAM plugin has leased the address"
            )
        self._type = kind

    def require(self) -> None:
        """Look for the executable.

        Raises:
            CniError: IPAM_FAILED if there is none.
        """
        self._executable()

    def add(self, version: str) -> tuple[Addressing, dict[str, Any]]:
        """Get addresses; also returns the plugin's result in the common form.

        Raises:
            CniError: IPAM_FAILED or TRY_AGAIN_LATER.
        """
        answer = self._call("ADD")
        try:
            result = results.to_common(answer, results.version_of(answer, version))
        except CniError as error:
            what = _legible(error.msg.removeprefix("prevResult: ").replace("prevResult", "it"))
            raise CniError(
                IPAM_FAILED, f"IPAM plugin {self._type!r} gave an unusable result: {what}"
            ) from None
        try:
            sources = tuple(parse_host_interface(ip["address"]) for ip in result.get("ips") or [])
            gateways = tuple(
                parse_host_address(str(ip["gateway"])) for ip in result.get("ips") or [] if ip.get("gateway")
            )
            routes = tuple(
                (
                    parse_network(route["dst"]),
                    parse_host_address(str(route["gw"])) if route.get("gw") else None,
                )
                for route in result.get("routes") or []
            )
        except ValueError as error:
            raise CniError(
                IPAM_FAILED, f"IPAM plugin {self._type!r} gave an unusable address: {_legible(str(error))}"
            ) from None
        if not sources:
            raise CniError(IPAM_FAILED, f"IPAM plugin {self._type!r} gave no address")
        return Addressing(sources, gateways, routes), result

    def delete(self) -> None:
        """Give the addresses back; a plugin that does not speak the configuration's version has never given any."""
        try:
            self._call("DEL")
        except IpamError as error:
            if error.answered != INCOMPATIBLE_VERSION:
                raise

    def check(self) -> None:
        """Let the plugin check its lease."""
        self._call("CHECK")

    def collect(self, valid: object) -> None:
        """Let the plugin drop the leases of attachments that are gone."""
        self.configuration["cni.dev/valid-attachments"] = valid
        self._call_if_known("GC")

    def status(self) -> None:
        """Ask whether it could serve; plugins older than the verb can if they speak the version.

        Raises:
            CniError: IPAM_FAILED or TRY_AGAIN_LATER.
        """
        version = self.configuration.get("cniVersion")
        spoken = self._call("VERSION").get("supportedVersions")
        if isinstance(spoken, list) and version not in spoken:
            others = _legible(", ".join(map(str, spoken)))
            raise CniError(
                IPAM_FAILED,
                f"IPAM plugin {self._type!r} does not speak CNI {version}, only {others}; set 'cniVersion' to one that "
                "both know",
            )
        self._call_if_known("STATUS")

    def _call_if_known(self, verb: str) -> None:
        """Call a verb that plugins older than it answer with an error about their environment."""
        try:
            self._call(verb)
        except IpamError as error:
            if error.answered not in (INVALID_ENVIRONMENT, UNKNOWN_CONTAINER):
                raise

    def _call(self, verb: str) -> dict[str, Any]:
        import subprocess

        environment = {**self._variables, "CNI_COMMAND": verb}
        try:
            with waiting():
                done = subprocess.run(
                    [self._executable()],
                    input=wire.encode(self.configuration).encode(),
                    env=environment,
                    capture_output=True,
                    check=False,
                )
        except OSError as error:
            raise CniError(
                IPAM_FAILED, f"IPAM plugin {self._type!r} cannot be executed: {error.strerror}"
            ) from None
        answer = self._decode(done.stdout)
        if done.returncode != 0:
            code = answer.get("code")
            words = f"code {code}: {answer.get('msg', '')} {answer.get('details') or ''}"
            if not answer:
                words = f"exit status {done.returncode}: {done.stderr.decode(errors='replace')}"
            reason = _legible(str(answer.get("msg") or words))
            raise IpamError(code, f"IPAM plugin {self._type!r} failed on {verb}: {reason}", _legible(words))
        return answer

    def _decode(self, output: bytes) -> dict[str, Any]:
        if not output.strip():
            return {}
        try:
            return wire.decode(output.decode()).values
        except (UnicodeDecodeError, CniError):
            raise CniError(
                IPAM_FAILED, f"IPAM plugin {self._type!r} did not answer with JSON", repr(output[:200])
            ) from None

    def _executable(self) -> str:
        for directory in self._search:
            path = os.path.join(directory, self._type)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        raise CniError(
            IPAM_FAILED,
            f"IPAM plugin {self._type!r} is not in CNI_PATH ({':'.join(self._search)}); install it there or correct "
            "'ipam.type'",
        )


def _legible(text: str) -> str:
    """What a plugin has said, as a line of an error."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"


def delegated_configuration(configuration: Mapping[str, Any], *, chained: bool) -> dict[str, Any]:
    """What an IPAM plugin gets on stdin, and what the state file keeps for its DEL."""
    forwarded = {key: configuration[key] for key in _FORWARDED if key in configuration}
    runtime_config = forwarded.get("runtimeConfig")
    if isinstance(runtime_config, dict):
        forwarded["runtimeConfig"] = {key: value for key, value in runtime_config.items() if key == "ips"}
    if chained:
        forwarded["name"] = f"{configuration['name']}{_CHAIN_SUFFIX}"
    return forwarded
