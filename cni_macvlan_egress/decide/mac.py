"""The MAC address of the interface."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..model.addresses import IPInterface
from ..protocol.errors import INVALID_CONFIGURATION, CniError

# Locally administered (bit 1 of the first byte) and unlike the 0a:58 that overlay CNIs derive theirs from.
ADDRESS_PREFIX = b"\x06\x6d"


def choose(
    policy: str,
    sources: Sequence[IPInterface],
    random_bytes: Callable[[int], bytes],
    taken: Collection[str],
) -> str:
    """The address that a policy leads to.

    Args:
        policy: `kernel` (random, locally administered), `address` (derived from the first source address, so that
            it moves with it), or a literal.
        taken: the node's own MAC addresses.

    Raises:
        CniError: INVALID_CONFIGURATION.
    """
    if policy == "address":
        if not sources:
            raise CniError(
                INVALID_CONFIGURATION, "mac 'address' needs a source address to derive the MAC address from"
            )
        return from_address(sources[0])
    if policy != "kernel":
        if policy in taken:
            raise CniError(
                INVALID_CONFIGURATION, f"mac {policy} belongs to an interface of the node; choose another"
            )
        return policy
    # As the kernel's eth_random_addr(): unicast, locally administered. Drawn here, so that the state file knows it
    # before the interface exists.
    octets = bytearray(random_bytes(6))
    octets[0] = (octets[0] & 0xFE) | 0x02
    return octets.hex(":")


def from_address(source: IPInterface) -> str:
    """A MAC address that is the same wherever the IP address goes."""
    last = source.ip.packed
    if source.version == 6:
        import hashlib

        last = hashlib.sha256(last).digest()[:4]
    return (ADDRESS_PREFIX + last).hex(":")
