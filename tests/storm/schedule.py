"""What is done in a round of a storm, in which order, and what goes wrong when: a pure function of seed and round.

How far a call has come when something happens to it is the kernel's scheduler's affair, and is not in here.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Verb = Literal["ADD", "DEL", "CHECK", "GC", "STATUS"]
Theme = Literal[
    "calm",
    "kills",
    "vanishing",
    "master-down",
    "master-gone",
    "master-renamed",
    "disk-full",
    "read-only",
    "clock",
    "workers",
]
Kind = Literal["plain", "dual", "redirect", "default", "bare", "leased", "passing"]

# In a direct storm no daemon has workers to kill.
DIRECT_THEMES: tuple[Theme, ...] = (
    "calm",
    "kills",
    "vanishing",
    "master-down",
    "master-gone",
    "master-renamed",
    "disk-full",
    "read-only",
    "clock",
)
WARM_THEMES: tuple[Theme, ...] = (*(theme for theme in DIRECT_THEMES if theme != "clock"), "workers")
KINDS: tuple[Kind, ...] = ("plain", "dual", "redirect", "default", "bare", "leased", "passing")
_LATEST = 120
_EVENTS = 8
# Calls made for one pod by several workers at once, as no runtime should but some do.
_CONTESTED = 0.1
# Pods that want an address which another one of the same round wants too.
_RIVALS = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a worker.

    Attributes:
        pod: whose it is; -1 for GC and STATUS, which are the node's.
        kill_at: when it is killed, in percent of the time that such a call usually takes.
        vanish_at: when the pod's namespace is removed.
        shift: seconds that the clocks which count from boot are ahead of what other calls see.
    """

    verb: Verb
    pod: int = -1
    kill_at: int | None = None
    vanish_at: int | None = None
    shift: int = 0

    def __str__(self) -> str:
        words: list[str] = [self.verb]
        if self.pod >= 0:
            words.append(f"pod {self.pod}")
        if self.kill_at is not None:
            words.append(f"killed at {self.kill_at} %")
        if self.vanish_at is not None:
            words.append(f"its namespace removed at {self.vanish_at} %")
        if self.shift:
            words.append(f"clocks {self.shift:+} s")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Event:
    """One change of the weather, in percent of the time that an ADD usually takes."""

    after: int
    lasts: int

    def __str__(self) -> str:
        return f"after {self.after} % of an ADD, for {self.lasts} %"


@dataclass(frozen=True, slots=True)
class Round:
    """All of a round.

    Attributes:
        kinds: of each pod.
        rivals: pods that ask for another pod's address, and whose.
        attached: pods that are attached before it begins.
        forgotten: those of them that no runtime knows any more: GC may take them.
        contested: pods that all workers call for.
        workers: what each does, one after the other.
        events: of the theme, over and over again until the workers have finished.
        collected: pods that the last GC does not count among the valid ones unless they are known to be attached.
    """

    seed: int
    number: int
    theme: Theme
    kinds: tuple[Kind, ...]
    rivals: dict[int, int]
    attached: tuple[int, ...]
    forgotten: frozenset[int]
    contested: frozenset[int]
    workers: tuple[tuple[Step, ...], ...]
    events: tuple[Event, ...]
    collected: frozenset[int]

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, round {self.number}, theme {self.theme}",
            f"  attached before: {' '.join(map(str, self.attached))}",
            f"  forgotten: {' '.join(map(str, sorted(self.forgotten)))}",
            f"  contested: {' '.join(map(str, sorted(self.contested)))}",
            f"  rivals: {' '.join(f'{one}={other}' for one, other in sorted(self.rivals.items()))}",
            *(f"  {self.theme} {event}" for event in self.events),
        ]
        for number, steps in enumerate(self.workers):
            lines += [f"  worker {number}:", *(f"    {step}" for step in steps)]
        return "\n".join(lines)


def plan(seed: int, number: int, themes: tuple[Theme, ...], *, pods: int, workers: int, steps: int) -> Round:
    """The round of a number; as many rounds as there are themes have each of them once.

    Args:
        steps: of each worker.
    """
    turn, place = divmod(number, len(themes))
    order = list(themes)
    Random(f"{seed}/themes/{turn}").shuffle(order)
    theme = order[place]
    random = Random(f"{seed}/{number}")
    everybody = range(pods)
    kinds = tuple(KINDS[(pod + seed) % len(KINDS)] for pod in everybody)
    attached = tuple(sorted(random.sample(everybody, pods // 2)))
    forgettable = [pod for pod in attached if kinds[pod] not in ("leased", "passing")]
    forgotten = frozenset(random.sample(forgettable, max(1, pods // 20)))
    others = [pod for pod in everybody if pod not in forgotten]
    contested = frozenset(random.sample(others, max(1, round(pods * _CONTESTED))))
    owned = [pod for pod in others if pod not in contested]
    random.shuffle(owned)
    return Round(
        seed,
        number,
        theme,
        kinds,
        _rivals(random, kinds, [pod for pod in owned if pod not in attached]),
        attached,
        forgotten,
        contested,
        tuple(
            tuple(_steps(random, theme, owned[worker::workers], sorted(contested), steps))
            for worker in range(workers)
        ),
        _events(random, theme),
        frozenset(random.sample(everybody, pods // 2)),
    )


def _rivals(random: Random, kinds: tuple[Kind, ...], pods: list[int]) -> dict[int, int]:
    able = [pod for pod in pods if kinds[pod] in ("plain", "redirect")]
    chosen = random.sample(able, min(len(able), 2 * max(1, round(len(pods) * _RIVALS))))
    half = len(chosen) // 2
    return dict(zip(chosen[:half], chosen[half : 2 * half], strict=True))


def _steps(random: Random, theme: Theme, owned: list[int], contested: list[int], count: int) -> list[Step]:
    found = []
    for _ in range(count):
        draw = random.random()
        if draw < 0.03:
            found.append(Step("GC", kill_at=_fate(random, 0.3)))
            continue
        if draw < 0.05:
            found.append(Step("STATUS"))
            continue
        pod = random.choice(contested if draw > 1 - _CONTESTED or not owned else owned)
        verb: Verb = random.choices(("ADD", "DEL", "CHECK"), (5, 4, 2))[0]
        killed = _fate(random, 0.5 if theme in ("kills", "clock") else 0.08) if verb != "CHECK" else None
        vanished = _fate(random, 0.4 if theme == "vanishing" else 0.02) if pod not in contested else None
        shift = random.choice((0, 1, 3600, 10_000_000)) if theme == "clock" else 0
        found.append(Step(verb, pod, killed, vanished, shift))
    return found


def _fate(random: Random, likelihood: float) -> int | None:
    return random.randrange(_LATEST) if random.random() < likelihood else None


def _events(random: Random, theme: Theme) -> tuple[Event, ...]:
    if theme in ("calm", "kills", "vanishing", "clock"):
        return ()
    return tuple(Event(random.randrange(50, 600), random.randrange(10, 300)) for _ in range(_EVENTS))
