"""What a lab needs of the machine."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from cni_macvlan_egress.kernel.netns import in_new_namespace
from cni_macvlan_egress.kernel.nftables import Nftables
from cni_macvlan_egress.protocol.errors import CniError

from .network import Lab

REPOSITORY = Path(__file__).resolve().parents[2]
DEBIAN_PLUGINS = Path("/usr/lib/cni")


def made_bin_dir(directory: Path) -> str:
    """A directory made a CNI bin directory: the executable as an installation makes it, beside Debian's plugins."""
    from cni_macvlan_egress.admin import launcher

    executable = directory / "macvlan-egress"
    executable.write_text(
        launcher.render(sys.executable, [str(REPOSITORY), sysconfig.get_paths()["purelib"]])
    )
    executable.chmod(0o755)
    for plugin in DEBIAN_PLUGINS.iterdir():
        (directory / plugin.name).symlink_to(plugin)
    return str(directory)


@cache
def has_egress_hook() -> bool:
    """Whether this kernel's nftables can look at what leaves an interface, which egress policies need.

    Raises:
        CniError: it cannot be told; nothing is to be skipped for that.
    """
    chain = '{ type filter hook egress device "lo" priority filter; }'

    def attempt() -> bool:
        with Nftables() as nftables:
            try:
                nftables.run(f"add table netdev try\nadd chain netdev try egress {chain}\n", "make a chain")
            except CniError as error:
                if "Operation not supported" not in error.msg:
                    raise
                return False
        return True

    return in_new_namespace(attempt)


@contextmanager
def made_lab(bin_dir: str, factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A node, a LAN with a router, and a host behind the router; the test is skipped where none can be made.

    Args:
        bin_dir: a CNI bin directory.
        factory: makes the directories for state and logs.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root: the lab is made of network namespaces")
    if not DEBIAN_PLUGINS.is_dir():
        pytest.skip(f"needs the package containernetworking-plugins: {DEBIAN_PLUGINS} is missing")
    lab = Lab(bin_dir, lambda name: str(factory.mktemp(name)))
    try:
        yield lab
    finally:
        lab.close()
