"""kubectl on the machine, and a record of what has been asked and answered, for the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lab.machine import CommandError, Machine, eventually

Object = dict[str, Any]
_RECORDED = 4000  # characters of an answer
_SECONDS = 180.0  # kubelet takes up to a minute to tell of a pod's end, and longer and longer to try again


class Kubectl:
    """An admin's command line."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.record: list[str] = []

    def __call__(self, *words: str, stdin: str = "") -> str:
        """Run it, for the record.

        Raises:
            CommandError: it failed; kubectl's own words are in it.
        """
        try:
            answer = self._machine.run("kubectl", *words, stdin=stdin)
        except CommandError as error:
            self._note(words, error.stdout + error.stderr)
            raise
        self._note(words, answer)
        return answer

    def apply(self, text: str, *options: str) -> str:
        """Apply a manifest, YAML or JSON."""
        return self("apply", "-f", "-", *options, stdin=text)

    def apply_objects(self, *objects: Object, options: tuple[str, ...] = ()) -> str:
        return self.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}), *options)

    def get(self, *words: str) -> Object:
        """One object or a list of them; not for the record."""
        found: Object = json.loads(self._machine.run("kubectl", "get", *words, "-o", "json"))
        return found

    def events(self, namespace: str, pod: str) -> str:
        """The events of a pod, the messages only; not those of an earlier one of its name."""
        uid = self.get("pod", pod, "-n", namespace)["metadata"]["uid"]
        listed = self.get("events", "-n", namespace, "--field-selector", f"involvedObject.uid={uid}")
        return "\n".join(f"{one['reason']}: {one['message']}" for one in listed["items"])

    def wait_event(self, namespace: str, pod: str, words: str) -> str:
        """The events of a pod, once these words are among them."""
        eventually(
            lambda: words in self.events(namespace, pod),
            lambda: f"no event of {pod} says {words!r}:\n{self.events(namespace, pod)}",
            _SECONDS,
        )
        self("get", "events", "-n", namespace, "--field-selector", f"involvedObject.name={pod}")
        return self.events(namespace, pod)

    def wait_until(self, namespace: str, kind: str, name: str, ready: Callable[[Object], bool]) -> Object:
        """An object once it is as wanted."""
        found: Object = {}

        def is_ready() -> bool:
            found.clear()
            found.update(self.get("-n", namespace, kind, name))
            return ready(found)

        eventually(
            is_ready,
            lambda: f"{kind} {name}: {json.dumps(found.get('status'))}",
            _SECONDS,
        )
        return found

    def evidence(self) -> str:
        """What an admin would look at first."""
        asked = (
            ("get", "nodes,pods,services,endpoints,daemonsets", "-A", "-o", "wide"),
            ("get", "events", "-A", "--sort-by=.lastTimestamp"),
        )
        parts = list(self.record)
        for words in asked:
            answer = self._machine.run("kubectl", "--request-timeout=10s", *words, check=False)
            parts.append(f"$ kubectl {' '.join(words)}\n{answer}")
        return "\n".join(parts)

    def _note(self, words: tuple[str, ...], answer: str) -> None:
        self.record.append(f"$ kubectl {' '.join(words)}\n{answer[-_RECORDED:]}")
