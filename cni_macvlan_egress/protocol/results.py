"""CNI results of every version, and the way between them.

Works on plain dictionaries and takes away only what an older version has no word for, so that fields which
nobody here knows survive. The common form is that of 1.1.0.
"""

from __future__ import annotations

from .errors import DECODING_FAILURE, CniError
from .versions import LATEST, SUPPORTED, at_least

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Result = dict[str, Any]

_NEW_IN_1_1 = {
    "interfaces": ("mtu", "socketPath", "pciID"),
    "routes": ("mtu", "advmss", "priority", "table", "scope"),
}


def version_of(result: Result, default: str) -> str:
    """The version that a result says it is of.

    Raises:
        CniError: DECODING_FAILURE.
    """
    version = result.get("cniVersion") or default
    if version not in SUPPORTED:
        raise CniError(DECODING_FAILURE, f"prevResult has an unknown cniVersion {version!r}")
    return str(version)


def convert(result: Result, source: str, target: str) -> Result:
    """Rewrite a result from one version to another."""
    if source == target:
        return {**result, "cniVersion": target}
    return from_common(to_common(result, source), target)


def to_common(result: Result, version: str) -> Result:
    """Lift a result of any version to the form of 1.1.0.

    Raises:
        CniError: DECODING_FAILURE if a list or object is something else.
    """
    _check_shape(result)
    if at_least(version, "1.0.0"):
        return {**result, "cniVersion": LATEST}
    if at_least(version, "0.3.0"):
        ips = [
            {key: value for key, value in ip.items() if key != "version"} for ip in result.get("ips") or []
        ]
        return {**result, "cniVersion": LATEST, "ips": ips}
    common = {key: value for key, value in result.items() if key not in ("ip4", "ip6")}
    common["cniVersion"] = LATEST
    common["ips"] = []
    common["routes"] = []
    for key in ("ip4", "ip6"):
        if not (old := result.get(key)):
            continue
        # 'address' is a later version's word: here it would be a stranger's, in the place of 'ip'.
        kept = _without(old, _no_word_for(old, "ip", "address", "routes"))
        common["ips"].append({"address": old["ip"], **kept})
        common["routes"].extend(old.get("routes") or [])
    return common


def from_common(result: Result, version: str) -> Result:
    """Lower a result of the common form to a version."""
    lowered = {**result, "cniVersion": version}
    if not at_least(version, "1.1.0"):
        for key, names in _NEW_IN_1_1.items():
            if key in lowered:
                lowered[key] = [_without(item, names) for item in lowered[key] or []]
    if at_least(version, "1.0.0"):
        return lowered
    if at_least(version, "0.3.0"):
        if "ips" in lowered:
            lowered["ips"] = [{"version": family(ip["address"]), **ip} for ip in lowered["ips"] or []]
        return lowered
    return _to_first_form(lowered)


def append(result: Result, interface: Result, ips: list[Result]) -> Result:
    """Add an interface and its addresses to a result of the common form; what was there keeps its indexes."""
    interfaces = [*(result.get("interfaces") or []), interface]
    added = [{**ip, "interface": len(interfaces) - 1} for ip in ips]
    return {**result, "interfaces": interfaces, "ips": [*(result.get("ips") or []), *added]}


def family(address: str) -> str:
    """ "4" or "6", as results before 1.0.0 want it."""
    return "6" if ":" in address else "4"


def _to_first_form(result: Result) -> Result:
    old = {key: value for key, value in result.items() if key not in ("interfaces", "ips", "routes")}
    for ip in result.get("ips") or []:
        key = "ip" + family(ip["address"])
        if key in old:
            continue  # 0.2.0 has room for one address a family
        old[key] = {"ip": ip["address"], **_without(ip, _no_word_for(ip, "address", "interface"))}
        routes = [route for route in result.get("routes") or [] if family(route["dst"]) == key[2]]
        if routes:
            old[key]["routes"] = routes
    return old


def _without(item: Result, names: tuple[str, ...]) -> Result:
    return {key: value for key, value in item.items() if key not in names}


def _no_word_for(item: Result, *names: str) -> tuple[str, ...]:
    """The names, and with them a gateway that is there without a word."""
    return names if item.get("gateway") else (*names, "gateway")


def _check_shape(result: Result) -> None:
    for key, needed in (("interfaces", "name"), ("ips", "address"), ("routes", "dst")):
        _check_list(result.get(key), key, needed)
    for key in ("ip4", "ip6"):
        old = result.get(key)
        if old is None:
            continue
        if not isinstance(old, dict) or not isinstance(old.get("ip"), str):
            raise CniError(DECODING_FAILURE, f"prevResult: {key} is not an object that has 'ip'")
        _check_list(old.get("routes"), f"{key}.routes", "dst")


def _check_list(items: object, key: str, needed: str) -> None:
    if items is not None and (
        not isinstance(items, list)
        or not all(isinstance(item, dict) and isinstance(item.get(needed), str) for item in items)
    ):
        raise CniError(
            DECODING_FAILURE, f"prevResult: {key} is not a list of objects that each have {needed!r}"
        )
