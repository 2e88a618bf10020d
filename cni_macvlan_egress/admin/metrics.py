"""`macvlan-egress metrics`: what the daemon counts, or, without one, what the node's files tell."""

from __future__ import annotations

import argparse
import socket

from ..model.keys import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from ..protocol.errors import IO_FAILURE, CniError
from .daemon import ADMIN_SOCKET

_SECONDS = 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--admin-socket", default=ADMIN_SOCKET, metavar="PATH", help="of the daemon (default: %(default)s)"
    )
    parser.add_argument(
        "--state-dir", default=DEFAULT_STATE_DIR, metavar="DIRECTORY", help="if no daemon runs"
    )
    parser.add_argument("--run-dir", default=DEFAULT_RUN_DIR, metavar="DIRECTORY", help="if no daemon runs")


def run(arguments: argparse.Namespace) -> int:
    """Print them in Prometheus' text format."""
    try:
        text = _ask(arguments.admin_socket)
    except (FileNotFoundError, ConnectionRefusedError):
        from ..daemon.metrics import Metrics

        text = Metrics(arguments.state_dir, arguments.run_dir).text()
    except OSError as error:
        raise CniError(
            IO_FAILURE, f"the daemon at {arguments.admin_socket} does not answer: {error.strerror or error}"
        ) from None
    print(text, end="")
    return 0


def _ask(path: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_SECONDS)
        sock.connect(path)
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while part := sock.recv(1 << 16):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split()[1:2] != [b"200"]:
        raise CniError(IO_FAILURE, f"the daemon at {path} answers: {answer[:200].decode(errors='replace')!r}")
    return body.decode()
