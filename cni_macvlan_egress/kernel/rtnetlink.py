"""pyroute2's IPRoute without the rest of pyroute2.

The package's own __init__ brings in its database, connection tracking, ethtool and more, a third of what importing it
costs. Here the package is entered without it, so that only the modules that rtnetlink needs are loaded; whoever asks
the package for anything else makes it complete itself, and finds what is always there.
"""

from __future__ import annotations

import importlib.util
import sys
import types

_PACKAGE = "pyroute2"
_OFFERED = (
    "__all__",
    "__version__",
)  # of the names that the import system looks for in passing, by the package


class _Incomplete(types.ModuleType):
    """A package whose __init__ runs when something is asked for that is no module of its own."""

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if (name.startswith("__") and name not in _OFFERED) or spec is None or spec.loader is None:
            raise AttributeError(name)
        if importlib.util.find_spec(f"{_PACKAGE}.{name}") is not None:
            raise AttributeError(name)  # the import system loads the module by itself
        self.__class__ = types.ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def _enter_package() -> None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named {_PACKAGE!r}", name=_PACKAGE)
    package = _Incomplete(_PACKAGE)
    package.__spec__ = spec
    package.__loader__ = spec.loader
    package.__file__ = spec.origin
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = package


if _PACKAGE not in sys.modules:
    _enter_package()

from pyroute2.iproute.linux import IPRoute  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402

__all__ = ["IPRoute", "NetlinkError"]
