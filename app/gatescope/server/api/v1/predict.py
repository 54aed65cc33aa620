"""`POST /v1/models/{name}/predict` and `…/trace`: the answer, and what happened inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastapi import Request, Response

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.server.api import accept, body, context, ndjson, query, reply
from gatescope.server.api.context import Context
from gatescope.server.api.limits import Limits
from gatescope.server.api.prepared import PreparedJSON, PreparedTensors
from gatescope.server.api.quick import ACCEPTED, Asked, Headers, encoded
from gatescope.server.api.schemas import PredictRequest, TraceRequest
from gatescope.server.serving import chunking
from gatescope.server.serving.deadline import Deadline


async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """Predict for a batch of sequences of any lengths, a lone sequence, token ids or text."""
    engine, limits = context.of(request).engine, context.of(request).limits
    with context.hold(request) as held:
        model = engine.model(name, version)
        media_type = accept.of(request, reply.PREDICT_FORMATS)
        asked = await body.read(request, PredictRequest, query.expected(model), limits.max_body_bytes)
        wanted = query.to_query(asked, model, limits)
        held.watch()
        with query.in_body():
            answer = await engine.answer(model, wanted)
        told = await reply.told(reply.prediction, answer, model, query.tokens_of(asked, model))
        return await reply.respond(told, media_type)


async def trace(request: Request, name: str, version: str | None = None) -> Response:
    """Every gate and state at every time step, layer, direction and unit, or the part that is asked for.

    As `Accept` asks: JSON, ragged; `application/vnd.safetensors` or `application/x-npz`, padded with NaN;
    `application/x-ndjson`, one line per time step as it is computed, for long sequences.
    """
    engine, limits = context.of(request).engine, context.of(request).limits
    with context.hold(request) as held:
        model = engine.model(name, version)
        media_type = accept.of(request, reply.TRACE_FORMATS)
        asked = await body.read(request, TraceRequest, query.expected(model), limits.max_body_bytes)
        untraced, tokens = query.to_query(asked, model, limits), query.tokens_of(asked, model)
        if media_type == reply.NDJSON:
            selection = query.to_streamed_selection(asked, model, untraced, limits)
            deadline = Deadline.after(held.seconds)
            with query.in_body():
                traced = await chunking.trace(engine, model, untraced, selection, limits.max_trace_bytes, deadline)
                return await ndjson.respond(traced, tokens)
        selection = query.to_selection(asked, model, untraced, limits)
        held.watch()
        with query.in_body():
            answer = await engine.answer(model, replace(untraced, trace=selection))
        return await reply.respond(await reply.told(reply.trace, answer, model, tokens), media_type)


Tell = Callable[[Answer, Model, None], reply.Reply]
"""Makes the reply of an answer; no tokens were read."""


def _quickly(prepared: PreparedJSON[Any] | PreparedTensors[Any], tell: Tell) -> Callable[..., Asked | None]:
    def begin(here: Context, content: bytes, headers: Headers, name: str, version: str | None = None) -> Asked | None:
        """Answer a body of nothing but numbers; None of any other."""
        media_type = ACCEPTED.get(headers.get(b"accept"))
        model = here.engine.model(name, version)
        wanted = None if media_type is None else prepared.query(content, model, here.limits)
        if media_type is None or wanted is None:
            return None

        return Asked(
            here.engine.submit(model, wanted), lambda answer: encoded(tell(answer, model, None), answer, media_type)
        )

    return begin


def _to_traced(asked: TraceRequest, model: Model, limits: Limits) -> Query:
    untraced = query.to_query(asked, model, limits)
    return replace(untraced, trace=query.to_selection(asked, model, untraced, limits))


PREDICTED_QUICKLY = {
    reply.JSON: _quickly(PreparedJSON(PredictRequest, query.to_query), reply.prediction),
    reply.SAFETENSORS: _quickly(PreparedTensors(PredictRequest, query.to_query), reply.prediction),
}
"""What predicts from bodies like most others, by their content type."""

TRACED_QUICKLY = {
    reply.JSON: _quickly(PreparedJSON(TraceRequest, _to_traced), reply.trace),
    reply.SAFETENSORS: _quickly(PreparedTensors(TraceRequest, _to_traced), reply.trace),
}
"""What traces bodies like most others, likewise."""
