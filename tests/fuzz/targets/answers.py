"""What holds of every answer to a CNI call, whatever was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from cni_macvlan_egress import entry
from cni_macvlan_egress.protocol import errors, versions
from cni_macvlan_egress.protocol.environment import REQUIRED
from cni_macvlan_egress.protocol.wire import decode_bytes

# These say that something is wrong with what came in: nothing may have been begun.
REFUSALS = frozenset(
    (
        errors.INCOMPATIBLE_VERSION, errors.UNSUPPORTED_FIELD, errors.INVALID_ENVIRONMENT, errors.DECODING_FAILURE,
        errors.INVALID_CONFIGURATION, errors.INVALID_NETNS, errors.INVALID_ANNOTATION,
    )
)  # fmt: skip
# Every call of which it is known that it would change something; a line in the log file is none.
_LOGGING = "log "


def ask(variables: Mapping[str, str], stdin: bytes, seen: Callable[[], list[str]]) -> tuple[int, str, str]:
    """Have a call answered in this process, and judge the answer."""
    answer = entry.respond(variables, lambda: decode_bytes(stdin))
    check(variables, stdin, answer, seen())
    return answer


def check(variables: Mapping[str, str], stdin: bytes, answer: tuple[int, str, str], seen: list[str]) -> None:
    """Judge an answer, and what was done for it."""
    status, output, words = answer
    size = len(stdin) + sum(map(len, variables.values()))
    assert len(output) + len(words) <= 65536 + 16 * size, "the answer is much larger than the question"
    assert status in (0, 1), status
    changes = [line for line in seen if not line.partition(" ")[2].startswith(_LOGGING)]
    if variables.get("CNI_COMMAND") not in REQUIRED or variables["CNI_COMMAND"] == "VERSION":
        assert not changes, changes
    if status == 0:
        assert not words, words
        if output:
            assert isinstance(json.loads(output), dict), output
        return
    body = json.loads(output)
    assert body["cniVersion"] in versions.SUPPORTED, body
    assert body["code"] in errors.TABLE, body
    assert body["code"] != errors.INTERNAL, body["msg"]
    assert isinstance(body["msg"], str), body
    assert body["msg"], body
    assert words.endswith("\n"), words
    assert words[:-1].isprintable(), ascii(words)
    if body["code"] in REFUSALS:
        assert not changes, f"{body['msg']}: {changes}"
