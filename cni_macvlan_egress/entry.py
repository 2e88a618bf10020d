"""The door: a CNI call if CNI_COMMAND is set, else the admin command line.

Every exec passes here, so nothing is imported before it is needed. Whatever happens, a CNI call ends with one
JSON object on stdout or with nothing, and never with a traceback.
"""

from __future__ import annotations

import posix
import sys

from .protocol import environment, versions, wire
from .protocol.errors import DEPENDENCY_MISSING, INTERNAL, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn


def launch() -> NoReturn:
    """Run and leave at once: tearing the interpreter down costs more than a pass-through."""
    status = script()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:  # None: the caller has closed it
                stream.flush()
        except (OSError, ValueError):
            status = status or 1
    posix._exit(status)


def script() -> int:
    """Run and return the exit status (entry point of the installed console script)."""
    variables = {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }
    if "CNI_COMMAND" in variables:
        return serve(variables)
    from .admin import command_line

    return command_line.main(sys.argv[1:])


def serve(variables: Mapping[str, str]) -> int:
    """Answer one CNI call on stdout; 0 if it succeeded."""
    status, output, words = respond(variables, wire.read_stdin)
    try:
        wire.write_stdout(output)
    except OSError as error:
        # An answer that cannot be heard is a failure, whatever it says.
        status, words = 1, f"macvlan-egress: cannot write the answer to stdout: {error.strerror}\n{words}"
    _whisper(words)
    return status


def respond(variables: Mapping[str, str], read: Callable[[], wire.Document]) -> tuple[int, str, str]:
    """Serve one CNI call, and return exit status, stdout and stderr of its process.

    Args:
        variables: the environment.
        read: gives stdin; not called if the verb has no use for it.
    """
    session = _Session(variables)
    try:
        output = session.answer(read)
    except CniError as error:
        return session.failure(error)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__package__):
            return session.failure(_internal(error))
        return session.failure(
            CniError(
                DEPENDENCY_MISSING,
                f"the Python package {error.name} is missing for {sys.executable}; install cni-macvlan-egress with "
                "pip into a virtual environment and write its launcher with 'macvlan-egress launcher'",
            )
        )
    except Exception as error:
        return session.failure(_internal(error))
    return 0, f"{output}\n" if output else "", ""


class _Session:
    """What an error answer needs to know of the call that failed: its version, and where to log."""

    __slots__ = ("configuration", "variables")

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.configuration: dict[str, object] = {}

    def answer(self, read: Callable[[], wire.Document]) -> str:
        env = environment.read(self.variables)
        if env.command == "VERSION":
            return versions.report()
        document = read()
        self.configuration = document.values

        from .protocol.call import Call

        call = Call(env, document)
        from . import passthrough

        quick = passthrough.answer(call)
        if quick is not None:
            return quick
        import os

        # pydantic would look for plugins in every package that is installed, and run them as root.
        os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
        from .attach import verbs

        return verbs.answer(call)

    def failure(self, error: CniError) -> tuple[int, str, str]:
        from .model.complaints import printable

        version = self.configuration.get("cniVersion")
        body: dict[str, object] = {
            "cniVersion": version if version in versions.SUPPORTED else versions.LATEST,
            "code": error.code,
            "msg": error.msg,
        }
        if error.details:
            body["details"] = error.details
        # A pod may have chosen names in it, and stderr may be a terminal.
        words = f"macvlan-egress: {printable(error.msg)}\n" if error.code != INTERNAL else ""
        if self.configuration:  # else nobody has said yet where the log is
            self._log(error)
        return 1, wire.encode(body) + "\n", words

    def _log(self, error: CniError) -> None:
        from . import log

        args = environment.parse_args(self.variables.get("CNI_ARGS", ""), lenient=True)
        pod = [args[key] for key in ("K8S_POD_NAMESPACE", "K8S_POD_NAME") if key in args]
        log.from_configuration(self.configuration).error(
            error.msg,
            code=error.code,
            details=error.details,
            command=self.variables.get("CNI_COMMAND", ""),
            containerID=self.variables.get("CNI_CONTAINERID", ""),
            pod="/".join(pod),
            traceback=getattr(error, "traceback", ""),
        )


def _whisper(text: str) -> None:
    """A word for the runtime's own log; if nobody wants to hear it, the answer on stdout still counts."""
    try:
        if text and sys.stderr is not None:
            sys.stderr.write(text)
    except (OSError, ValueError):
        pass


def _internal(error: Exception) -> CniError:
    import traceback

    found = CniError(
        INTERNAL,
        f"internal error: {type(error).__name__}: {error}; the log file has the traceback, please report it",
    )
    found.traceback = "".join(traceback.format_exception(error))  # type: ignore[attr-defined]
    return found
