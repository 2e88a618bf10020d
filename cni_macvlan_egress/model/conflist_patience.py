"""How long to wait before an entry is put back that somebody keeps removing: so that two writers do not fight."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Patience:
    """Puts back at once what was removed once, and ever later what is removed again and again.

    Attributes:
        first: seconds to wait before the second time; doubled with each further one.
        most: seconds, the longest wait.
        quiet: after as many seconds without a removal (or four times the last wait) all is forgotten.
        losses: how often the entry was removed since then.
        since: when the first of them was.
    """

    first: float = 1.0
    most: float = 300.0
    quiet: float = 60.0
    losses: int = 0
    since: float = 0.0
    _wait: float = field(default=0.0, init=False)
    _last: float | None = field(default=None, init=False)

    def lost(self, now: float) -> float:
        """The entry was found missing: when it may be put back.

        Args:
            now: seconds of any clock that does not jump.
        """
        if self._last is None or now - self._last > max(self.quiet, 4 * self._wait):
            self.losses, self.since, self._wait = 0, now, 0.0
        elif self._wait:
            self._wait = min(self._wait * 2, self.most)
        else:
            self._wait = self.first
        self.losses += 1
        self._last = now + self._wait
        return self._last

    @property
    def contested(self) -> bool:
        """Whether somebody keeps removing it: once more may be an upgrade of the main CNI."""
        return self.losses > 2
