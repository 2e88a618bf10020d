"""`macvlan-egress daemon`: serves the native launcher's calls, warm."""

from __future__ import annotations

import argparse
import os

from ..model.keys import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR

SOCKET = f"{DEFAULT_RUN_DIR}/daemon.sock"
ADMIN_SOCKET = f"{DEFAULT_RUN_DIR}/admin.sock"
_WORKERS_MAX = 64


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--socket",
        type=_absolute,
        default=SOCKET,
        metavar="PATH",
        help="where the launcher calls (default: %(default)s); systemd may hand one over instead",
    )
    parser.add_argument(
        "--workers",
        type=_workers,
        default=min(4, len(os.sched_getaffinity(0))),
        metavar="N",
        help="processes that serve calls (default: one a processor, %(default)s here)",
    )
    parser.add_argument(
        "--queue",
        type=_positive,
        default=1024,
        metavar="N",
        help="calls that may wait for a worker (default: %(default)s)",
    )
    parser.add_argument(
        "--deadline",
        type=_positive,
        default=120,
        metavar="SECONDS",
        help="after which a call is given up and its worker replaced (default: %(default)s)",
    )
    parser.add_argument(
        "--listen", default="", metavar="ADDRESS:PORT", help="serve /metrics and /healthz there by HTTP"
    )
    parser.add_argument(
        "--admin-socket",
        type=_absolute,
        default=ADMIN_SOCKET,
        metavar="PATH",
        help="the same on a Unix socket, for 'macvlan-egress metrics' (default: %(default)s)",
    )
    parser.add_argument("--state-dir", type=_absolute, default=DEFAULT_STATE_DIR, metavar="DIRECTORY",
                        help="whose attachments the metrics count (default: %(default)s)")  # fmt: skip
    parser.add_argument("--run-dir", type=_absolute, default=DEFAULT_RUN_DIR, metavar="DIRECTORY",
                        help="whose policies they count (default: %(default)s)")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    from ..daemon.supervisor import Settings, Supervisor

    settings = Settings(
        socket=arguments.socket,
        workers=arguments.workers,
        queue=arguments.queue,
        deadline=arguments.deadline,
        listen=arguments.listen,
        admin_socket=arguments.admin_socket,
        state_dir=arguments.state_dir,
        run_dir=arguments.run_dir,
    )
    return Supervisor(settings).run()


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute path")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _workers(text: str) -> int:
    if _positive(text) > _WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"at most {_WORKERS_MAX}")
    return int(text)
