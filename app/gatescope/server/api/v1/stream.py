"""`/v1/sessions/{session_id}/stream`: the steps of a session over a WebSocket, one message in, one out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial

import structlog
from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message

from gatescope.errors import AppError, BodyTooLarge, NotFound
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api import codecs, context, problems, query, reply
from gatescope.server.api.auth import SUBPROTOCOL
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.codecs.json import writing
from gatescope.server.api.query_reader import QueryReader
from gatescope.server.api.sampling import require_tokens
from gatescope.server.api.schema.requests import StreamedStepRequest
from gatescope.server.api.v1.sessions import taken
from gatescope.server.serving.deadline import Deadline
from gatescope.server.serving.session import SessionKey
from gatescope.server.serving.token_stream import TokenStream

log = structlog.get_logger(__name__)

_MESSAGE = QueryReader(StreamedStepRequest, query.to_step)


async def stream(websocket: WebSocket, session_id: str) -> None:
    """Take the steps that the messages state: text is JSON, bytes are safetensors, and the reply comes as they came.

    Where a message asks for it, each token of the horizon comes before that, in a message of its own.

    What is wrong with a message is answered with a problem in JSON, and the stream goes on; when the session is gone,
    it is closed.
    """
    here = context.of(websocket)
    try:
        session = await here.sessions.get(session_id, context.owner_of(websocket))
    except AppError as error:
        await websocket.send_denial_response(problems.response(error))
        return
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
    log.info("stream opened", session_id=session_id)
    while (message := await websocket.receive())["type"] == "websocket.receive":
        try:
            await _answer(websocket, session.key, message)
        except AppError as error:
            await websocket.send_text(problems.body_of(error).decode())
            if isinstance(error, NotFound):
                await websocket.close(problems.close_code(error), type(error).__name__)
                break
        except WebSocketDisconnect:  # while it was answered: its step was given up
            break
        except Exception:  # a stream has no middleware's last resort
            log.exception("a step failed", session_id=session_id)
            await websocket.send_text(bytes(problems.internal().pieces[0]).decode())
    log.info("stream closed", session_id=session_id)


async def _told(websocket: WebSocket, model: Model, asked: Query, take: Callable[[Query], Awaitable[Fields]]) -> Fields:
    """The reply, after each token was sent in a message of its own."""
    require_tokens(asked.sampling, model, "stream")
    tokens = TokenStream(asked, take)
    async with aclosing(tokens.steps()) as steps:
        async for step in steps:
            for drawn in step:
                await websocket.send_text(writing.dumps({"event": "token"} | reply.token(drawn, model)).decode())
    return tokens.answer


async def _answer(websocket: WebSocket, key: SessionKey, message: Message) -> None:
    here, text, content = context.of(websocket), message.get("text"), message.get("bytes") or b""
    if len(text if text is not None else content) > here.limits.max_body_bytes:
        raise BodyTooLarge(f"the message has more than the {here.limits.max_body_bytes:,} bytes that this server takes")
    session = await here.sessions.read(key)
    model = here.sessions.model(session)
    given, codec = (content, codecs.SAFETENSORS) if text is None else (text.encode(), codecs.JSON)
    deadline = Deadline.after(here.limits.request_timeout_s)

    async def take(step: Query) -> Fields:
        return await taken(here, session, model, asked._replace(query=step), deadline)

    async with deadline.limit(), here.admission.place():
        find = partial(here.traces.get, asker=context.owner_of(websocket))
        asked = await _MESSAGE.decode(given, codec, model, here.limits, find)
        answer = await (_told(websocket, model, asked.query, take) if asked.request.stream else take(asked.query))
    pieces = b"".join(await reply.write(answer, codec))
    await (websocket.send_bytes(pieces) if text is None else websocket.send_text(pieces.decode()))
