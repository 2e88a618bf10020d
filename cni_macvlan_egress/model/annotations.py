"""The annotations by which a pod asks for its interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeVar, get_args

from ..protocol.environment import check_interface_name
from ..protocol.errors import INVALID_ANNOTATION, CniError
from . import keys
from .addresses import IPAddress, IPInterface, parse_host_address, parse_host_interface, parse_mac
from .complaints import printable, show
from .configuration import MTU_MAX, MTU_MIN, Mode

if TYPE_CHECKING:
    from .destinations import Destination

MTU_MIN_IPV6 = 1280  # RFC 8200, section 5
DESTINATION = keys.PREFIX + "destination"

Parsed = TypeVar("Parsed", IPAddress, IPInterface)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodAnnotations:
    """What a pod's annotations ask for.

    Attributes:
        attach: whether they ask for an interface at all.
        master: the NIC that assign-macvlan names, None for the default one.
        sources: addresses of the interface, at most one a family.
        gateways: at most one a family.
        destinations: where traffic that is sent to the pod goes, a line each.
    """

    attach: bool = False
    master: str | None = None
    sources: tuple[IPInterface, ...] = ()
    gateways: tuple[IPAddress, ...] = ()
    destinations: tuple[Destination, ...] = ()
    routes: Literal["destinations", "default"] | None = None
    mac: str | None = None
    mtu: int | None = None
    mode: Mode | None = None

    @classmethod
    def of(cls, annotations: Mapping[str, object]) -> Self:
        """Parse and check a pod's annotations; those of others are ignored.

        Raises:
            CniError: INVALID_ANNOTATION naming annotation, value and rule.
        """
        ours = _ours(annotations)
        assign = ours.pop(keys.ASSIGN, "")
        if assign == "false" and ours:
            raise _error(
                keys.ASSIGN, assign, f"it contradicts {', '.join(sorted(ours))}; remove one or the other"
            )
        found = cls(
            attach=bool(ours) or assign not in ("", "false"),
            master=_master(assign),
            sources=_addresses(ours, "source", parse_host_interface),
            gateways=_addresses(ours, "gateway", parse_host_address),
            destinations=_destinations(ours),
            routes=_choice(ours, "routes", ("destinations", "default")),
            mac=_mac(ours),
            mtu=_mtu(ours),
            mode=_choice(ours, "mode", get_args(Mode)),
        )
        found._check_together()
        return found

    def _check_together(self) -> None:
        source, gateway = keys.PREFIX + "source", keys.PREFIX + "gateway"
        for given in self.gateways:
            mine = [one.ip for one in self.sources if one.version == given.version]
            if not mine:
                raise _error(gateway, str(given), f"there is no IPv{given.version} address in {source}")
            if given in mine:
                raise _error(gateway, str(given), f"the gateway cannot be the address in {source}")
            for one in self.sources:
                if reason := _no_host_of(one, given):
                    raise _error(gateway, str(given), reason)
        if self.routes is not None and not self.sources:
            raise _error(keys.PREFIX + "routes", self.routes, f"it needs {source}")
        self._check_destinations()
        if self.routes == "default" and not self.gateways:
            raise _error(keys.PREFIX + "routes", "default", f"it needs {gateway}")
        if self.mtu is not None and self.mtu < MTU_MIN_IPV6 and any(one.version == 6 for one in self.sources):
            raise _error(
                keys.PREFIX + "mtu",
                str(self.mtu),
                f"IPv6 needs at least {MTU_MIN_IPV6} (RFC 8200, section 5)",
            )

    def _check_destinations(self) -> None:
        """Every line needs an address to come from and a gateway to go through, both of its family."""
        served = {one.version for one in self.sources} & {one.version for one in self.gateways}
        own = {one.ip for one in self.sources}
        for line in self.destinations:
            where = f"line {line.line}: {show(str(line))}"
            needed = {one.version for one in line.addresses}
            for what, given in (("source", self.sources), ("gateway", self.gateways)):
                missing = sorted(needed - {one.version for one in given})
                if missing:
                    raise _error(
                        DESTINATION, where, f"it needs an IPv{missing[0]} address in {keys.PREFIX}{what}"
                    )
                if not served and not given:
                    raise _error(DESTINATION, where, f"it needs an address in {keys.PREFIX}{what}")
            if held := own.intersection(line.addresses):
                raise _error(
                    DESTINATION,
                    where,
                    f"{min(held, key=str)} is the pod's own address in {keys.PREFIX}source",
                )


def _destinations(ours: Mapping[str, str]) -> tuple[Destination, ...]:
    text = ours.get(DESTINATION)
    if text is None:
        return ()
    from .destinations import DestinationError, parse

    try:
        return parse(text)
    except DestinationError as error:
        raise CniError(INVALID_ANNOTATION, f"annotation {DESTINATION}: {error}") from None


def _no_host_of(source: IPInterface, address: IPAddress) -> str:
    network = source.network
    if address.version == 4 and network.prefixlen < 31:  # RFC 3021: a /31 has neither
        if address == network.network_address:
            return f"it is the own address of the network {network}"
        if address == network.broadcast_address:
            return f"it is the broadcast address of the network {network}"
    return ""


def _ours(annotations: Mapping[str, object]) -> dict[str, str]:
    ours: dict[str, str] = {}
    for name, value in annotations.items():
        if name != keys.ASSIGN and not name.startswith(keys.PREFIX):
            continue
        if not isinstance(value, str):
            raise _error(name, value, 'a string is expected; put it into quotes, like "true"')
        if name != keys.ASSIGN and name.removeprefix(keys.PREFIX) not in keys.ANNOTATIONS:
            known = keys.nearest(name.removeprefix(keys.PREFIX), keys.ANNOTATIONS)
            raise _error(name, value, f"no such annotation{known}")
        # The lines of destinations keep their numbers.
        ours[name] = value if name == DESTINATION else value.strip()
    return ours


def _master(assign: str) -> str | None:
    if assign in ("", "true", "false"):
        return None
    try:
        check_interface_name(assign, keys.ASSIGN)
    except CniError as error:
        rule = error.msg.rpartition(": ")[2]
        raise _error(
            keys.ASSIGN, assign, f"'true', 'false' or the name of a NIC is expected; {rule}"
        ) from None
    return assign


def _addresses(ours: Mapping[str, str], name: str, parse_one: Callable[[str], Parsed]) -> tuple[Parsed, ...]:
    text = ours.get(keys.PREFIX + name)
    if text is None:
        return ()
    found: list[Parsed] = []
    for part in text.split(","):
        try:
            address = parse_one(part.strip())
        except ValueError as error:
            raise _error(keys.PREFIX + name, text, str(error)) from None
        if any(other.version == address.version for other in found):
            raise _error(
                keys.PREFIX + name, text, f"more than one IPv{address.version} address; one a family"
            )
        found.append(address)
    return tuple(found)


def _choice(ours: Mapping[str, str], name: str, allowed: tuple[str, ...]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    value = ours.get(keys.PREFIX + name)
    if value is not None and value not in allowed:
        raise _error(keys.PREFIX + name, value, f"one of {', '.join(allowed)} is expected")
    return value


def _mac(ours: Mapping[str, str]) -> str | None:
    value = ours.get(keys.PREFIX + "mac")
    if value is None or value in ("kernel", "address"):
        return value
    try:
        return parse_mac(value)
    except ValueError as error:
        raise _error(keys.PREFIX + "mac", value, f"'kernel', 'address' or a MAC address; {error}") from None


def _mtu(ours: Mapping[str, str]) -> int | None:
    value = ours.get(keys.PREFIX + "mtu")
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 6 and MTU_MIN <= int(value) <= MTU_MAX):
        raise _error(keys.PREFIX + "mtu", value, f"a number from {MTU_MIN} to {MTU_MAX} is expected")
    return int(value)


def _error(name: str, value: object, rule: str) -> CniError:
    return CniError(INVALID_ANNOTATION, f"annotation {printable(name)}: {show(value)}: {rule}")
