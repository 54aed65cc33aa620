"""`POST /v1/models/{name}/predict` and `…/trace`: the answer, and what happened inside."""

from __future__ import annotations

from dataclasses import replace

from fastapi import Request, Response

from app.api import body, context, query, reply
from app.api.schemas import PredictRequest, TraceRequest


async def predict(request: Request, name: str, version: str | None = None) -> Response:
    """Predict for a batch of sequences of any lengths, a lone sequence, token ids or text."""
    engine, limits = context.of(request).engine, context.of(request).limits
    timeout_s = context.timeout_s(request)
    model = engine.model(name, version)
    asked = await body.read(request, PredictRequest, query.expected(model), limits.max_body_bytes)
    answer = await engine.answer(model, query.to_query(asked, model, limits), timeout_s)
    return reply.respond(reply.prediction(answer, model, query.tokens_of(asked, model)))


async def trace(request: Request, name: str, version: str | None = None) -> Response:
    """Every gate and state at every time step, layer, direction and unit, or the part that is asked for.

    As `Accept` asks: JSON, ragged; `application/vnd.safetensors` or `application/x-npz`, padded with NaN.
    """
    engine, limits = context.of(request).engine, context.of(request).limits
    timeout_s, accept = context.timeout_s(request), request.headers.get("accept")
    reply.check_acceptable(accept)
    model = engine.model(name, version)
    asked = await body.read(request, TraceRequest, query.expected(model), limits.max_body_bytes)
    untraced = query.to_query(asked, model, limits)
    selection = query.to_selection(asked, model.spec, untraced, limits)
    answer = await engine.answer(model, replace(untraced, trace=selection), timeout_s)
    return reply.respond(reply.trace(answer, model, query.tokens_of(asked, model)), accept)
