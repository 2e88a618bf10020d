"""What is asked for: configuration, runtimeConfig and annotations merged, the later ones winning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..model.addresses import IPAddress, IPInterface, IPNetwork, parse_host_interface, parse_mac
from ..model.annotations import PodAnnotations
from ..model.complaints import show
from ..model.configuration import Configuration
from ..protocol.errors import INVALID_CONFIGURATION, CniError

if TYPE_CHECKING:
    from ..model.destinations import Destination


@dataclass(frozen=True, slots=True)
class Pod:
    """Who asks, as the runtime names it; empty without Kubernetes."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else ""


@dataclass(frozen=True, slots=True)
class Request:
    """One attachment as it is wished.

    Attributes:
        standalone: the macvlan is the network itself, not an addition to another plugin's.
        interface: its name in the pod.
        main_interface: the main CNI's interface in the pod, empty if standalone.
        annotated: an annotation asks, so that a grant is needed.
        master: a NIC's name, or None to find it.
        master_annotated: the pod itself named the NIC.
        destinations: where traffic that is sent to the pod goes.
        use_ipam: the addresses come from the IPAM plugin.
    """

    standalone: bool
    interface: str
    main_interface: str
    annotated: bool
    master: str | None
    master_annotated: bool
    mode: str
    mtu: int | None
    mtu_annotated: bool
    mac: str
    sources: tuple[IPInterface, ...]
    sources_annotated: bool
    gateways: tuple[IPAddress, ...]
    destinations: tuple[Destination, ...]
    routes: Literal["destinations", "default"]
    cluster_networks: tuple[IPNetwork, ...]
    use_ipam: bool
    conflict_detection: Literal["fast", "strict", "off"]
    conflict_timeout_ms: int

    @property
    def versions(self) -> set[int]:
        """Of IP, that the pod's addresses on the LAN may be of; an IPAM plugin gives any."""
        if self.use_ipam:
            return {4, 6}
        return {one.version for one in self.gateways} | {one.version for one in self.sources}

    @property
    def families(self) -> set[Literal[4, 6]]:
        """The families in which traffic can be sent on: there is an address to come from and a gateway."""
        return {one.version for one in self.sources} & {one.version for one in self.gateways}

    @property
    def bare(self) -> bool:
        """Only the interface is wanted; whoever runs in the pod configures it."""
        return not self.sources and not self.use_ipam


def merge(
    configuration: Configuration,
    runtime_config: Mapping[str, Any],
    annotations: PodAnnotations,
    *,
    ifname: str,
    chained: bool,
    args: Mapping[str, str] | None = None,
) -> Request:
    """Merge the three, in rising order of precedence.

    Args:
        args: CNI_ARGS, of which IP and MAC stand in for what runtimeConfig does not say (podman).

    Raises:
        CniError: INVALID_CONFIGURATION for a bad value in runtimeConfig or CNI_ARGS.
    """
    asked = {} if chained else _asked_by_runtime(runtime_config, args or {})
    sources = annotations.sources
    use_ipam = not sources and configuration.ipam is not None
    if not sources and not use_ipam and not chained:
        sources = _runtime_ips(asked)
    named = annotations.master or (configuration.master if configuration.master != "auto" else None)
    return Request(
        standalone=not chained,
        interface=configuration.if_name if chained else ifname,
        main_interface=ifname if chained else "",
        annotated=annotations.attach,
        master=named,
        master_annotated=annotations.master is not None,
        mode=annotations.mode or configuration.mode,
        mtu=annotations.mtu if annotations.mtu is not None else configuration.mtu,
        mtu_annotated=annotations.mtu is not None,
        mac=annotations.mac or _runtime_mac(asked) or configuration.mac,
        sources=sources,
        sources_annotated=bool(annotations.sources),
        gateways=annotations.gateways,
        destinations=annotations.destinations,
        routes=annotations.routes or configuration.routes,
        cluster_networks=configuration.cluster_networks,
        use_ipam=use_ipam,
        conflict_detection=configuration.conflict_detection,
        conflict_timeout_ms=configuration.conflict_timeout_ms,
    )


def _asked_by_runtime(runtime_config: Mapping[str, Any], args: Mapping[str, str]) -> Mapping[str, Any]:
    """Addresses and MAC address for a standalone interface; in a chain they are meant for the main one."""
    by_args = {"ips": args["IP"].split(",") if args.get("IP") else None, "mac": args.get("MAC")}
    return {key: runtime_config.get(key) or value for key, value in by_args.items()}


def _runtime_ips(asked: Mapping[str, Any]) -> tuple[IPInterface, ...]:
    given = asked.get("ips") or []
    if not isinstance(given, list):
        raise CniError(
            INVALID_CONFIGURATION, f"runtimeConfig.ips: {show(given)}: a list of addresses is expected"
        )
    found = []
    for text in given:
        try:
            found.append(parse_host_interface(str(text)))
        except ValueError as error:
            raise CniError(
                INVALID_CONFIGURATION,
                f"addresses asked for by the runtime (runtimeConfig.ips or IP in CNI_ARGS): {error}",
            ) from None
    return tuple(found)


def _runtime_mac(asked: Mapping[str, Any]) -> str | None:
    given = asked.get("mac")
    if not given:
        return None
    try:
        return parse_mac(str(given))
    except ValueError as error:
        raise CniError(
            INVALID_CONFIGURATION,
            f"MAC address asked for by the runtime (runtimeConfig.mac or MAC in CNI_ARGS): {show(given)}: {error}",
        ) from None
