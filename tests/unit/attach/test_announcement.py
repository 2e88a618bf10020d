"""The kernel announces addresses; where its macvlan driver will not, frames of our own do."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import pytest

from cni_macvlan_egress.attach import announcing
from cni_macvlan_egress.kernel.netlink import KernelError, Netlink

MAC = "02:00:00:00:00:01"
ADDRESSES = ["192.168.12.99", "fd00:12::99"]


@dataclass
class RefusingNetlink:
    number: int
    frames: list[tuple] = field(default_factory=list)

    def announce(self, name: str, mac: str) -> None:
        raise KernelError(f"announce the addresses of {name}", self.number, mac)


def announce(monkeypatch: pytest.MonkeyPatch, number: int) -> list[tuple]:
    netlink = RefusingNetlink(number)
    monkeypatch.setattr(
        announcing.neighbours, "announce", lambda *arguments: netlink.frames.append(arguments)
    )
    announcing.announce(netlink, "macvlan0", MAC, ADDRESSES)  # type: ignore[arg-type]
    return netlink.frames


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EADDRINUSE])
def test_driver_that_finds_its_own_address_taken_is_helped(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ((name, mac, addresses),) = announce(monkeypatch, number)
    assert (name, mac) == ("macvlan0", MAC)
    assert list(map(str, addresses)) == ADDRESSES


def test_other_refusal_fails_the_add(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="announce the addresses of macvlan0"):
        announce(monkeypatch, errno.EPERM)


def test_stand_in_has_the_call_that_netlink_has() -> None:
    assert callable(Netlink.announce)
