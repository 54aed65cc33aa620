"""`/v1/sessions`: stateful streams. A client sends what is new, and the state of what came before is kept for it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import Request, Response

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer
from gatescope.server.api import accept, aside, body, context, query, reply
from gatescope.server.api.context import Context
from gatescope.server.api.prepared import PreparedJSON
from gatescope.server.api.quick import ACCEPTED, Asked, Encode, Encoded, Headers, encoded
from gatescope.server.api.schemas import (
    InitialState,
    ModelName,
    SessionList,
    SessionReply,
    SessionRequest,
    States,
    StepRequest,
)
from gatescope.server.serving.session import Session
from gatescope.server.serving.session_stores.store import not_found

_PREPARED = PreparedJSON(StepRequest, query.to_step)


async def open_session(request: Request, response: Response) -> SessionReply:
    """Begin a stream of a model that is not bidirectional."""
    here = context.of(request)
    with context.hold(request):
        fields = await body.fields_of(request, here.limits.max_body_bytes)
        model = model_named_in(fields, here)
        asked = body.checked(fields, SessionRequest, query.expected(model))
        state = None if asked.initial_state is None else query.to_state(asked.initial_state, "initial_state")
        session = await here.sessions.open(model, asked.session_id, state)
    response.headers["Location"] = f"/v1/sessions/{session.session_id}"
    return told(session)


async def list_sessions(request: Request) -> SessionList:
    """Every session that is open, the one that was used last comes last."""
    return SessionList(sessions=[told(session) for session in await context.of(request).sessions.list()])


async def get_session(request: Request, session_id: str) -> SessionReply:
    """One session."""
    return told(await context.of(request).sessions.get(session_id))


async def end_session(request: Request, session_id: str) -> Response:
    """End a stream, and forget its state."""
    await context.of(request).sessions.close(session_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def take_step(request: Request, session_id: str) -> Response:
    """Predict for what is new of a stream, and trace it where that is wanted; the next step goes on from there."""
    here = context.of(request)
    with context.hold(request) as held:
        media_type = accept.of(request, reply.PREDICT_FORMATS)
        session = await here.sessions.get(session_id)
        model = here.sessions.model(session)
        asked = await body.read(request, StepRequest, query.expected(model), here.limits.max_body_bytes)
        held.watch()
        return await reply.respond(await taken(here, session, model, asked), media_type)


def _step_quickly(here: Context, content: bytes, headers: Headers, session_id: str) -> Asked | None:
    """Take a step that is nothing but numbers, of a session that is at hand; None of any other."""
    media_type, session = ACCEPTED.get(headers.get(b"accept")), here.sessions.at_hand(session_id)
    if media_type is None or session is None:
        return None
    model = here.sessions.model(session)
    wanted = _PREPARED.query(content, model, here.limits)
    stepping = None if wanted is None else here.sessions.begin(session, model, wanted)
    if stepping is None:
        return None

    def encode(answer: Answer) -> Encoded | Encode:
        if stepping.session is None:
            raise not_found(session_id)
        return encoded(_reply(stepping.session, answer, model, None), answer, media_type)

    return Asked(stepping.answer, encode)


QUICKLY = {reply.JSON: _step_quickly}
"""What takes steps of bodies like most others, by their content type."""


async def get_state(request: Request, session_id: str) -> States:
    """Where a stream stands, each (layers, 1, unit)."""
    state = await context.of(request).sessions.state(session_id)
    return States(**{name: value.tolist() for name, value in state.named().items()})


async def put_state(request: Request, session_id: str) -> SessionReply:
    """Let a stream go on from another state."""
    here = context.of(request)
    with context.hold(request):
        model = here.sessions.model(await here.sessions.get(session_id))
        given = await body.read(request, InitialState, query.expected(model), here.limits.max_body_bytes)
        return told(await here.sessions.set_state(session_id, query.to_state(given)))


async def taken(here: Context, seen: Session, model: Model, asked: StepRequest) -> reply.Reply:
    """The reply to a step of a session of this model, which was just read.

    Raises:
        InvalidInput: what it asks for does not go together, or is not for one sequence.
        AppError: what `Sessions.step` raises.
    """
    wanted = query.to_step(asked, model, here.limits)
    session, answer = await here.sessions.step(seen.session_id, wanted, step_number=asked.step_number, seen=seen)
    return _reply(session, answer, model, query.tokens_of(asked, model))


async def taken_of_text(here: Context, seen: Session, model: Model, text: str) -> reply.Reply:
    """The same of a body in JSON; raises `InvalidJSON`, too."""
    content = text.encode()
    wanted = None if len(content) > aside.MOST_BYTES else _PREPARED.query(content, model, here.limits)
    if wanted is None:
        expected = query.expected(model).within(here.limits)
        return await taken(here, seen, model, await body.decoded(content, body.from_json, StepRequest, expected))
    session, answer = await here.sessions.step(seen.session_id, wanted, seen=seen)
    return _reply(session, answer, model, None)


def _reply(session: Session, answer: Answer, model: Model, tokens: list[list[str]] | None) -> reply.Reply:
    told_of = {"session_id": session.session_id, "steps": session.steps}
    traced = {} if answer.trace is None else {"trace": reply.inside(answer)}
    return reply.prediction(answer, model, tokens) | told_of | traced


def told(session: Session) -> SessionReply:
    """What a client may know of a session."""
    return SessionReply(
        session_id=session.session_id,
        model=ModelName(name=session.model, version=session.version),
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
