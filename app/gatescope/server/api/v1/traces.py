"""`/v1/traces`: traces that are computed once and looked at many times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from http import HTTPStatus

import numpy as np
import torch
from starlette.datastructures import QueryParams

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.query import Answer
from gatescope.selection import Selection
from gatescope.server.api import body, negotiation, places, query, reply, sequences
from gatescope.server.api.codecs.codec import Fields, StreamWriter
from gatescope.server.api.codecs.ragged import Ragged
from gatescope.server.api.messages import Reply, Request, StreamedReply
from gatescope.server.api.notes import Span, beside_answer, notes_of
from gatescope.server.api.row_labels import labels_of
from gatescope.server.api.schema.requests import PredictRequest, StoreTraceRequest
from gatescope.server.api.v1.sessions import model_named_in
from gatescope.server.api.view import check_size, to_view
from gatescope.server.serving.chunking import Chunk, step_bytes
from gatescope.server.serving.stored import StoredTrace, Told, View
from gatescope.server.serving.tuning import CHUNK_BYTES
from gatescope.state import State


async def store_trace(request: Request) -> Reply:
    """Compute a trace of everything and keep it, to be looked at part by part."""
    here = request.context
    given = await body.read_fields(request)
    model = model_named_in(given, here)
    expected = query.expected(model).within(here.limits)
    asked = await asyncio.to_thread(body.validate, given, StoreTraceRequest, expected)
    untraced, tokens = query.to_query(asked, model, here.limits), sequences.tokens_of(asked, model)
    notes, most = notes_of(asked, model, tokens), here.limits.max_trace_bytes
    told_now = beside_answer(notes, model, Span.of(untraced), predicts=False)
    told = Told(tokens, notes, labels_of(asked, untraced.sequence_lengths.tolist(), model))
    with places.in_body():
        here.traces.check_size(model, untraced, most)
    await request.checked()
    with places.in_body():
        trace_id = await here.traces.record(request.owner, here.engine, model, untraced, told, most, request.deadline)
    location = (b"location", f"/v1/traces/{trace_id}".encode())
    kept = _kept(here.traces.get(trace_id, request.owner), here.traces.expires_at(trace_id), trace_id) | (
        {"notes": told_now} if told_now else {}
    )
    return reply.of_json(kept, HTTPStatus.CREATED, [location])


async def get_trace(request: Request, trace_id: str) -> Reply:
    """What was computed beside the signals: a trace reply without them."""
    traces = request.context.traces
    stored = traces.get(trace_id, request.owner)
    kept = _kept(stored, traces.expires_at(trace_id), trace_id)
    return await reply.respond(kept | await asyncio.to_thread(_described, stored))


async def get_trace_values(request: Request, trace_id: str) -> Reply | StreamedReply:
    """A part of the signals, or with `bins` a picture of it: time cut into spans, each reduced to one value.

    As `Accept` asks, in any format of a trace reply. What needs no signals stands in the trace itself.
    """
    traces, limits = request.context.traces, request.context.limits
    writer = request.head.find(negotiation.trace_writer)
    stored = traces.get(trace_id, request.owner)
    view = to_view(QueryParams(request.head.query_values), stored)
    if isinstance(writer, StreamWriter):
        return _streamed(partial(traces.get, trace_id, request.owner), view, writer)
    check_size(view, limits.max_trace_bytes)
    seen = await asyncio.to_thread(lambda: _seen(stored, view) | {"signals": stored.values(view)})
    return await reply.respond(seen, writer)


async def delete_trace(request: Request, trace_id: str) -> Reply:
    """Keep a trace no more."""
    request.context.traces.delete(trace_id, request.owner)
    return Reply(HTTPStatus.NO_CONTENT, (), None)


def stored_in(given: Fields, request: Request, name: str, version: str | None) -> StoredTrace | None:
    """The stored trace that a body names in place of a predict request; None where it names none.

    Args:
        given: the body.
        request: whose body it is.
        name: of the model that the path names.
        version: of that, if the path names one.

    Raises:
        TraceNotFound: there is none of this id, or no more.
        InvalidInput: it is of another model, or stands beside a predict request.
    """
    trace_id = given.get("trace_id")
    if not isinstance(trace_id, str):
        return None
    if beside := sorted(PredictRequest.model_fields.keys() & given.keys()):
        raise InvalidInput.at(Place(("body", beside[0]), "'trace_id' stands in its place: leave one of the two out"))
    stored = request.context.traces.get(trace_id, request.owner)
    model = stored.model
    if name != model.name or version not in (None, model.version):
        message = f"is a trace of model '{model.name}', version '{model.version}'"
        raise InvalidInput.at(Place(("body", "trace_id"), message))
    return stored


def _kept(stored: StoredTrace, expires_at: float, trace_id: str) -> Fields:
    """What `StoredTraceReply` describes, without the notes."""
    return {"trace_id": trace_id, "shape": stored.shape, "bytes": stored.bytes, "expires_at": expires_at}


def _described(stored: StoredTrace) -> Fields:
    horizon = stored.answer.horizon
    span = Span.of(stored.read)._replace(lengths=stored.read.sequence_lengths - horizon, horizon=horizon)
    said = reply.Said(stored.tokens, stored.notes, stored.labels, span=span)
    answered = reply.prediction(stored.answer, stored.model, said) | ({"horizon": horizon} if horizon else {})
    return answered | _inputs(stored) | _around(stored.answer, stored, stored.everything, stored.initial_state)


def _inputs(stored: StoredTrace) -> Fields:
    """What a model of features read; no `inputs` where the traced LSTM has time steps of its own."""
    static = {} if stored.read.static_inputs is None else {"static_inputs": stored.read.static_inputs.numpy()}
    if stored.tokens is not None or not stored.answer.aligned:
        return static
    return {"inputs": Ragged(stored.answer.inputs.numpy(), stored.lengths)} | static


def _seen(stored: StoredTrace, view: View) -> Fields:
    """The reply to a view without its signals."""
    answer, initial_state = stored.answer_of(view.rows), stored.initial_state_of(view.rows)
    around = reply.prediction(answer, stored.model) | _around(answer, stored, view.selection, initial_state)
    binned = {} if view.reduce is None else {"bins": len(view.bins), "reduce": view.reduce}
    return around | binned | {"time_steps": view.bins.time_steps}


def _around(answer: Answer, stored: StoredTrace, selection: Selection, initial_state: State) -> Fields:
    """A trace reply without its signals and without what a predict reply says."""
    described = reply.description(selection, answer, stored.model, initial_state)
    return described | {"residual": np.float32(stored.residual)}


def _streamed(stored: Callable[[], StoredTrace], view: View, writer: StreamWriter) -> StreamedReply:
    """Chunk by chunk, each read when the client has taken what was before it.

    A trace that goes meanwhile is not held on to: the last line then says so.
    """
    seen = _seen(stored(), view)
    end = {name: seen.pop(name) for name in ("final_state", "residual")}
    at_once = max(1, CHUNK_BYTES // step_bytes(view.selection, len(view.rows)))

    async def chunks() -> AsyncIterator[Chunk]:
        for first in range(0, len(view.bins), at_once):
            part = view.part(first, first + at_once)
            values = await asyncio.to_thread(stored().values, part)
            signals = {name: torch.from_numpy(array) for name, array in values.items()}
            yield Chunk(list(range(len(view.rows))), part.bins.time_steps, signals)

    header = seen | {"signals": view.selection.signals}
    return StreamedReply(writer.stream(header, chunks(), lambda: end), writer.media_type, writer.failure)
