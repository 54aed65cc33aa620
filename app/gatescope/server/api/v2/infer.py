"""`POST /v2/models/{name}/infer`: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastapi import Request, Response

from gatescope.errors import InvalidInput, ModelNotFound, Place, VersionNotFound
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer
from gatescope.server.api import aside, context
from gatescope.server.api.context import Context
from gatescope.server.api.v2 import message, question
from gatescope.server.api.v2.message import Message, Output
from gatescope.server.api.v2.schemas import InferParameters
from gatescope.server.api.v2.sequence import Sequence
from gatescope.server.serving.deadline import Deadline

_MICROSECONDS = 1_000_000


async def infer(request: Request, name: str, version: str | None = None) -> Response:
    """Answer with the tensors that are asked for: the prediction, the output, the final state, any gate.

    A body is JSON, and behind it what comes in binary: `Inference-Header-Content-Length` tells where the JSON ends.
    Requests and replies may be compressed with gzip or deflate.
    """
    engine = context.of(request).engine
    with context.hold(request) as held:
        with known():
            engine.entry(name).version(version)
        content = await message.read(request)
        if message.is_raw(request):
            asked = question.raw(content, engine.model(name, version))
        else:
            asked = await message.parse(request, content)
        held.watch()
        with question.in_tensors():
            told, outputs = await _answer(context.of(request), asked, name, version, held.seconds)
        return await message.respond(told, outputs, request.headers.get("accept-encoding"))


@contextmanager
def known() -> Iterator[None]:
    """Say of a model that there is not what clients of the protocol look for."""
    try:
        yield
    except (ModelNotFound, VersionNotFound) as error:
        raise type(error)(f"Request for unknown model: {error.detail}") from None


async def _answer(
    served: Context, asked: Message, name: str, version: str | None, most_s: float
) -> tuple[dict[str, Any], list[Output]]:
    """What the reply says, and its outputs."""
    engine, parameters = served.engine, asked.request.parameters or InferParameters()
    deadline = Deadline.after(min(most_s, parameters.timeout / _MICROSECONDS) if parameters.timeout else most_s)
    if parameters.sequence_id:
        sequence = Sequence(engine, served.sessions, name, version, parameters)
        model = await sequence.model()
        posed = await aside.run(asked.is_large, question.of, asked, model, served.limits)
        answer = await sequence.step(model, posed.query, deadline)
    else:
        _check_flags(parameters)
        model = engine.model(name, version)
        posed = await aside.run(asked.is_large, question.of, asked, model, served.limits)
        answer = await engine.answer(model, posed.query, deadline)
    return _told(asked, model, answer, parameters), posed.outputs(answer)


def _check_flags(parameters: InferParameters) -> None:
    if parameters.sequence_start or parameters.sequence_end:
        text = "is missing: the requests of a sequence are told from others by an id, a number from 1 or a string"
        raise InvalidInput.at(Place(("parameters", "sequence_id"), text))


def _told(asked: Message, model: Model, answer: Answer, parameters: InferParameters) -> dict[str, Any]:
    """The reply without its outputs."""
    told: dict[str, Any] = {"id": asked.request.id} if asked.request.id else {}
    told |= {"model_name": model.name, "model_version": model.version}
    of_sequence = {"sequence_id", "sequence_start", "sequence_end"} if parameters.sequence_id else set()
    return told | more(answer, parameters.model_dump(include=of_sequence))


def more(answer: Answer, of_sequence: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the reply, where there are some."""
    traced = {} if answer.trace is None else {"residual": np.float32(answer.trace.residual)}
    more = of_sequence | traced
    return {"parameters": more} if more else {}
