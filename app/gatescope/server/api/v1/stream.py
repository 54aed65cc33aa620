"""`/v1/sessions/{session_id}/stream`: the steps of a session over a WebSocket, one message in, one out."""

from __future__ import annotations

import structlog
from fastapi import WebSocket
from starlette.types import Message

from gatescope.errors import AppError, BodyTooLarge, NotFound
from gatescope.server.api import codecs, context, problems, reply
from gatescope.server.api.v1.sessions import taken_of
from gatescope.server.serving.deadline import Deadline

log = structlog.get_logger(__name__)


async def stream(websocket: WebSocket, session_id: str) -> None:
    """Take the steps that the messages state: text is JSON, bytes are safetensors, and the reply comes as they came.

    What is wrong with a message is answered with a problem in JSON, and the stream goes on; when the session is gone,
    it is closed.
    """
    here = context.of(websocket)
    try:
        await here.sessions.get(session_id)
    except AppError as error:
        await websocket.send_denial_response(problems.response(error))
        return
    await websocket.accept()
    log.info("stream opened", session_id=session_id)
    while (message := await websocket.receive())["type"] == "websocket.receive":
        try:
            await _answer(websocket, session_id, message)
        except AppError as error:
            await websocket.send_text(problems.body_of(error).decode())
            if isinstance(error, NotFound):
                await websocket.close(problems.close_code(error), type(error).__name__)
                break
        except Exception:  # a stream has no middleware's last resort
            log.exception("a step failed", session_id=session_id)
            await websocket.send_text(bytes(problems.internal().pieces[0]).decode())
    log.info("stream closed", session_id=session_id)


async def _answer(websocket: WebSocket, session_id: str, message: Message) -> None:
    here, text, content = context.of(websocket), message.get("text"), message.get("bytes") or b""
    if len(text if text is not None else content) > here.limits.max_body_bytes:
        raise BodyTooLarge(f"the message has more than the {here.limits.max_body_bytes:,} bytes that this server takes")
    session = await here.sessions.get(session_id)
    model = here.sessions.model(session)
    given, codec = (content, codecs.SAFETENSORS) if text is None else (text.encode(), codecs.JSON)
    deadline = Deadline.after(here.limits.request_timeout_s)
    async with deadline.limit(), here.admission.place():
        answer = await taken_of(here, session, model, given, codec, deadline)
    pieces = b"".join(await reply.write(answer, codec))
    await (websocket.send_bytes(pieces) if text is None else websocket.send_text(pieces.decode()))
