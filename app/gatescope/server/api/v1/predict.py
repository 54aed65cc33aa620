"""`POST /v1/models/{name}/predict` and `…/trace`: the answer, and what happened inside."""

from __future__ import annotations

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api import negotiation, places, query, reply, sampling, selections
from gatescope.server.api.codecs.codec import StreamWriter, TokenWriter
from gatescope.server.api.limits import Limits
from gatescope.server.api.messages import Reply, Request, StreamedReply
from gatescope.server.api.notes import Span
from gatescope.server.api.query_reader import QueryReader, ReadQuery
from gatescope.server.api.schema.requests import PredictRequest, TraceRequest
from gatescope.server.serving import chunking
from gatescope.server.serving.token_stream import TokenStream


async def predict(request: Request, name: str, version: str | None = None) -> Reply | StreamedReply:
    """Predict for a batch of sequences of any lengths, a lone sequence, token ids or text.

    As `Accept` asks: JSON, ragged; `application/vnd.safetensors`, padded with NaN; `text/event-stream`, the tokens
    that a model writes with `horizon` as they are drawn.
    """
    engine = request.context.engine
    model = engine.model(name, version)
    writer = request.head.find(negotiation.predict_writer)
    asked = await _PREDICT.read(request, model)
    if isinstance(writer, TokenWriter):
        return await _written(request, model, asked, writer)
    await request.checked()
    with places.in_body():
        answer = await engine.submit(model, asked.query, request.deadline)
    return await reply.respond_to(reply.prediction, answer, model, reply.of_request(asked, model), writer)


async def trace(request: Request, name: str, version: str | None = None) -> Reply | StreamedReply:
    """Every gate and state at every time step, layer, direction and unit, or the part that is asked for.

    As `Accept` asks: JSON, ragged; `application/vnd.safetensors` or `application/x-npz`, padded with NaN;
    `application/x-ndjson`, one line per time step as it is computed, for long sequences.
    """
    engine = request.context.engine
    model = engine.model(name, version)
    writer = request.head.find(negotiation.trace_writer)
    if isinstance(writer, StreamWriter):
        return await _streamed(request, model, writer)
    asked = await TRACE.read(request, model)
    await request.checked()
    with places.in_body():
        answer = await engine.submit(model, asked.query, request.deadline)
    return await reply.respond_to(reply.trace, answer, model, reply.of_request(asked, model), writer)


async def _written(
    request: Request, model: Model, asked: ReadQuery[PredictRequest], writer: TokenWriter
) -> StreamedReply:
    """The tokens as they are drawn."""
    sampling.require_tokens(asked.query.sampling, model, "horizon")
    engine, deadline = request.context.engine, request.deadline
    tokens = TokenStream(asked.query, lambda query: engine.submit(model, query, deadline))
    with places.in_body():
        return await reply.stream_tokens(tokens, model, reply.of_request(asked, model), writer)


async def _streamed(request: Request, model: Model, writer: StreamWriter) -> StreamedReply:
    """A trace as it is computed: only a chunk of it must fit what is made at once."""
    engine, limits = request.context.engine, request.context.limits
    asked = await _UNTRACED.read(request, model)
    selection = selections.to_streamed_selection(asked.request, model, asked.query, limits)
    selection = selections.of_read_steps(selection, model, asked.query)
    with places.in_body():
        traced = await chunking.trace(engine, model, asked.query, selection, limits.max_trace_bytes, request.deadline)
        said = reply.Said(asked.tokens, asked.notes, asked.labels, span=Span.of(asked.query))
        return await reply.stream(traced, said, writer)


def _to_traced(asked: TraceRequest, model: Model, limits: Limits) -> Query:
    untraced = query.to_query(asked, model, limits)
    selection = selections.to_selection(asked, model, untraced, limits)
    return query.traced(untraced, selections.of_read_steps(selection, model, untraced), model)


_PREDICT, TRACE = QueryReader(PredictRequest, query.to_query), QueryReader(TraceRequest, _to_traced)
_UNTRACED = QueryReader(TraceRequest, query.to_query)
