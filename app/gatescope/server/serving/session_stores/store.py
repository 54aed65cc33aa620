"""`SessionStore`: the seam between sessions and where their states are kept."""

from __future__ import annotations

from typing import Protocol

from gatescope.errors import SessionExists, SessionNotFound, TooManySessions
from gatescope.server.serving.session import Session, SessionKey


class SessionStore(Protocol):
    """Keeps sessions until they end or were idle for too long. Any method may raise `StoreUnavailable`."""

    @property
    def is_local(self) -> bool:
        """Whether the sessions lie in this process, so that no method waits for anything."""

    async def create(self, session: Session) -> None:
        """Keep a new one; raises `SessionExists`, `TooManySessions`."""

    async def read(self, key: SessionKey) -> Session:
        """As it stands; raises `SessionNotFound`."""

    async def replace(self, before: Session, after: Session) -> bool:
        """Put one in the place of the other; false where another came first. Raises `SessionNotFound`."""

    async def delete(self, key: SessionKey) -> None:
        """Keep it no more; raises `SessionNotFound`."""

    async def list(self) -> list[Session]:
        """All of them, whoever owns them; the one that was used last comes last."""

    async def close(self) -> None:
        """Close connections."""


def not_found(session_id: str) -> SessionNotFound:
    """The error where there is no such session."""
    return SessionNotFound(
        f"there is no session '{session_id[:128]}': it never was, was ended, or was idle for too long"
    )


def exists(session_id: str) -> SessionExists:
    """The error where there is such a session already."""
    return SessionExists(f"session '{session_id}' exists already: take another name, or none to have one made up")


def full(most: int) -> TooManySessions:
    """The error where no more may be opened."""
    return TooManySessions(f"{most:,} sessions are open, which is as many as this server keeps; end some, or try later")
