"""What is fuzzed: one kind of input, what is done with it, and how to change it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
NAMES = (
    "call", "annotations", "destinations", "policies", "records", "state", "frames", "dns", "api_pod", "api_policies",
    "api_watch", "kubeconfig", "ipam",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        name: of its module and of its directory in the corpus.
        examine: hands an input to the plugin; what comes out of it is a finding. Gets what the input's calls to the
            kernel are noted in, as far as they have been made.
        mutate: makes another input of one.
        most_bytes: how large an input may be.
        packages: what besides the plugin has code that the input reaches.
        writes: whether the input may leave files behind, in the one place where it can.
    """

    name: str
    examine: Callable[[bytes, Callable[[], list[str]]], None]
    mutate: Callable[[bytes, Random], bytes]
    most_bytes: int = 16384
    packages: tuple[str, ...] = ()
    writes: bool = False

    @property
    def directory(self) -> Path:
        """Where its corpus is."""
        return CORPUS / self.name

    def corpus(self) -> list[Path]:
        """What is kept in the repository; names tell what an input is about, or are its hash."""
        return sorted(self.directory.iterdir())

    def mutated(self, data: bytes, random: Random) -> bytes:
        """Another input, or the same if it would be too large."""
        made = self.mutate(data, random)
        return made if len(made) <= self.most_bytes else data


def load(name: str) -> Target:
    """The target of a name."""
    found = importlib.import_module(f"{__package__}.targets.{name}").TARGET
    assert isinstance(found, Target)
    return found
