"""`POST /v2/models/{name}/infer`: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from gatescope.errors import InvalidInput, ModelNotFound, Place, VersionNotFound
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer
from gatescope.server.api import offload, reply
from gatescope.server.api.codecs.json import writing
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.notes import Span, as_text, beside_answer
from gatescope.server.api.v2 import message, question
from gatescope.server.api.v2.message import Message
from gatescope.server.api.v2.question import Question
from gatescope.server.api.v2.schemas import InferParameters
from gatescope.server.api.v2.sequence import Sequence
from gatescope.server.api.v2.templates import MessageTemplates
from gatescope.server.serving.deadline import Deadline

_MICROSECONDS = 1_000_000


async def infer(request: Request, name: str, version: str | None = None) -> Reply:
    """Answer with the tensors that are asked for: the prediction, the output, the final state, any gate.

    A body is JSON, and behind it what comes in binary: `Inference-Header-Content-Length` tells where the JSON ends.
    Requests and replies may be compressed with gzip or deflate.
    """
    here, accept_encoding = request.context, request.head.text(b"accept-encoding")
    with known():
        here.engine.entry(name).version(version)
    content = await message.read(request)
    length = message.json_length(request.head, len(content))
    with known():
        model = here.engine.entry(name).model(version)
    posed = _TEMPLATES.question(content, length, model) if model is not None and here.engine.ready else None
    if model is not None and posed is not None:
        answer = await here.engine.submit(model, posed.query, request.deadline)
        return await message.respond(_told("", model, answer, posed), posed.outputs(answer), accept_encoding)
    if length == 0:
        asked = question.raw(content, here.engine.model(name, version))
    else:
        asked = await message.parse(content, length)
    with question.in_tensors():
        return await _answer(request, asked, name, version, content, length)


class known:  # noqa: N801 - `with` this
    """Say of a model that there is not what clients of the protocol look for."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Nothing is wrong yet."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Say it."""
        if isinstance(error, ModelNotFound | VersionNotFound):
            raise type(error)(f"Request for unknown model: {error.detail}") from None


async def _answer(
    request: Request, asked: Message, name: str, version: str | None, content: bytes, length: int | None
) -> Reply:
    here, parameters = request.context, asked.request.parameters or InferParameters()
    deadline = _earlier(request.deadline, parameters.timeout)
    if parameters.sequence_id:
        sequence = Sequence(here.engine, here.sessions, request.owner, name, version, parameters)
        model = await sequence.model()
        goes_on = not parameters.sequence_start
        posed = await offload.run(asked.is_large, question.from_message, asked, model, here.limits, goes_on=goes_on)
        session, answer, _ = await sequence.step(model, posed.query, deadline)
        span = Span(posed.query.sequence_lengths, steps_before=session.steps_before(posed.query))
    else:
        _check_flags(parameters)
        span = None
        model = here.engine.model(name, version)
        posed = await offload.run(asked.is_large, question.from_message, asked, model, here.limits)
        _TEMPLATES.learn(content, length, model, asked, posed)
        answer = await here.engine.answer(model, posed.query, deadline)
    of_sequence = {"sequence_id", "sequence_start", "sequence_end"} if parameters.sequence_id else set()
    told = _told(asked.request.id, model, answer, posed, parameters.model_dump(include=of_sequence), span)
    return await message.respond(told, posed.outputs(answer), request.head.text(b"accept-encoding"))


def _earlier(deadline: Deadline | None, timeout_us: int | None) -> Deadline | None:
    """The request's deadline, or the one that its message states where that is earlier."""
    if not timeout_us:
        return deadline
    stated = Deadline.after(timeout_us / _MICROSECONDS)
    return stated if deadline is None or stated.ends < deadline.ends else deadline


def _check_flags(parameters: InferParameters) -> None:
    if parameters.sequence_start or parameters.sequence_end:
        text = "is missing: the requests of a sequence are told from others by an id, a number from 1 or a string"
        raise InvalidInput.at(Place(("parameters", "sequence_id"), text))


def _told(
    request_id: str | None,
    model: Model,
    answer: Answer,
    posed: Question,
    of_sequence: Mapping[str, Any] = MappingProxyType({}),
    span: Span | None = None,
) -> dict[str, Any]:
    """The reply without its outputs; `span` is that of a sequence's step."""
    told: dict[str, Any] = {"id": request_id} if request_id else {}
    told["model_name"], told["model_version"] = model.name, model.version
    more = {**of_sequence}
    if answer.trace is not None:
        more["residual"] = np.float32(answer.trace.residual)
    if answer.generated is not None:
        more["sampling"] = writing.dumps(reply.sampling(answer.generated)).decode()
        more["samples"] = writing.dumps(reply.samples(answer.generated, model)).decode()
    if posed.predicts:
        more |= {"verified": False} if model.verified is None else {}
    notes = beside_answer(posed.notes, model, span or Span.of(posed.query), predicts=posed.predicts)
    if notes:
        more["notes"] = as_text(notes)
    if more:
        told["parameters"] = more
    return told


_TEMPLATES = MessageTemplates()
