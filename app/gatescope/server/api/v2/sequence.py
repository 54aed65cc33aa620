"""Sequences: the protocol's way to say which session a request is a step of."""

from __future__ import annotations

from contextlib import suppress

import structlog

from gatescope.errors import BadRequest, InvalidInput, Place, SessionNotFound
from gatescope.gaps import GapRefused
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api.v2.schemas import InferParameters
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.session import Session, SessionKey
from gatescope.server.serving.sessions import Sessions, Taken

log = structlog.get_logger(__name__)


class Sequence:
    """One step of a sequence; its session is the one that `/v1/sessions` shows under its id.

    An id is one of the own sequences: an admin key, too, goes on with nobody else's.

    Args:
        engine: knows the models.
        sessions: keep the states.
        owner: whose sequence it is.
        name: of the model that is asked.
        version: of it, where one is named.
        parameters: of the request.
    """

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        owner: Owner,
        name: str,
        version: str | None,
        parameters: InferParameters,
    ) -> None:
        self._engine, self._sessions = engine, sessions
        self._owner = Owner(owner.name)
        self._name, self._version = name, version
        self._id = str(parameters.sequence_id)
        self._key = SessionKey(owner.name, self._id)  # until it is found
        self._starts, self._ends = parameters.sequence_start, parameters.sequence_end

    async def model(self) -> Model:
        """The model that answers: where the sequence starts the one that is asked, later the one that it began with.

        Raises:
            BadRequest: there is no such sequence, or it is another model's.
            ModelNotFound, VersionNotFound, ModelUnavailable, NotReady: it is not served.
            ModelReplaced: it has other weights than when the sequence began.
        """
        if self._starts:
            return self._engine.model(self._name, self._version)
        return self._sessions.model(await self._session())

    async def step(self, model: Model, query: Query, deadline: Deadline | None) -> Taken:
        """Take the step; raises `InvalidInput` where the query is none of a step, and what `Sessions` raises else."""
        if len(query.inputs) != 1:
            message = f"a step of a sequence is a batch of 1, not of {len(query.inputs)}"
            raise InvalidInput.at(Place(("inputs",), message))
        if self._starts:
            await self._start(model, query)
        elif query.initial_state is not None:
            message = "goes with 'sequence_start': later steps begin where the one before ended"
            raise InvalidInput.at(Place(("initial_hidden_state",), message))
        elif query.static_inputs is not None:
            message = "goes with 'sequence_start': the later steps read what was given there"
            raise InvalidInput.at(Place(("static_inputs",), message))
        try:
            taken = await self._sessions.step(self._key, query, deadline)
        except SessionNotFound:
            raise self._unknown() from None
        except GapRefused as error:
            raise InvalidInput.at(Place(("inputs", 0, *error.place.loc), str(error))) from None
        if self._ends:
            with suppress(SessionNotFound):  # it was ended by another way meanwhile
                await self._sessions.close(self._key)
        return taken

    async def _start(self, model: Model, query: Query) -> None:
        with suppress(SessionNotFound):
            former = await self._sessions.read(self._key)
            self._check_model(former, None)
            log.warning("a sequence that has not ended starts anew", sequence_id=self._id, model=model.name)
            await self._sessions.close(self._key)
        await self._sessions.open(self._owner, model, self._id, query.initial_state, query.static_inputs)

    async def _session(self) -> Session:
        try:
            session = await self._sessions.get(self._id, self._owner)
        except SessionNotFound:
            raise self._unknown() from None
        self._check_model(session, self._version)
        self._key = session.key
        return session

    def _check_model(self, session: Session, version: str | None) -> None:
        if session.model != self._name or version not in (None, session.version):
            asked = f"'{self._name}'" if version is None else f"'{self._name}', version '{version}'"
            raise BadRequest(
                f"sequence {self._id} is one of model '{session.model}', version '{session.version}', not of {asked}: "
                "take another id"
            )

    def _unknown(self) -> BadRequest:
        return BadRequest(
            f"inference request for sequence {self._id} to model '{self._name}' must specify the START flag on the "
            "first request of the sequence: there is none of this id, or no more; it ended, or was idle for too long"
        )
