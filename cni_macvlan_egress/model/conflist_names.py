"""Which files of a CNI directory count, in which order, and what ours are called.

libcni's ConfFiles takes whatever ends in one of three extensions, names that begin with a dot included; containerd
(go-cni, loadFromConfDir) and CRI-O (ocicni, loadNetworks) sort them by bytes and take the first.
"""

from __future__ import annotations

LIST_EXTENSION = ".conflist"
# Of these, runtimes read only .conflist as a list of plugins; in the others they want a single one.
EXTENSIONS = (".conf", LIST_EXTENSION, ".json")
# '+' sorts before '.': the list is found before the single configuration that it is made from. Multus (thick) passes
# over whatever begins with "00-multus".
_DERIVED = "+macvlan-egress.conflist"


def counts(name: str) -> bool:
    """Whether runtimes read a file of that name."""
    return name[name.rfind(".") :] in EXTENSIONS if "." in name else False


def is_list(name: str) -> bool:
    """Whether runtimes expect a list of plugins in it."""
    return name.endswith(LIST_EXTENSION)


def order(name: str) -> bytes:
    """The sort key of a file name."""
    return name.encode("utf-8", "surrogateescape")


def derived(name: str) -> str:
    """The list that is made from a lone .conf or .json; it is found first."""
    return name[: name.rfind(".")] + _DERIVED


def sources(name: str) -> tuple[str, ...]:
    """What such a list may have been made from; nothing if the name is not one of ours."""
    if not name.endswith(_DERIVED) or name == _DERIVED:
        return ()
    stem = name.removesuffix(_DERIVED)
    return (f"{stem}.conf", f"{stem}.json")
