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
    from .manifests import CONF_DIRECTORY  # which imports the launcher, and that one this module

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
    care = parser.add_argument_group("in the background")
    care.add_argument(
        "--announce-every",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="announce each attachment's addresses again; besides 1, 3 and 10 s after it was made and after its NIC "
        "came back (default: %(default)g; 0: never)",
    )
    care.add_argument(
        "--drift",
        choices=("report", "repair", "off"),
        default="report",
        help="what to do about attachments that differ from what ADD made (default: %(default)s)",
    )
    care.add_argument(
        "--drift-every",
        type=_positive,
        default=300,
        metavar="SECONDS",
        help="within which each attachment is looked at once (default: %(default)s)",
    )
    care.add_argument(
        "--policies",
        default="auto",
        metavar="auto|off|FILE",
        help="keep egress policies in force as 'policy sync --follow' does, by the plugin's entry in this CNI "
        f"configuration (default: the first one in {CONF_DIRECTORY}, if it has policies)",
    )
    care.add_argument(
        "--install-watch",
        nargs="?",
        const=CONF_DIRECTORY,
        type=_absolute,
        metavar="DIRECTORY",
        help="put the entry that 'install' has put into this CNI directory back when the main CNI writes its file "
        "anew (default: %(const)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    from ..daemon.caretaker import CaretakerSettings
    from ..daemon.supervisor import Settings, Supervisor
    from .conflist_task import ConflistTask
    from .node_configuration import NodeConfiguration

    settings = Settings(
        socket=arguments.socket,
        workers=arguments.workers,
        queue=arguments.queue,
        deadline=arguments.deadline,
        listen=arguments.listen,
        admin_socket=arguments.admin_socket,
        state_dir=arguments.state_dir,
        run_dir=arguments.run_dir,
        care=CaretakerSettings(
            state_dir=arguments.state_dir,
            run_dir=arguments.run_dir,
            announce_every=arguments.announce_every,
            drift=arguments.drift,
            drift_every=arguments.drift_every,
            policies=None if arguments.policies == "off" else NodeConfiguration(arguments.policies),
            conflist=(
                ConflistTask(arguments.install_watch, arguments.state_dir)
                if arguments.install_watch
                else None
            ),
        ),
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


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds


def _workers(text: str) -> int:
    if _positive(text) > _WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"at most {_WORKERS_MAX}")
    return int(text)
