"""The node that is examined: where its things are, and what several checks want to know of it, read once."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import cached_property

from ...attach.records import Records
from ...attach.survey import Found, survey
from ...decide.facts import HostFacts
from ...kernel.netlink import Netlink
from ...model.keys import DEFAULT_LOG_FILE, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from ...protocol.errors import CniError
from ...sources.conflists import DIRECTORY
from .conflist_files import ConflistFile, Entry, read_directory
from .runtime_facts import Runtime, find

BIN_DIRECTORY = "/opt/cni/bin"


@dataclass(frozen=True)
class Places:
    """Where the admin says that things are; empty for what is to be found out.

    Attributes:
        root: where the node's file system is mounted.
    """

    root: str = "/"
    cni_dir: str = ""
    bin_dir: str = ""
    state_dir: str = ""
    run_dir: str = ""
    log_file: str = ""


class Node:
    """What checks look at.

    Every property reads at its first use. What it raises then is the finding of the check that asked.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.is_root = os.geteuid() == 0

    def below_root(self, path: str) -> str:
        """Where a path of the node is seen from here."""
        return path if self.places.root == "/" else self.places.root + path

    # -- the runtime and its configuration -------------------------------------------------------------------

    @cached_property
    def runtimes(self) -> list[Runtime]:
        """The container runtimes, the one that is running first."""
        return find(self.places.root)

    @property
    def runtime(self) -> Runtime | None:
        """The one that pods are made by."""
        return next(iter(self.runtimes), None)

    @cached_property
    def runtime_directories(self) -> tuple[str, str]:
        """Where the runtime looks for conflists and for plugins."""
        runtime = self.runtime
        conf, plugins = (runtime.conf_dir, runtime.bin_dir) if runtime else ("", "")
        return self.below_root(conf or DIRECTORY), self.below_root(plugins or BIN_DIRECTORY)

    @property
    def cni_dir(self) -> str:
        """Of the conflists."""
        return (self.places.cni_dir or self.runtime_directories[0]).rstrip("/") or "/"

    @property
    def bin_dir(self) -> str:
        """Of the plugins."""
        return (self.places.bin_dir or self.runtime_directories[1]).rstrip("/") or "/"

    @cached_property
    def files(self) -> list[ConflistFile]:
        """The conflists in the runtime's order; none if the directory cannot be read."""
        try:
            return read_directory(self.cni_dir)
        except CniError:  # a check of its own reports it
            return []

    def require_readable_files(self) -> None:
        """Leave what is not for everybody to root.

        Raises:
            PermissionError: some of the conflists cannot be read.
        """
        closed = [one.path for one in self.files if not os.access(one.path, os.R_OK)]
        if closed and not self.is_root:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), closed[0])

    @property
    def used(self) -> ConflistFile | None:
        """The file that the runtime takes."""
        named = self.runtime.default_network if self.runtime else ""
        by_name = [one for one in self.files if named and one.document.get("name") == named]
        return next(iter([*by_name, *self._eligible]), None)

    @property
    def _eligible(self) -> list[ConflistFile]:
        """CRI-O passes over what it cannot read; containerd stops there."""
        skips = self.runtime is not None and self.runtime.skips_invalid_files
        return [one for one in self.files if not (skips and one.problem)]

    @cached_property
    def entries(self) -> list[Entry]:
        """Our entries: those that the runtime takes, or else those of the first file that has any."""
        files = [self.used, *self.files] if self.used else self.files
        return next((found for one in files if (found := list(one.entries()))), [])

    @property
    def entry(self) -> Entry | None:
        """The one that the checks of all but the configuration go by."""
        return next(iter(self.entries), None)

    # -- the plugin's own places -----------------------------------------------------------------------------

    @property
    def state_dir(self) -> str:
        """Of the records."""
        return self.places.state_dir or self._path("stateDir", DEFAULT_STATE_DIR)

    @property
    def run_dir(self) -> str:
        """Of this boot's files."""
        return self.places.run_dir or self._path("runDir", DEFAULT_RUN_DIR)

    @property
    def log_file(self) -> str:
        """The log."""
        return self.places.log_file or self._path("logFile", DEFAULT_LOG_FILE)

    def _path(self, key: str, default: str) -> str:
        return self.below_root(self.entry.path(key, default) if self.entry else default)

    # -- the kernel's and the pods' --------------------------------------------------------------------------

    @cached_property
    def facts(self) -> HostFacts:
        """Links, addresses and routes."""
        with Netlink() as netlink:
            return netlink.facts()

    @cached_property
    def attachments(self) -> tuple[list[Found], list[str]]:
        """Every attachment as it is, and the state files that nobody understands."""
        return survey(Records(self.state_dir))
