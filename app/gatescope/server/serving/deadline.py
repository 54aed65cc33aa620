"""`Deadline`: when an answer must be there."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Self


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the clock of `time.monotonic`; infinite where there is no limit."""

    seconds: float
    """How long the request may take in all."""

    ends_at: float
    """Seconds, on the clock of `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The deadline so many seconds from now."""
        return cls(seconds, monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds that are left; negative when it has passed."""
        return self.ends_at - monotonic()

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return monotonic() >= self.ends_at


NEVER = Deadline(inf, inf)
"""The deadline of what may take as long as it takes."""
