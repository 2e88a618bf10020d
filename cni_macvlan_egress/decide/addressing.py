"""The addresses of an attachment, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass

from ..model.addresses import IPAddress, IPInterface, IPNetwork


@dataclass(frozen=True, slots=True)
class Addressing:
    """The addresses an interface gets, wherever they come from.

    Attributes:
        routes: what an IPAM plugin asks for besides: destination and gateway, None for the addresses' own.
    """

    sources: tuple[IPInterface, ...] = ()
    gateways: tuple[IPAddress, ...] = ()
    routes: tuple[tuple[IPNetwork, IPAddress | None], ...] = ()

    def source(self, family: int) -> IPInterface | None:
        """The address of a family."""
        return next((one for one in self.sources if one.version == family), None)

    def gateway(self, family: int) -> IPAddress | None:
        """The gateway of a family."""
        return next((one for one in self.gateways if one.version == family), None)
