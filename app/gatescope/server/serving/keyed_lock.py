"""`KeyedLock`: a lock for each key."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable


class _Lock(asyncio.Lock):
    users = 0
    """Who holds it or waits for it."""


class KeyedLock:
    """Whoever waits for a key gets it in the order of arrival; a key that nobody uses takes no memory."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, _Lock] = {}

    def users(self, key: Hashable) -> int:
        """How many hold this key or wait for it."""
        lock = self._locks.get(key)
        return 0 if lock is None else lock.users

    async def acquire(self, key: Hashable) -> None:
        """Wait for the key; without being suspended where nobody has it."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = _Lock()
        lock.users += 1
        try:
            await lock.acquire()
        except asyncio.CancelledError:
            self._forget(key, lock)
            raise

    def release(self, key: Hashable) -> None:
        """Give the key to the next who waits."""
        lock = self._locks[key]
        lock.release()
        self._forget(key, lock)

    def _forget(self, key: Hashable, lock: _Lock) -> None:
        lock.users -= 1
        if not lock.users:
            del self._locks[key]
