"""What an IPAM plugin answers.

An input is its exit status in a line, what it says on stderr in the next, and its stdout.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from cni_macvlan_egress.attach.ipam import Delegate
from cni_macvlan_egress.protocol.errors import IPAM_FAILED, TRY_AGAIN_LATER, CniError

from ..mutations import words
from ..mutations.documents import Vocabulary, changed_text, choice, listed
from ..target import Target
from . import terms

_SHORT = 1000
_CODES = choice(0, 1, 3, 4, 11, 50, 99, 100, "11", None, True, 1.5, 10**30, [])
_SAID = choice("no address is left", "a\nb", "\x1b[31m", "x" * 5000, "", None, 1, {"a": "b"}, "é\u2028")
_ROUTE = choice(
    {"dst": "203.0.113.0/24"}, {"dst": "::/0", "gw": "fd00:12::1"}, {"dst": "0.0.0.0/0", "gw": ""}, {"gw": 1}
)
VOCABULARY = Vocabulary(
    keys=(
        "cniVersion", "code", "msg", "details", "ips", "address", "gateway", "interface", "version", "routes", "dst",
        "gw", "mtu", "dns", "nameservers", "ip4", "ip6", "ip", "interfaces", "name", "supportedVersions",
    ),
    values=(*terms.ADDRESSES, *terms.INTERFACES, "1.1.0", "0.2.0", "4", "6"),
    makers={
        "cniVersion": terms.version,
        "code": _CODES,
        "msg": _SAID,
        "details": _SAID,
        "ips": listed(choice({"address": "192.168.12.99/24"}, {"address": "fd00:12::99/64", "gateway": "fd00:12::1"})),
        "address": terms.address,
        "gateway": terms.address,
        "gw": terms.address,
        "dst": terms.address,
        "routes": listed(_ROUTE),
        "ip4": choice({"ip": "192.168.12.99/24", "gateway": "192.168.12.1", "routes": [{"dst": "0.0.0.0/0"}]}, {}, 4),
        "supportedVersions": choice(["1.1.0"], ["0.1.0", 1, None], [], "1.1.0", ["\x1b[31m"], ["x" * 5000]),
    },
)  # fmt: skip
# Some executable that is everywhere; it is never run.
_TYPE, _DIRECTORY = "env", "/usr/bin"
_CONFIGURATION = {"cniVersion": "1.1.0", "name": "lan", "type": "macvlan-egress", "ipam": {"type": _TYPE}}


def examine(data: bytes, _seen: Callable[[], list[str]]) -> None:
    head, _, rest = data.partition(b"\n")
    stderr, _, stdout = rest.partition(b"\n")
    delegate = Delegate(_CONFIGURATION, {}, [_DIRECTORY])
    with _answering(0 if head == b"0" else 1, stderr, stdout):
        for call in (delegate.delete, delegate.check, delegate.status, lambda: delegate.collect([])):
            _judged(call)
        _judged(lambda: _add(delegate))


def _add(delegate: Delegate) -> None:
    addressing, result = delegate.add("1.1.0")
    assert addressing.sources
    assert len(addressing.sources) == len(result["ips"])
    assert result["cniVersion"] == "1.1.0"
    for source in addressing.sources:
        assert not (source.ip.is_multicast or source.ip.is_unspecified or source.ip.is_loopback), source
    for network, gateway in addressing.routes:
        assert gateway is None or gateway.version in (4, 6), network


def _judged(call: Callable[[], None]) -> None:
    try:
        call()
    except CniError as error:
        assert error.code in (IPAM_FAILED, TRY_AGAIN_LATER), error.code
        for text in (error.msg, error.details):
            assert text.isprintable(), ascii(text)
            assert len(text) < _SHORT, "the error is a novel"


@contextmanager
def _answering(status: int, stderr: bytes, stdout: bytes) -> Iterator[None]:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, status, stdout, stderr)

    before = subprocess.run
    subprocess.run = run  # type: ignore[assignment]
    try:
        yield
    finally:
        subprocess.run = before


def mutate(data: bytes, random: Random) -> bytes:
    head, _, rest = data.partition(b"\n")
    stderr, _, stdout = rest.partition(b"\n")
    match random.randrange(8):
        case 0:
            head = random.choice((b"0", b"1"))
        case 1:
            said = words.spoilt(stderr.decode("utf-8", "replace"), random).replace("\n", " ")
            stderr = said.encode("utf-8", "replace")
        case _:
            text = changed_text(stdout.decode("utf-8", "replace"), random, VOCABULARY)
            stdout = text.encode("utf-8", "surrogatepass")
    return b"\n".join((head, stderr, stdout))


TARGET = Target("ipam", examine, mutate)
