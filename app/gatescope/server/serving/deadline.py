"""`Deadline`: when a request must be answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import NamedTuple

from gatescope.errors import DeadlineExceeded


class Deadline(NamedTuple):
    """One moment for all that a request needs; where there is no limit, None stands in its place."""

    ends: float
    """Seconds on the monotonic clock."""
    seconds: float
    """The time that was given, for the message."""

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(monotonic() + seconds, seconds)

    @property
    def remaining_s(self) -> float:
        """Seconds that are left; negative once it has passed."""
        return self.ends - monotonic()

    @property
    def has_passed(self) -> bool:
        """Whether no time is left."""
        return monotonic() >= self.ends

    def exceeded(self) -> DeadlineExceeded:
        """The error of a request that was not answered in time."""
        return DeadlineExceeded(f"there was no answer within {self.seconds:g} seconds")

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Cancel the block when the deadline passes; raises `DeadlineExceeded`."""
        try:
            async with asyncio.timeout(self.remaining_s):
                yield
        except TimeoutError:
            raise self.exceeded() from None
