"""`MemoryStore`: sessions in this process, gone when it ends."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from gatescope.server.serving.session import Session, SessionKey
from gatescope.server.serving.session_stores.store import exists, full, not_found


class MemoryStore:
    """A `SessionStore`; the session that was used last stands last.

    Args:
        max_sessions: how many may be open.
        clock: gives Unix seconds.
    """

    def __init__(self, max_sessions: int, clock: Callable[[], float] = time.time) -> None:
        self._max_sessions, self._clock = max_sessions, clock
        self._sessions: OrderedDict[SessionKey, Session] = OrderedDict()

    is_local = True

    async def create(self, session: Session) -> None:
        """Keep a new one; raises `SessionExists`, `TooManySessions`."""
        self._drop_expired()
        if session.key in self._sessions:
            raise exists(session.session_id)
        if len(self._sessions) >= self._max_sessions:
            raise full(self._max_sessions)
        self._sessions[session.key] = session

    async def read(self, key: SessionKey) -> Session:
        """As it stands; raises `SessionNotFound`."""
        self._drop_expired()
        session = self._sessions.get(key)
        if session is None:
            raise not_found(key.session_id)
        return session

    async def replace(self, before: Session, after: Session) -> bool:
        """Put one in the place of the other, if it still stands there; raises `SessionNotFound`."""
        if await self.read(before.key) is not before:
            return False
        self._put_last(after)
        return True

    async def delete(self, key: SessionKey) -> None:
        """Keep it no more; raises `SessionNotFound`."""
        await self.read(key)
        del self._sessions[key]

    async def list(self) -> list[Session]:
        """All of them."""
        self._drop_expired()
        return list(self._sessions.values())

    async def close(self) -> None:
        """There is nothing to close."""

    def _put_last(self, session: Session) -> None:
        self._sessions[session.key] = session
        self._sessions.move_to_end(session.key)

    def _drop_expired(self) -> None:
        """End those that were idle for too long: they stand first."""
        now = self._clock()
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            if oldest.expires_at > now:
                return
            del self._sessions[oldest.key]
