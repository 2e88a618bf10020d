"""Whether the native launcher that a node has is this version's."""

from __future__ import annotations

from ..launcher import built, without_settings


def difference(data: bytes, machine: str) -> str:
    """How it differs from the one of this installation; empty if it does not, or there is none to compare with."""
    path = built(machine)
    try:
        with open(path, "rb") as file:
            own = file.read()
    except FileNotFoundError:  # built without a C compiler
        return ""
    return "" if without_settings(data) == without_settings(own) else f"is another one than {path}"
