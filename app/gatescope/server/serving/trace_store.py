"""`Traces`: the store of traces, computed once to be looked at many times."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from gatescope.errors import Overloaded, TraceNotFound, TraceTooLarge
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.selection import Selection
from gatescope.server.serving import chunking
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.recording import record, signal_bytes
from gatescope.server.serving.stored import StoredTrace, Told

MAX_REMEMBERED = 10_000
"""Of so many traces that are gone it is known why."""

_SHOWN_ID_LENGTH = 64  # in messages
_REPLICA_BYTES, _ID_BYTES = 4, 16


@dataclass
class _Kept:
    trace: StoredTrace
    owner: str
    expires_at: float


class _Gone(NamedTuple):
    owner: str
    reason: str  # as the end of a sentence


class Traces:
    """Bounded in bytes and in time; the trace that was not looked at for longest goes first.

    It belongs to one event loop.

    Args:
        most_bytes: of all traces together, those that are being computed included.
        idle_timeout_s: how long a trace stays that nobody looks at.
        clock: Unix time in seconds.
    """

    def __init__(self, most_bytes: int, idle_timeout_s: float, clock: Callable[[], float] = time.time) -> None:
        self._most_bytes, self._idle_timeout_s, self._clock = most_bytes, idle_timeout_s, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the one looked at last stands last
        self._gone: OrderedDict[str, _Gone] = OrderedDict()
        self._replica = secrets.token_hex(_REPLICA_BYTES)
        self._bytes = self._reserved = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many traces there are."""
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """How large they are together."""
        return self._bytes

    async def record(
        self,
        owner: Owner,
        engine: Engine,
        model: Model,
        query: Query,
        told: Told,
        max_trace_bytes: int,
        deadline: Deadline | None = None,
    ) -> str:
        """Compute a trace of everything and keep it.

        Args:
            owner: whose it will be.
            engine: computes.
            model: is traced.
            query: what is to be traced.
            told: what its replies tell of the request.
            max_trace_bytes: the most that is made at once.
            deadline: by which it must be stored, where there is one.

        Returns:
            The id of the stored trace.

        Raises:
            TraceTooLarge: it is larger than the store, or must be made at once and is too large for that.
            Overloaded: the store is full of traces that are being computed; or as the engine says.
            DeadlineExceeded, NotReady: as the engine does.
        """
        self.check_size(model, query, max_trace_bytes)
        everything = Selection().resolve(model.pipeline.spec_of(query.module))
        with self._reservation() as reserve:
            trace = await chunking.trace(engine, model, query, everything, max_trace_bytes, deadline)
            return self._keep(await record(trace, query, told, reserve), owner.name)

    def get(self, trace_id: str, asker: Owner) -> StoredTrace:
        """A stored trace that is there for whoever asks, looked at now.

        Raises:
            TraceNotFound: there is none of this id, or no more; the reason is told.
        """
        self._drop_expired()
        kept = self._kept.get(trace_id)
        if kept is None or not asker.sees(kept.owner):
            raise TraceNotFound(self._missing(trace_id, asker))
        self._kept.move_to_end(trace_id)
        kept.expires_at = self._clock() + self._idle_timeout_s
        return kept.trace

    def expires_at(self, trace_id: str) -> float:
        """The Unix time at which a trace that is there will be dropped if nobody looks at it until then."""
        return self._kept[trace_id].expires_at

    def delete(self, trace_id: str, asker: Owner) -> None:
        """Keep a trace no more; whoever reads it right now comes to the end.

        Raises:
            TraceNotFound: there is none of this id, or no more; the reason is told.
        """
        self.get(trace_id, asker)
        self._drop(trace_id, "it was deleted")

    def _missing(self, trace_id: str, asker: Owner) -> str:
        gone = self._gone.get(trace_id)
        if gone is not None and asker.sees(gone.owner):
            return f"the trace '{trace_id}' is gone: {gone.reason}"
        return f"there is no trace '{trace_id[:_SHOWN_ID_LENGTH]}', and none that this server remembers"

    def check_size(self, model: Model, query: Query, max_trace_bytes: int) -> None:
        """Refuse what cannot be stored before it is computed, where its size is known by then.

        Raises:
            TraceTooLarge: as `record` does.
        """
        if not model.pipeline.module_inputs(query.module).aligned:
            return
        steps = int(query.sequence_lengths.max()) + query.horizon
        size = signal_bytes(model.pipeline.spec_of(query.module), query.sequences, steps)
        self._check_fits(size)
        if size > max_trace_bytes and not chunking.can_trace_in_chunks(model, Selection()):
            raise TraceTooLarge(
                f"the trace has {size:,} bytes and cannot be made in parts, because the model reads both ways, reads "
                f"neighbouring steps or a window, or is a custom module; this server makes at most {max_trace_bytes:,} "
                "at once: send fewer or shorter sequences"
            )

    def _check_fits(self, size: int) -> None:
        if size > self._most_bytes:
            raise TraceTooLarge(
                f"the trace has {size:,} bytes; this server stores at most {self._most_bytes:,} in all: send fewer or "
                "shorter sequences, or ask for a trace as application/x-ndjson, which is not stored"
            )

    @contextmanager
    def _reservation(self) -> Iterator[Callable[[int], None]]:
        """Room for a trace that is being computed: none at first, then as much as was said last."""
        taken = 0

        def reserve(size: int) -> None:
            nonlocal taken
            self._check_fits(size)
            self._make_room(size - taken)
            self._reserved += size - taken
            taken = size

        try:
            yield reserve
        finally:
            self._reserved -= taken

    def _make_room(self, size: int) -> None:
        """Drop what was not looked at for longest until there is room for so many bytes more."""
        if self._reserved + size > self._most_bytes:
            raise Overloaded(
                f"traces that are being computed take {self._reserved:,} of the store's {self._most_bytes:,} bytes, so "
                f"there is no room for {size:,} more; try again later"
            )
        self._drop_expired()
        while self._bytes + self._reserved + size > self._most_bytes:
            self._drop(next(iter(self._kept)), "it made room for others, as the one not looked at for longest")

    def _keep(self, trace: StoredTrace, owner: str) -> str:
        trace_id = f"{self._replica}-{secrets.token_hex(_ID_BYTES)}"
        self._kept[trace_id] = _Kept(trace, owner, self._clock() + self._idle_timeout_s)
        self._bytes += trace.bytes
        self._schedule_expiry()
        return trace_id

    def _drop(self, trace_id: str, reason: str) -> None:
        kept = self._kept.pop(trace_id)
        self._bytes -= kept.trace.bytes
        self._gone[trace_id] = _Gone(kept.owner, reason)
        if len(self._gone) > MAX_REMEMBERED:
            self._gone.popitem(last=False)

    def _drop_expired(self) -> None:
        now = self._clock()
        while self._kept and (first := next(iter(self._kept.items())))[1].expires_at <= now:
            self._drop(first[0], f"nobody looked at it for {self._idle_timeout_s:g} seconds")

    def _schedule_expiry(self) -> None:
        """Drop what has expired also when nobody asks for anything."""
        if self._timer is None and self._kept:
            first = next(iter(self._kept.values()))
            wait_s = max(first.expires_at - self._clock(), 0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._drop_expired()
        self._schedule_expiry()
