"""`Budget`: how much time is left."""

from __future__ import annotations

import time


class Budget:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when it has ended."""
        return max(0.0, self._ends - time.monotonic())

    def share(self, share: float, keep: float = 0.0) -> Budget:
        """A share of the whole, but no more than what is left when a share of the whole is kept."""
        return Budget(max(0.0, min(share * self._seconds, self.left - keep * self._seconds)))
