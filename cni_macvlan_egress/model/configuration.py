"""The plugin's object in a conflist."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from ..protocol import environment
from ..protocol.errors import INVALID_CONFIGURATION, CniError
from . import keys
from .addresses import Network, parse_mac, parse_network
from .complaints import sentence

Mode = Literal["bridge", "private", "vepa", "passthru"]
MTU_MIN = 68  # RFC 791; RFC 8200 demands 1280 where the interface carries IPv6
MTU_MAX = 65535


def _interface_name(value: str) -> str:
    try:
        environment.check_interface_name(value, "name", INVALID_CONFIGURATION)
    except CniError as error:
        raise ValueError(error.msg.rpartition(": ")[2]) from None
    return value


def _mac_policy(value: str) -> str:
    return value if value in ("kernel", "address") else parse_mac(value)


def _mac_hint(value: object) -> object:
    if isinstance(value, str):
        try:
            return _mac_policy(value)
        except ValueError as error:
            raise ValueError(f"'kernel', 'address' or a MAC address; {error}") from None
    return value


def _absolute(value: str) -> str:
    if not environment.is_absolute(value):
        raise ValueError("an absolute path is expected")
    return value


def _target(value: str) -> str:
    if ":" in value or "/" in value or value.rpartition(".")[2].isdigit():
        parse_network(value)
    elif not re.fullmatch(r"[A-Za-z0-9*.-]+", value):
        raise ValueError("a CIDR, or a DNS name that may hold '*', is expected")
    return value


Target = Annotated[str, AfterValidator(_target)]
InterfaceName = Annotated[str, AfterValidator(_interface_name)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Glob = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, populate_by_name=True
    )


class Grant(_Strict):
    """One entry of `allow`: a pod is served if it fits everything that the entry names."""

    model_config = ConfigDict(defer_build=True)  # built as part of Configuration, and never by itself

    namespaces: tuple[Glob, ...] = Field(min_length=1, strict=False)
    sources: tuple[Network, ...] | None = Field(default=None, strict=False)
    masters: tuple[InterfaceName, ...] | None = Field(default=None, strict=False)
    destinations: tuple[Target, ...] | None = Field(default=None, strict=False)


class Ipam(BaseModel):
    """The IPAM plugin to delegate to; its own keys are its own business."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    type: Annotated[str, Field(strict=True, min_length=1)]

    @field_validator("type")
    @classmethod
    def _is_a_file_name(cls, value: str) -> str:
        if "/" in value or "\0" in value or value in (".", ".."):
            raise ValueError("the name of an executable on CNI_PATH is expected, without '/'")
        return value


class PolicySettings(_Strict):
    """Where egress policies come from, and how they are enforced; an empty object is the directory's default."""

    model_config = ConfigDict(defer_build=True)

    directory: AbsolutePath | None = None
    kubernetes: bool = False
    log: bool = False
    unknown_macs: Literal["drop", "pass"] = "drop"

    @property
    def source_directory(self) -> str | None:
        """The directory to read, None if only the API server is asked."""
        return self.directory or (None if self.kubernetes else keys.DEFAULT_POLICY_DIRECTORY)


class Configuration(_Strict):
    """Every key of the plugin with its default; docs/configuration.md explains each."""

    master: Annotated[str, AfterValidator(_interface_name)] = "auto"
    mode: Mode = "bridge"
    mtu: Annotated[int, Field(ge=MTU_MIN, le=MTU_MAX)] | None = None
    if_name: InterfaceName = keys.DEFAULT_IFNAME
    mac: Annotated[str, BeforeValidator(_mac_hint)] = "kernel"
    ipam: Ipam | None = None
    allow: tuple[Grant, ...] | None = Field(default=None, strict=False)
    conflict_detection: Literal["fast", "strict", "off"] = "fast"
    conflict_timeout_ms: Annotated[int, Field(ge=10, le=10_000)] = 200
    routes: Literal["destinations", "default"] = "destinations"
    cluster_networks: tuple[Network, ...] = Field(default=(), strict=False)
    policy: PolicySettings | None = None
    annotations: tuple[str, ...] = Field(default=("runtime", "kubernetes"), strict=False)
    kubeconfig: AbsolutePath | None = None
    state_dir: AbsolutePath = keys.DEFAULT_STATE_DIR
    run_dir: AbsolutePath = keys.DEFAULT_RUN_DIR
    log_file: AbsolutePath = keys.DEFAULT_LOG_FILE
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _policies_spare_the_cluster(self) -> Self:
        if self.policy is not None and not self.cluster_networks:
            raise ValueError(
                "policy: clusterNetworks must name the networks of pods, services and nodes, which no policy blocks"
            )
        return self

    @field_validator("annotations")
    @classmethod
    def _known_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for source in value:
            if source not in ("runtime", "kubernetes") and not source.startswith("/"):
                raise ValueError(
                    f"{source!r}: a source is 'runtime', 'kubernetes' or an absolute path of a directory"
                )
        return value

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Self:
        """Validate the object that came on stdin.

        Raises:
            CniError: INVALID_CONFIGURATION naming key, value and rule.
        """
        keys.check_known(raw)
        return cls._parse(raw)

    @classmethod
    def for_release(cls, raw: dict[str, Any]) -> Self:
        """The same for DEL and GC, which must work after the configuration went bad: what is wrong is left out."""
        known = {key: value for key, value in raw.items() if key in keys.CONFIGURATION}
        while True:
            try:
                return cls.model_validate(known)
            except ValidationError as error:
                for fault in error.errors(include_url=False):
                    known.pop(str(fault["loc"][0]) if fault["loc"] else "policy", None)

    @classmethod
    def _parse(cls, raw: dict[str, Any]) -> Self:
        try:
            return cls.model_validate({key: value for key, value in raw.items() if key in keys.CONFIGURATION})
        except ValidationError as error:
            raise CniError(
                INVALID_CONFIGURATION, f"{sentence(error)} (docs/configuration.md lists every key)"
            ) from None
