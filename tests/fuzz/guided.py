"""Coverage-guided fuzzing of one target by atheris; never returns, because libFuzzer ends the process."""

from __future__ import annotations

import sys
from random import Random
from typing import NoReturn

from .target import load


def fuzz(name: str, arguments: list[str]) -> NoReturn:
    """Fuzz until libFuzzer's arguments say that it is enough, or something is found."""
    import atheris

    packages = ("dns",) if name == "dns" else ("yaml",) if name == "policies" else ()
    with atheris.instrument_imports(include=["cni_macvlan_egress", *packages]):
        target = load(name)
        _import_all()
    from .examiner import Examiner

    examiner: list[Examiner] = []

    def examine(data: bytes) -> None:
        if not examiner:  # libFuzzer's own threads come first
            examiner.append(Examiner(target))
        examiner[0].examine(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        for _ in range(random.choice((1, 1, 2, 4))):
            data = target.mutated(data, random)
        return data[:most]

    # The examiner's own clock, because libFuzzer's alarm interrupts system calls that it has nothing to do with.
    words = [sys.argv[0], f"-max_len={target.most_bytes}", "-timeout=0", *arguments]
    atheris.Setup(words, examine, custom_mutator=mutate)
    atheris.Fuzz()
    sys.exit(0)


def _import_all() -> None:
    """What the plugin imports only when it needs it; else it would be without instruments."""
    import cni_macvlan_egress.attach.add
    import cni_macvlan_egress.attach.check
    import cni_macvlan_egress.attach.collect
    import cni_macvlan_egress.attach.delete
    import cni_macvlan_egress.attach.ipam
    import cni_macvlan_egress.attach.policing
    import cni_macvlan_egress.attach.status
    import cni_macvlan_egress.attach.verbs
    import cni_macvlan_egress.sources.hosts_file
    import cni_macvlan_egress.sources.names
    import cni_macvlan_egress.sources.policy_directory
    import cni_macvlan_egress.sources.policy_watch  # noqa: F401
