"""A pod's annotations, as a runtime or the API server hands them on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from random import Random

from cni_macvlan_egress.model import keys
from cni_macvlan_egress.model.annotations import PodAnnotations
from cni_macvlan_egress.protocol.errors import INVALID_ANNOTATION, CniError

from ..mutations.documents import Vocabulary, changed_text
from ..target import Target
from . import terms

_VOCABULARY = Vocabulary(
    keys=tuple(terms.ANNOTATIONS),
    values=(*terms.ADDRESSES, *terms.NAMES, *terms.INTERFACES),
    makers=terms.ANNOTATIONS,
)


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(given, dict):
        return
    if given.get(keys.ASSIGN, "") is None:
        # The quick look takes it for absent, the parser refuses it; no runtime says null, and neither serves it.
        del given[keys.ASSIGN]
    quick = keys.asks_to_attach(given)
    try:
        found = PodAnnotations.of(given)
    except CniError as error:
        assert error.code == INVALID_ANNOTATION, error
        assert error.msg.isprintable(), ascii(error.msg)
        assert quick, "what is refused would have passed as a pod that wants nothing"
        return
    assert found.attach <= quick, "who wants something passes as a pod that wants nothing"
    assert len({one.version for one in found.sources}) == len(found.sources)
    said_again = dict(given)
    for word, values in (("source", found.sources), ("gateway", found.gateways)):
        if values:
            said_again[keys.PREFIX + word] = ",".join(map(str, values))
    if found.destinations:
        lines = {one.line: str(one) for one in found.destinations}
        text = "\n".join(lines.get(number, "") for number in range(1, max(lines) + 1))
        said_again[keys.PREFIX + "destination"] = text
    assert PodAnnotations.of(said_again) == found


def mutate(data: bytes, random: Random) -> bytes:
    text = data.decode("utf-8", "surrogatepass") if _is_text(data) else "{}"
    return changed_text(text, random, _VOCABULARY).encode("utf-8", "surrogatepass")


def _is_text(data: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        data.decode("utf-8", "surrogatepass")
        return True
    return False


TARGET = Target("annotations", examine, mutate)
