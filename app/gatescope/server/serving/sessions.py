"""`Sessions`: stateful streams. A client sends what is new; the state of what came before is kept here."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gatescope import gaps
from gatescope.errors import Conflict, InvalidInput, ModelReplaced, Place, SessionBusy, SessionNotFound
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.query import Answer, Query
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.keyed_lock import KeyedLock
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.session import Session, SessionKey
from gatescope.server.serving.session_stores.store import SessionStore, not_found
from gatescope.state import State

_ID = re.compile(r"[\w.:~-]{1,128}", re.ASCII)

MAX_WAITING_STEPS = 64
"""Steps of one session that may wait in this process."""

MAX_ATTEMPTS = 16
"""So often a step is computed anew because another process was quicker."""


class Taken(NamedTuple):
    """A step that was taken."""

    session: Session
    """As it stands behind the step."""
    answer: Answer
    begin: bytes
    """The state from which the step began."""


class Sessions:
    """Opens, steps and ends sessions.

    Steps of one session are taken in the order in which they come; steps of several are computed together. What a step
    changes is written before it is answered, and only if no other process came first.

    Args:
        engine: computes the steps.
        store: keeps the states.
        idle_timeout_s: seconds after its last step until a session ends.
        clock: gives Unix seconds.
    """

    def __init__(
        self, engine: Engine, store: SessionStore, idle_timeout_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine, self._store = engine, store
        self._idle_timeout_s, self._clock = idle_timeout_s, clock
        self._locks = KeyedLock()

    async def open(
        self,
        owner: Owner,
        model: Model,
        session_id: str | None = None,
        initial_state: State | None = None,
        static_inputs: Tensor | None = None,
    ) -> Session:
        """Begin a stream.

        Args:
            owner: whose it will be.
            model: stays the session's model, in this version.
            session_id: letters, digits and `_ . : ~ -`, at most 128; made up where it is not given.
            initial_state: with batch 1; the model's own where it is not given.
            static_inputs: (1, feature), of a model that takes them.

        Raises:
            InvalidInput: the model cannot be streamed, or the name cannot be.
            SessionExists, TooManySessions, StoreUnavailable: as the store says.
        """
        if reason := refusal(model):
            raise InvalidInput.at(Place(("body", "model"), f"model '{model.name}' {reason}"))
        if session_id is not None and not _ID.fullmatch(session_id):
            message = f"must be 1 to 128 letters, digits or any of '_.:~-', not {session_id[:20]!r}"
            raise InvalidInput.at(Place(("body", "session_id"), message))
        now = self._clock()
        session = Session(
            session_id=session_id or secrets.token_hex(8),
            model=model.name,
            version=model.version,
            fingerprint=model.fingerprint,
            steps=0,
            time_steps=0,
            created_at=now,
            expires_at=now + self._idle_timeout_s,
            state=_packed(initial_state or model.pipeline.initial_state(1)),
            static=b"" if static_inputs is None else static_inputs.double().numpy().tobytes(),
            continues=initial_state is not None,
            owner=owner.name,
        )
        await self._store.create(session)
        return session

    async def get(self, session_id: str, asker: Owner) -> Session:
        """The session of this id that is there for whoever asks, as it stands: the own one first.

        Raises:
            SessionNotFound, StoreUnavailable: as the store says.
            Conflict: an admin key asks, and several other owners have one.
        """
        for owner in asker.names:
            with suppress(SessionNotFound):
                return await self.read(SessionKey(owner, session_id))
        found = [each for each in await self.list(asker) if each.session_id == session_id] if asker.is_admin else []
        if not found:
            raise not_found(session_id)
        if len(found) > 1:
            names = ", ".join(f"'{each.owner}'" for each in found)
            raise Conflict(f"{names} each have a session '{session_id}': ask with the key of one of them")
        return await self.read(found[0].key)

    async def read(self, key: SessionKey) -> Session:
        """The session as it stands; raises `SessionNotFound`, `StoreUnavailable`."""
        return await self._store.read(key)

    def model(self, session: Session) -> Model:
        """The version that the session began with.

        Raises:
            ModelNotFound, VersionNotFound, ModelUnavailable, NotReady: it is not served any more.
            ModelReplaced: it has other weights now.
        """
        model = self._engine.model(session.model, session.version)
        if model.fingerprint != session.fingerprint:
            raise ModelReplaced(
                f"version '{model.version}' of model '{model.name}' was replaced since session "
                f"'{session.session_id}' began: its state means nothing to the new weights; open another one"
            )
        return model

    async def step(
        self,
        key: SessionKey,
        query: Query,
        deadline: Deadline | None = None,
        step_number: int | None = None,
        seen: Session | None = None,
    ) -> Taken:
        """Run on from where the session stands.

        Args:
            key: of the session.
            query: of one sequence, made for its model; where it begins is the session's to say, and the final state is
                answered in any case. What comes with a horizon is predicted, but the stream goes on behind the inputs.
            deadline: by which the step must be taken, where there is one.
            step_number: how many steps were taken before; the last one may be asked for once more.
            seen: the session, where it was just read: it need not be read again, unless somebody else came first.

        Raises:
            SessionNotFound, StoreUnavailable: as the store says.
            GapRefused: a gap at the beginning of the step whose rule needs a value before it, and there was none.
            StepConflict: the number is not the next.
            SessionBusy: other steps came first, time and again.
            ModelReplaced: see `model`.
            Overloaded, DeadlineExceeded, NotReady: as the engine says.
        """
        is_locked = self._locks.users(key) > 0
        if is_locked or (seen is not None and step_number not in (None, seen.steps)):
            seen = None  # it may stand elsewhere by now
        if deadline is None or (self._store.is_local and not is_locked):  # else the engine alone is waited for
            return await self._step(key, query, deadline, step_number, seen)
        async with deadline.limit():
            return await self._step(key, query, deadline, step_number, seen)

    async def _step(
        self,
        key: SessionKey,
        query: Query,
        deadline: Deadline | None,
        step_number: int | None,
        seen: Session | None,
    ) -> Taken:
        attempts = MAX_ATTEMPTS if query.on_drawn is None else 1  # what was told of tokens is not told anew
        await self._lock(key)
        try:
            for _ in range(attempts):
                session, seen = seen or await self._store.read(key), None
                model, before = self.model(session), session.before(query, step_number)
                _check_window(model, session, query, is_repeated=step_number == session.steps - 1)
                stated, values = _filled(query, model, before.values)
                if session.static:
                    stated = stated.evolve(static_inputs=session.static_inputs)
                answer, final_state = await self._run(model, stated, before.state, deadline)
                if step_number == session.steps - 1:
                    return Taken(session, answer, before.state)
                is_numbered = step_number is not None
                after = session.after(query, final_state, self._expires_at(), numbered=is_numbered, values=values)
                if await self._store.replace(session, after):
                    return Taken(after, answer, before.state)
        finally:
            self._locks.release(key)
        raise _overtaken(key, attempts)

    @staticmethod
    def state_of(session: Session, model: Model) -> State:
        """Where a session of this model stands, as the model carries its state."""
        return State.unpacked([session.state], model.pipeline.state_spec)

    async def set_state(self, key: SessionKey, state: State) -> Session:
        """Go on from another state, with batch 1; raises what `step` raises."""
        await self._lock(key)
        try:
            for _ in range(MAX_ATTEMPTS):
                session = await self.read(key)
                after = session.moved_to(_packed(state), self._expires_at())
                if await self._store.replace(session, after):
                    return after
        finally:
            self._locks.release(key)
        raise _overtaken(key)

    async def close(self, key: SessionKey) -> None:
        """End it, after the steps that wait; raises `SessionNotFound`, `StoreUnavailable`."""
        await self._lock(key)
        try:
            await self._store.delete(key)
        finally:
            self._locks.release(key)

    async def list(self, asker: Owner) -> list[Session]:
        """All that are there for whoever asks, the one that was used last comes last; raises `StoreUnavailable`."""
        return [each for each in await self._store.list() if asker.sees(each.owner)]

    async def stop(self) -> None:
        """Close the store."""
        await self._store.close()

    async def _run(self, model: Model, query: Query, begin: bytes, deadline: Deadline | None) -> tuple[Answer, bytes]:
        """The answer, and the state behind the query's own inputs."""
        if not query.horizon:
            answer = await self._engine.submit(model, query.evolve(packed_state=begin), deadline)
            return answer, _final(answer)
        read = Query(
            query.inputs,
            query.sequence_lengths,
            packed_state=begin,
            static_inputs=query.static_inputs,
            prediction=False,
            module=query.module,
            interventions=query.interventions,
        )
        final_state = _final(await self._engine.submit(model, read, deadline))
        begun = State.unpacked([begin], model.pipeline.state_spec)  # not packed: no state is wanted behind a horizon
        return await self._engine.submit(model, query.evolve(initial_state=begun), deadline), final_state

    async def _lock(self, key: SessionKey) -> None:
        """Wait for the session; raises `SessionBusy` where too many wait already."""
        if self._locks.users(key) > MAX_WAITING_STEPS:
            raise SessionBusy(f"{MAX_WAITING_STEPS} steps of session '{key.session_id}' wait already; try again later")
        await self._locks.acquire(key)

    def _expires_at(self) -> float:
        return self._clock() + self._idle_timeout_s


def refusal(model: Model) -> str | None:
    """Why a model cannot be streamed, as the end of a sentence; None where it can."""
    pipeline = model.pipeline
    if any(spec.bidirectional for spec in pipeline.state_modules.values() or [model.spec]):
        return "is bidirectional: its reverse direction begins at the end of a sequence, which a stream does not have"
    if isinstance(pipeline, ProgramPipeline) and pipeline.parts_refusal is not None:
        return f"is {pipeline.program.kind}, which reads a sequence as a whole: {pipeline.parts_refusal}"
    if not pipeline.runs_in_parts:
        return (
            "reads neighbouring steps (a convolution), or what is computed of all steps at once, and a stream has only "
            "those of each part"
        )
    if pipeline.sums_up:
        return "predicts from all steps of a sequence at once, and a stream has only those of each part"
    return None


def _filled(query: Query, model: Model, before: bytes) -> tuple[Query, bytes]:
    """The step with its gaps filled, also with the values before it, and those that the next one has before it."""
    inputs = model.manifest.input
    if not isinstance(inputs, FeatureInputs) or not inputs.fills_from_before:
        return query, b""
    known = np.frombuffer(before, dtype=np.float64) if before else None
    filled = gaps.filled(query.inputs[0].numpy(), inputs.gap_rules, inputs.names, known)
    return query.with_inputs(torch.from_numpy(filled)[None]), filled[-1].astype(np.float64).tobytes()


def _check_window(model: Model, session: Session, query: Query, *, is_repeated: bool) -> None:
    """Refuse a step beyond the window: a stream keeps its state, not the steps that would be read anew."""
    window = model.pipeline.pooled_window
    if window is None:
        return
    before = session.time_steps - query.steps * is_repeated
    reads = before + query.longest - bool(query.horizon and model.pipeline.predicts_next_step)
    if reads > window:
        message = (
            f"the session would have read {reads:,} time steps, and predictions of model '{model.name}' read the last "
            f"{window:,}: open another session, or send these to predict"
        )
        raise InvalidInput.at(Place(("body", "horizon" if before + query.steps <= window else "inputs"), message))


def _overtaken(key: SessionKey, attempts: int = MAX_ATTEMPTS) -> SessionBusy:
    times = "once" if attempts == 1 else f"{attempts} times"
    return SessionBusy(f"other steps of session '{key.session_id}' came first {times}; try again")


def _final(answer: Answer) -> bytes:
    if answer.packed_state is None:
        raise TypeError("the answer holds no final state")
    return answer.packed_state


def _packed(state: State) -> bytes:
    """Of a lone sequence."""
    (packed,) = state.packed()
    return packed
