"""The interpreter, which one thread has at a time."""

from __future__ import annotations

import time

TURN_S = 0.0005
"""So long a thread may keep it from others that want it."""

_MOMENT_S = 1e-6  # to which the system adds some 50 µs of its own: enough for another thread to wake up


class GilYielder:
    """A thread's turn at the interpreter, and the next ones.

    A thread that lets go of the interpreter for an instant, as each system call and each operation on arrays does,
    gives nobody else a turn: whoever waits wakes up, finds it taken again, and begins to wait anew. Two threads at work
    can keep each other waiting so for a hundred times `TURN_S`.
    """

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.monotonic()

    def give_way(self) -> None:
        """Let others have it for a moment, if this turn has lasted long."""
        if time.monotonic() - self._began >= TURN_S:
            time.sleep(_MOMENT_S)
            self._began = time.monotonic()
