"""Versions of the CNI specification: which are spoken, and which verb needs which."""

from __future__ import annotations

from .errors import INCOMPATIBLE_VERSION, CniError

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = SUPPORTED[-1]
# A configuration that names no version is of the first one (pkg/version/conf.go).
UNNAMED = SUPPORTED[0]
_FIRST_WITH = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def report() -> str:
    """The answer to VERSION."""
    versions = ",".join(f'"{version}"' for version in SUPPORTED)
    return f'{{"cniVersion":"{LATEST}","supportedVersions":[{versions}]}}'


def at_least(version: str, other: str) -> bool:
    """Whether a supported version is the other one or newer."""
    return SUPPORTED.index(version) >= SUPPORTED.index(other)


def check(version: object, verb: str) -> str:
    """The version of a configuration, checked against the verb.

    Raises:
        CniError: INCOMPATIBLE_VERSION.
    """
    asked = version if version not in (None, "") else UNNAMED
    if not isinstance(asked, str) or asked not in SUPPORTED:
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"cniVersion {asked!r} is not supported; use one of {', '.join(SUPPORTED)}",
        )
    needed = _FIRST_WITH.get(verb, UNNAMED)
    if not at_least(asked, needed):
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"config version {asked!r} does not allow {verb}; set cniVersion to {needed} or newer",
        )
    return asked
