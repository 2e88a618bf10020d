"""The only module that speaks nftables: libnftables in this process, in the calling thread's namespace.

A ruleset goes in and comes out as the text that nft(8) reads and prints, so that an admin, a plan and CHECK see
the same words. In process it costs a third of an `nft -f` (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes
import json
import socket
from functools import cache
from types import TracebackType
from typing import Any, Self

from ..decide.ruleset import TABLE
from ..protocol.errors import DEPENDENCY_MISSING, KERNEL_REFUSED, CniError
from ..turns import waiting

_LIBRARY = "libnftables.so.1"
_NETLINK_NETFILTER = 12
# enum in nftables/libnftables.h
_OUTPUT_STATELESS = 1 << 2
_OUTPUT_JSON = 1 << 4
_DETAILS_MAX = 2000
_MISSING, _EXISTS = "No such file or directory", "File exists"


class MissingLibrary(CniError):
    """libnftables is not installed on this node."""

    def __init__(self) -> None:
        super().__init__(
            DEPENDENCY_MISSING,
            f"{_LIBRARY} is missing, and destinations need it; install it (Debian: libnftables1, Fedora: "
            "nftables-libs)",
        )


class Nftables:
    """A libnftables context; its netlink socket belongs to the namespace of the thread that opens it.

    Raises:
        MissingLibrary: it is not installed.
        CniError: KERNEL_REFUSED if the kernel has no nftables.
    """

    def __init__(self) -> None:
        self._library = _library()
        _try_socket()
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Close the socket; if something has been deleted, the kernel waits for an RCU grace period."""
        with waiting():
            self._library.nft_ctx_free(self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def replace(self, ruleset: str) -> None:
        """Put a table in the place of the one of its name, if there is one, in one transaction.

        Raises:
            CniError: KERNEL_REFUSED, with nothing changed.
        """
        what = "install the redirect rules"
        try:
            # Mostly there is none. Deleting one, even the one just made to be deleted, has the socket's close() wait
            # for an RCU grace period (10 ms): nft_rcv_nl_event() of net/netfilter/nf_tables_api.c.
            self.run(f"create table {TABLE}\n{ruleset}", what)
        except CniError as error:
            if _EXISTS not in error.msg:
                raise
            self.run(f"table {TABLE}\ndelete table {TABLE}\n{ruleset}", what)

    def delete(self) -> None:
        """Remove our table; one that is gone is no error.

        Raises:
            CniError: KERNEL_REFUSED.
        """
        self.run(f"table {TABLE}\ndelete table {TABLE}\n", "remove the redirect rules")

    def listing(self) -> str:
        """Our table as nft prints it, without counters; empty if there is none.

        Raises:
            CniError: KERNEL_REFUSED.
        """
        if TABLE not in self.run("list tables", "list the tables"):
            return ""
        return self.run(f"list table {TABLE}", "list the redirect rules", _OUTPUT_STATELESS)

    def objects(self, table: str = TABLE) -> list[dict[str, Any]]:
        """A table's objects with their counters, as libnftables-json(5) has them; none if there is no table.

        Raises:
            CniError: KERNEL_REFUSED.
        """
        try:
            # Not asked for beforehand: a list of tables costs as much as all that is in them.
            text = self.run(f"list table {table}", f"list table {table}", _OUTPUT_JSON)
        except CniError as error:
            if _MISSING in error.msg:
                return []
            raise
        answer = json.loads(text)
        found: list[dict[str, Any]] = answer["nftables"]
        return found

    def run(self, commands: str, what: str, flags: int = 0) -> str:
        """Run commands as nft -f does, all in one transaction, and return what they print.

        Raises:
            CniError: KERNEL_REFUSED, saying that it cannot do what was meant.
        """
        self._library.nft_ctx_output_set_flags(self._context, flags)
        status = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        # Both buffers are emptied by being read.
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        words = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if status != 0:
            text = words.decode(errors="replace").strip()
            first = text.partition("\n")[0].removeprefix("Error: ") or "no reason given"
            raise CniError(KERNEL_REFUSED, f"cannot {what}: nftables: {first}", text[:_DETAILS_MAX])
        return output.decode(errors="replace")


def _try_socket() -> None:
    """The library ends the whole process if it gets no socket: better to hear of it beforehand."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER).close()
    except OSError as error:
        raise CniError(
            KERNEL_REFUSED,
            f"cannot open a socket to nftables: {error.strerror}; does the kernel have CONFIG_NF_TABLES?",
        ) from None


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise MissingLibrary from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    return library
