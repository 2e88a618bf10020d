"""From a verb to the function that does it."""

from __future__ import annotations

from ..model.configuration import Configuration
from ..protocol.call import Call
from .attachments import Attachments


def answer(call: Call) -> str:
    """Serve a call that is more than a pass-through; returns what goes to stdout.

    Raises:
        CniError: on its way to the runtime.
    """
    command = call.environment.command
    lenient = command in ("DEL", "GC")
    configuration = (
        Configuration.for_release(call.configuration) if lenient else Configuration.of(call.configuration)
    )
    attachments = Attachments(configuration, dict(call.environment.variables), call.environment.path)
    if command == "ADD":
        from .add import add

        return add(call, configuration, attachments)
    if command == "DEL":
        from .delete import delete

        return delete(call, configuration, attachments)
    if command == "CHECK":
        from .check import check

        return check(call, configuration, attachments)
    if command == "GC":
        from .collect import collect

        return collect(call, configuration, attachments)
    from .status import status

    return status(call, configuration, attachments)
