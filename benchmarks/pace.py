"""`Pace`: how long a benchmark over HTTP takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """So many rounds; in each, every way is measured for so many seconds."""

    rounds: int = 3
    seconds: int = 4  # whole ones: wrk takes no others
