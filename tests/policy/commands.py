"""`macvlan-egress policy …` as an admin runs it on the node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lab import within

from .documents import Policies

SECONDS = 60
FOLLOW_SECONDS = 20  # more than it takes to see a change, less than until the next look at everything


class Commands:
    """The commands of a node, with a conflist of its own.

    Args:
        wrapper: a command that starts the plugin in other surroundings.
    """

    def __init__(self, policies: Policies, wrapper: tuple[str, ...] = ()) -> None:
        self.node = policies.node
        self._policies = policies
        self._wrapper = wrapper

    @property
    def conflist(self) -> str:
        """A CNI configuration file as it stands on a node."""
        path = Path(self.node.directory) / "10-pods.conflist"
        plugins = [{"type": "bridge"}, self.node.configuration(**self._policies.conf)]
        path.write_text(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
        return str(path)

    def run(self, *words: str, status: int = 0) -> str:
        """What a command prints; it has to end with a status."""
        done = within(
            self.node.path,
            lambda: subprocess.run(
                self._argv(words), capture_output=True, text=True, check=False, timeout=SECONDS
            ),
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == status, done
        return done.stdout + done.stderr

    def on_node(self, deed: str, *words: str, status: int = 0) -> str:
        """The same for one that reads the node's configuration."""
        return self.run(deed, *words, "--conflist", self.conflist, status=status)

    def sync(self, status: int = 0) -> str:
        return self.on_node("sync", status=status)

    def status(self, status: int = 0) -> Any:
        return json.loads(self.on_node("status", "--json", status=status))

    @contextmanager
    def following(self) -> Iterator[Output]:
        """`sync --follow` while the block runs; what it prints. It has to end well when it is asked to."""
        argv = self._argv(("sync", "--follow", "--conflist", self.conflist))
        process = within(
            self.node.path,
            lambda: subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
        )
        assert process.stdout is not None
        output = Output(process.stdout)
        try:
            yield output
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            output.close()
        assert "Traceback" not in output.text

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        return [*self._wrapper, os.path.join(self.node.bin_dir, "macvlan-egress"), "policy", *words]


class Output:
    """What a process prints, line by line as it comes."""

    def __init__(self, stream: IO[str]) -> None:
        self.text = ""
        self._seen = 0
        self._stream = stream
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def expect(self, *words: str) -> None:
        """Wait for words, in any order, in lines that no earlier call has seen."""
        with self._news:
            came = self._news.wait_for(
                lambda: all(word in self.text[self._seen :] for word in words), FOLLOW_SECONDS
            )
            assert came, f"none of {words} in:\n{self.text[self._seen :]}"
            self._seen = len(self.text)

    def close(self) -> None:
        """The process has ended."""
        self._thread.join()
        self._stream.close()

    def _read(self) -> None:
        for line in self._stream:
            with self._news:
                self.text += line
                self._news.notify()
