"""Which policy holds for which namespace now, asked of every source that the configuration names."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ..decide import egress
from ..model.configuration import Configuration
from ..model.policy import Answer, Policy
from ..sources.resolver import LONGEST_TTL_SECONDS, Resolver, load, render
from . import locks
from .policy_state import PolicyState

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADD_SECONDS = 2.0  # a name that nobody answers for must not keep pods from starting
_SYNC_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Policies:
    """What the sources say.

    Attributes:
        problems: what an admin should look at, a sentence each.
    """

    by_namespace: dict[str, Policy] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def of_namespace(configuration: Configuration, state: PolicyState, namespace: str) -> Policy | None:
    """The policy of one namespace; a name that no namespace can have has none.

    Raises:
        CniError: TRY_AGAIN_LATER or IO_FAILURE where a source cannot be asked: then nobody knows.
    """
    settings = configuration.policy
    if settings is None or not _NAMESPACE.fullmatch(namespace):
        return None
    found = of_directory(configuration, state).by_namespace
    if settings.kubernetes:
        from ..sources.policy_kubernetes import fetch

        found = _merged(found, fetch(namespace, configuration.kubeconfig))
    return found.get(namespace)


def of_all(
    configuration: Configuration, state: PolicyState, documents: Iterable[object] | None = None
) -> Policies:
    """The policies of all namespaces.

    Args:
        documents: the API server's, if somebody has them already.

    Raises:
        CniError: as of_namespace().
    """
    if configuration.policy is None:
        return Policies()
    found = of_directory(configuration, state)
    if configuration.policy.kubernetes:
        if documents is None:
            from ..sources.policy_kubernetes import fetch_all

            documents = fetch_all(configuration.kubeconfig)
        found = Policies(_merged(found.by_namespace, documents), found.problems)
    return Policies(found.by_namespace, [*found.problems, *broken(found)])


def broken(found: Policies) -> list[str]:
    """A sentence for each policy that closes its namespace because it cannot be enforced."""
    return [
        f"namespace {name} is closed: {one.title}: {one.broken}"
        for name, one in sorted(found.by_namespace.items())
        if one.broken
    ]


class Names:
    """The addresses of DNS names, kept in the state's file and asked for anew where they have expired.

    One that lives longer asks less and less often for a name that keeps failing.
    """

    def __init__(self, configuration: Configuration, state: PolicyState) -> None:
        self._configuration = configuration
        self._state = state

    def addresses(self, policies: Iterable[Policy], *, everything: bool) -> dict[str, Answer]:
        """Those of the names in policies.

        Args:
            everything: these are all policies of the node, so that other names can be forgotten; there is time.

        Raises:
            CniError: IO_FAILURE if the answers cannot be written down.
        """
        wanted = egress.names(policies)
        if not wanted:
            return {}
        known = kept_answers(self._state)
        now = time.time()
        stale = {name for name in wanted if name not in known or not _is_fresh(known[name], now)}
        if stale:
            deadline = _SYNC_SECONDS if everything else _ADD_SECONDS
            fresh = self._resolver.ask(
                stale, known, now, self._configuration.cluster_networks, deadline=deadline
            )
            with locks.names(self._configuration.run_dir):
                known = {**kept_answers(self._state), **fresh}  # others may have asked meanwhile
                kept = {name: one for name, one in known.items() if not everything or name in wanted}
                self._state.save_names(render(kept))
        return {name: known[name] for name in wanted if name in known}

    @cached_property
    def _resolver(self) -> Resolver:
        return Resolver()


def _is_fresh(answer: Answer, now: float) -> bool:
    """Not if it is over, nor if it would last longer than any answer does: then the clock has been set back."""
    return now < answer.expires <= now + LONGEST_TTL_SECONDS


def kept_answers(state: PolicyState) -> dict[str, Answer]:
    """What names resolved to when they were last asked for."""
    return load(state.names_path)


def next_expiry(state: PolicyState) -> float:
    """When the first name has to be asked for anew, in seconds since the epoch."""
    return min((one.expires for one in kept_answers(state).values()), default=float("inf"))


def of_directory(configuration: Configuration, state: PolicyState) -> Policies:
    """The policies in the node's directory, of which the state's index is renewed.

    Raises:
        CniError: IO_FAILURE if it cannot be read.
    """
    directory = configuration.policy.source_directory if configuration.policy else None
    if directory is None:
        return Policies()
    from ..sources.policy_directory import read

    reading = read(directory)
    state.save_index(directory, reading.fingerprint, reading.policies)
    return Policies(dict(reading.policies), list(reading.problems))


def _merged(found: dict[str, Policy], documents: Iterable[object]) -> dict[str, Policy]:
    from ..model.policy_documents import gather, policies

    fetched = (policy for one in documents for policy in policies(one, "the API server"))
    return gather((*found.values(), *fetched))
