"""What came back from one execution of the plugin, and the promises that hold for every one of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """Exit status, stdout and stderr of one execution."""

    status: int
    stdout: str
    stderr: str
    request: str = field(default="", repr=False)

    def check(self) -> Answer:
        """What the protocol promises of any answer: a JSON object or nothing; an error has code and msg."""
        for text in (self.stdout, self.stderr):
            assert "Traceback" not in text, text
        if self.status:
            error = self.json
            assert isinstance(error.get("code"), int), self
            assert error["code"] > 0, self
            assert error.get("msg"), self
            assert "\n" not in error["msg"], self
            assert error.get("cniVersion"), self
        elif self.stdout.strip():
            assert isinstance(self.json, dict), self
        return self

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.stdout)
        except ValueError:
            raise AssertionError(f"stdout is not JSON: {self!r}") from None

    def ok(self) -> Any:
        """The result of a call that has to succeed."""
        assert self.status == 0, f"exit status {self.status}: {self.stdout}{self.stderr}"
        return self.json if self.stdout.strip() else None

    def refused(self, code: int, *words: str) -> str:
        """The text of the error of a call that has to fail with a code; it has to hold all the words."""
        assert self.status != 0, f"it was accepted: {self.stdout}"
        error = self.json
        text = f"{error['msg']} {error.get('details', '')}"
        assert error["code"] == code, f"code {error['code']}, not {code}: {text}"
        for word in words:
            assert word in text, f"{word!r} is missing in: {text}"
        return text
