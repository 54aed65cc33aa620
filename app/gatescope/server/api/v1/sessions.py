"""`/v1/sessions`: stateful streams. A client sends what is new, and the state of what came before is kept for it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from gatescope.errors import InvalidInput, Place
from gatescope.gaps import GapRefused
from gatescope.pipeline.model import Model
from gatescope.server.api import body, negotiation, query, reply, sequences
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.context import Context
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.notes import Span
from gatescope.server.api.query_reader import QueryReader, ReadQuery
from gatescope.server.api.schema.replies import ModelVersion, SessionList, SessionReply
from gatescope.server.api.schema.requests import InitialState, SessionRequest, StepRequest
from gatescope.server.api.static_inputs import require, static_inputs_of
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.session import Session
from gatescope.server.serving.sessions import refusal

_STEP = QueryReader(StepRequest, query.to_step)
Step = TypeVar("Step", bound=StepRequest)


async def open_session(request: Request) -> Reply:
    """Begin a stream of a model that is not bidirectional."""
    here = request.context
    fields = await body.read_fields(request)
    model = model_named_in(fields, here)
    asked = body.validate(fields, SessionRequest, query.expected(model))
    state = None if asked.initial_state is None else query.to_state(asked.initial_state, model, "initial_state")
    static_inputs = static_inputs_of(asked.static_inputs, asked.static_columns, model, 1)
    if refusal(model) is None:
        require(static_inputs, model)
    session = await here.sessions.open(request.owner, model, asked.session_id, state, static_inputs)
    location = (b"location", f"/v1/sessions/{session.session_id}".encode())
    return reply.of_schema(told(session), HTTPStatus.CREATED, [location])


async def list_sessions(request: Request) -> Reply:
    """Every session that is open, the one that was used last comes last."""
    found = await request.context.sessions.list(request.owner)
    return reply.of_schema(SessionList(sessions=[told(each) for each in found]))


async def get_session(request: Request, session_id: str) -> Reply:
    """One session."""
    return reply.of_schema(told(await request.context.sessions.get(session_id, request.owner)))


async def end_session(request: Request, session_id: str) -> Reply:
    """End a stream, and forget its state."""
    sessions = request.context.sessions
    await sessions.close((await sessions.get(session_id, request.owner)).key)
    return Reply(HTTPStatus.NO_CONTENT, (), None)


async def take_step(request: Request, session_id: str) -> Reply:
    """Predict for what is new of a stream, and trace it where that is wanted; the next step goes on from there."""
    here = request.context
    writer = request.head.find(negotiation.prediction_writer)
    session = await here.sessions.get(session_id, request.owner)
    model = here.sessions.model(session)
    asked = await _STEP.read(request, model, partial(here.traces.get, asker=request.owner))
    return await reply.respond(await taken(here, session, model, asked, request.deadline), writer)


async def get_state(request: Request, session_id: str) -> Reply:
    """Where a stream stands, each (layers, 1, unit)."""
    sessions = request.context.sessions
    session = await sessions.get(session_id, request.owner)
    model = sessions.model(session)
    return reply.of_json(reply.state(sessions.state_of(session, model), model))


async def put_state(request: Request, session_id: str) -> Reply:
    """Let a stream go on from another state."""
    sessions = request.context.sessions
    session = await sessions.get(session_id, request.owner)
    model = sessions.model(session)
    given = await body.read(request, InitialState, query.expected(model))
    return reply.of_schema(told(await sessions.set_state(session.key, query.to_state(given, model))))


async def taken(
    here: Context, seen: Session, model: Model, asked: ReadQuery[Step], deadline: Deadline | None
) -> Fields:
    """The reply to a step of a session of this model, which was just read; raises what `Sessions.step` raises."""
    try:
        session, answer, begin = await here.sessions.step(
            seen.key, asked.query, deadline, step_number=asked.request.step_number, seen=seen
        )
    except GapRefused as error:
        sequences.refuse_gap(error, asked.request, model)
    span = Span(asked.query.sequence_lengths, asked.query.horizon, session.steps_before(asked.query))
    said = reply.of_request(asked._replace(query=asked.query.evolve(packed_state=begin)), model, span)
    told_of: Fields = {"session_id": session.session_id, "steps": session.steps}
    if answer.trace is not None:
        told_of["trace"] = reply.inside(answer, model, said)
        if "final_state" not in (asked.request.outputs or ()):
            answer = replace(answer, final_state=None)  # computed for the trace
    return reply.prediction(answer, model, said) | told_of


def told(session: Session) -> SessionReply:
    """What a client may know of a session."""
    return SessionReply(
        session_id=session.session_id,
        owner=session.owner or None,
        model=ModelVersion(name=session.model, version=session.version),
        steps=session.steps,
        time_steps=session.time_steps,
        created_at=session.created_at,
        expires_at=session.expires_at,
    )


def model_named_in(fields: dict[str, Any], here: Context) -> Model:
    """The model that a body names: what else stands there is checked against it.

    Raises:
        InvalidInput: it names none.
        ModelNotFound, VersionNotFound, ModelUnavailable, NotReady: as the engine says.
    """
    name, version = fields.get("model"), fields.get("version")
    if not isinstance(name, str):
        message = "'model' is missing" if name is None else "must be the name of a model"
        raise InvalidInput.at(Place(("body", "model"), message))
    return here.engine.model(name, version if isinstance(version, str) else None)
