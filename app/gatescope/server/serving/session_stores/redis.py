"""`RedisStore`: sessions in a Redis, where they outlive this process and others reach them, too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gatescope.errors import StoreUnavailable
from gatescope.server.serving.session import SCHEMA, LastStep, Session, SessionKey
from gatescope.server.serving.session_stores.store import exists, full, not_found

_NAMESPACE = "{gatescope}"  # in braces: all keys lie on one node of a cluster, as scripts want it
_OPEN = f"{_NAMESPACE}:sessions"  # when each session ends, by its member
_TIMEOUT_S = 2.0
_LIST_BLOCK = 500
_SUMMARY_FIELDS = ("model", "version", "fingerprint", "steps", "time_steps", "created_at", "expires_at")

# each script takes the two keys, the session's member of the first, the seconds it may be idle, and what it alone
# needs; all of them can be run twice with one effect, so that a lost connection may be tried again

_NOW = "local time = redis.call('TIME'); local now = time[1] + time[2] / 1000000;"

_WRITE = """
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[2], math.ceil(ARGV[2] * 1000))
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return 'done'
"""

_CREATE = f"""
{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local held = redis.call('HGET', KEYS[2], 'revision')
if held == ARGV[3] then return 'done' end
if held then return 'exists' end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 'full' end
{_WRITE}
"""

_REPLACE = f"""
{_NOW}
local held = redis.call('HGET', KEYS[2], 'revision')
if not held then return 'gone' end
if held == ARGV[3] then return 'done' end
if held ~= ARGV[4] then return 'another' end
{_WRITE}
"""

_DELETE = """
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
"""

_LIST = f"""
{_NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')
"""


class RedisStore:
    """A `SessionStore` that several processes may share.

    Args:
        url: `redis://host:port/database`.
        max_sessions: how many may be open, of all processes together.
        idle_timeout_s: seconds after its last step until a session ends.

    Raises:
        ValueError: this is no such address.
    """

    def __init__(self, url: str, max_sessions: int, idle_timeout_s: float) -> None:
        self._max_sessions, self._idle_timeout_s = max_sessions, idle_timeout_s
        self._redis: Redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, health_check_interval=0
        )
        connection = self._redis.connection_pool.connection_kwargs
        self._address = f"{connection.get('host', connection.get('path', ''))}:{connection.get('port', '')}".rstrip(":")
        self._create, self._replace, self._delete, self._list = (
            self._redis.register_script(script) for script in (_CREATE, _REPLACE, _DELETE, _LIST)
        )

    is_local = False

    async def create(self, session: Session) -> None:
        """Keep a new one; raises `SessionExists`, `TooManySessions`, `StoreUnavailable`."""
        outcome = await self._write(self._create, session, self._max_sessions)
        if outcome == b"exists":
            raise exists(session.session_id)
        if outcome == b"full":
            raise full(self._max_sessions)

    async def read(self, key: SessionKey) -> Session:
        """As it stands; raises `SessionNotFound`, `StoreUnavailable`."""
        async with self._translating_errors():
            kept = await cast(Awaitable[Mapping[bytes, bytes]], self._redis.hgetall(_hash_of(key)))
        if not kept:
            raise not_found(key.session_id)
        return _from_hash(key, {name.decode(): value for name, value in kept.items()})

    async def replace(self, before: Session, after: Session) -> bool:
        """Put one in the place of the other; false where another came first.

        Raises:
            SessionNotFound: it was ended meanwhile.
            StoreUnavailable: it is not known whether it was written.
        """
        outcome = await self._write(self._replace, after, before.revision)
        if outcome == b"gone":
            raise not_found(after.session_id)
        return outcome == b"done"

    async def delete(self, key: SessionKey) -> None:
        """Keep it no more; raises `SessionNotFound`, `StoreUnavailable`."""
        async with self._translating_errors():
            if not await self._delete(keys=[_OPEN, _hash_of(key)], args=[_member_of(key)]):
                raise not_found(key.session_id)

    async def list(self) -> list[Session]:
        """All of them, without their states; raises `StoreUnavailable`."""
        found: list[Session] = []
        async with self._translating_errors():
            keys = [_key_in(member.decode()) for member in await self._list(keys=[_OPEN])]
            for start in range(0, len(keys), _LIST_BLOCK):
                found += await _summaries(self._redis, keys[start : start + _LIST_BLOCK])
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _write(self, script: Any, session: Session, condition: int) -> bytes:
        fields = [part for pair in _to_hash(session).items() for part in pair]
        arguments = [_member_of(session.key), self._idle_timeout_s, session.revision, condition, *fields]
        async with self._translating_errors():
            outcome: bytes = await script(keys=[_OPEN, _hash_of(session.key)], args=arguments)
        return outcome

    @asynccontextmanager
    async def _translating_errors(self) -> AsyncIterator[None]:
        """Raise `StoreUnavailable` where Redis does not do what it is asked."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"the session store, Redis at {self._address}, does not answer: {error}") from error


async def _summaries(redis: Redis, keys: Collection[SessionKey]) -> list[Session]:
    """These sessions, as far as they are still there, without their states."""
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.hmget(_hash_of(key), list(_SUMMARY_FIELDS))
    kept = await pipeline.execute()
    return [
        _from_hash(key, dict(zip(_SUMMARY_FIELDS, values, strict=True)))
        for key, values in zip(keys, kept, strict=True)
        if None not in values
    ]


def _hash_of(key: SessionKey) -> str:
    """The name of its hash. One with an owner stands where versions that know no owners do not look."""
    return f"{_NAMESPACE}:{'owned-session' if key.owner else 'session'}:{_member_of(key)}"


def _member_of(key: SessionKey) -> str:
    """Of the set of all; neither an owner's name nor an id has a slash."""
    return f"{key.owner}/{key.session_id}" if key.owner else key.session_id


def _key_in(member: str) -> SessionKey:
    owner, _, session_id = member.rpartition("/")
    return SessionKey(owner, session_id)


def _to_hash(session: Session) -> dict[str, Any]:
    """The fields of the hash; empty where there is nothing."""
    last = session.last or LastStep(b"", b"")
    summary = {name: getattr(session, name) for name in _SUMMARY_FIELDS}
    return summary | {
        "revision": session.revision,
        "state": session.state,
        "last_state": last.state,
        "last_digest": last.digest,
        "last_values": last.values,
        "schema": session.schema,
        "values": session.values,
        "static": session.static,
        "continues": int(session.continues),
    }


def _from_hash(key: SessionKey, kept: Mapping[str, bytes]) -> Session:
    """The session in a hash of this schema or an earlier one; raises `StoreUnavailable` of a later one."""
    schema = int(kept.get("schema", 1))
    if schema > SCHEMA:
        raise StoreUnavailable(
            f"session '{key.session_id}' was written by a newer version of Gatescope, with schema {schema}; this one "
            f"reads up to {SCHEMA}"
        )
    digest = kept.get("last_digest", b"")
    return Session(
        session_id=key.session_id,
        model=kept["model"].decode(),
        version=kept["version"].decode(),
        fingerprint=kept["fingerprint"].decode(),
        steps=int(kept["steps"]),
        time_steps=int(kept["time_steps"]),
        created_at=float(kept["created_at"]),
        expires_at=float(kept["expires_at"]),
        state=kept.get("state", b""),
        last=LastStep(kept["last_state"], digest, kept.get("last_values", b"")) if digest else None,
        revision=int(kept.get("revision", 0)),
        static=kept.get("static", b""),
        continues=kept.get("continues", b"0") == b"1",
        values=kept.get("values", b""),
        owner=key.owner,
    )
