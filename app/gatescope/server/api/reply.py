"""The engine's `Answer` -> the fields of a reply -> the reply, in one of the formats of `codecs`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Prediction
from gatescope.selection import Selection
from gatescope.server.api import codecs, offload
from gatescope.server.api.codecs.codec import Fields, ReplyWriter, StreamWriter
from gatescope.server.api.codecs.json import writing
from gatescope.server.api.codecs.ragged import Ragged, ragged
from gatescope.server.api.messages import Content, Reply, StreamedReply
from gatescope.server.api.notes import Span, beside_prediction
from gatescope.server.api.query_reader import ReadQuery
from gatescope.server.serving import states
from gatescope.server.serving.chunking import Chunk, ChunkedTrace
from gatescope.server.serving.stored import Note
from gatescope.state import State

AXES = ["batch", "layer", "direction", "time", "unit"]

_FEW_VALUES = 256


class Said(NamedTuple):
    """What of a request its reply tells."""

    tokens: list[list[str]] | None = None
    """What a model of tokens read."""
    notes: Sequence[Note] = ()
    """What was assumed when it was read."""
    begun: State | None = None
    """Where its sequences began, of a model with several recurrent modules that is traced."""
    span: Span | None = None
    """Which time steps it reads; None where that is told elsewhere."""


NOTHING = Said()


def of_request(asked: ReadQuery[Any], model: Model, span: Span | None = None) -> Said:
    """What the reply to this request tells of it; `span` is a session's, of one of its steps."""
    is_joint = asked.query.trace is not None and states.has_several_modules(model)
    begun = states.begun(asked.query, model) if is_joint else None
    return Said(asked.tokens, asked.notes, begun, span or Span.of(asked.query))


def prediction(answer: Answer, model: Model, said: Said = NOTHING) -> Fields:
    """The reply to a predict request."""
    return _answered(answer, model, said, predicts=answer.prediction is not None)


def _answered(answer: Answer, model: Model, said: Said, *, predicts: bool) -> Fields:
    """The same; `predicts` says whether a prediction stands here, or further on."""
    fields = _about(model, said, predicts=predicts)
    lengths = fields["sequence_lengths"] = answer.sequence_lengths.tolist()
    if said.tokens is not None:
        fields["tokens"] = _with_written(said.tokens, answer, model)
    if answer.prediction is not None:
        fields["prediction"] = _prediction(answer.prediction, answer, model, None)
    if answer.heads is not None:
        fields["heads"] = {name: _prediction(each, answer, model, name) for name, each in answer.heads.items()}
    if answer.output is not None:
        fields["output"] = ragged(answer.output.numpy(), lengths)
    if answer.final_state is not None:
        fields["final_state"] = state(answer.final_state, model)
    return fields


def trace(answer: Answer, model: Model, said: Said = NOTHING) -> Fields:
    """The reply to a trace request; its `signals` are still padded arrays, NaN where a sequence has ended."""
    return prediction(answer, model, said) | inside(answer, model, said)


def inside(answer: Answer, model: Model, said: Said = NOTHING) -> Fields:
    """What a trace reply says beyond a prediction."""
    trace = answer.trace
    if trace is None:
        raise TypeError("the answer holds no trace")
    described = description(trace.selection, answer, model, said.begun or trace.initial_state)
    signals = {name: values.numpy() for name, values in trace.signals.items()}
    final_state = trace.final_state if said.begun is None or answer.final_state is None else answer.final_state
    return described | {
        "final_state": state(final_state, model),
        "residual": np.float32(trace.residual),
        "signals": signals,
    }


def description(selection: Selection, answer: Answer, model: Model, initial_state: State) -> Fields:
    """What a trace reply says of its axes and of where it began."""
    return {
        "module": answer.module,
        "axes": AXES,
        "layers": selection.layers,
        "directions": selection.directions,
        "units": selection.units,
        "time_steps": selection.time_steps(max(answer.sequence_lengths.tolist())),
        "initial_state": state(initial_state, model),
    }


def state(carried: State, model: Model) -> Fields:
    """The states of a lone recurrent module, or of several by their names."""
    split = model.pipeline.split_state(carried)
    return (
        _named_state(carried)
        if split is None
        else {"modules": {name: _named_state(each) for name, each in split.items()}}
    )


async def respond_to(
    describe: Callable[[Answer, Model, Said], Fields], answer: Answer, model: Model, said: Said, writer: ReplyWriter
) -> Reply:
    """The reply that `describe` makes of an answer, written in this format."""
    if _is_small(answer):
        return Reply(200, (writer.encode(describe(answer, model, said)),), writer.media_type)
    predicted = _predictions(answer)
    if sum(each.values.nbytes for each in predicted) > offload.MAX_LOOP_BYTES:  # their probabilities take long
        fields = await asyncio.to_thread(describe, answer, model, said)
    else:
        fields = describe(answer, model, said)
    return await respond(fields, writer)


async def respond(fields: Fields, writer: ReplyWriter = codecs.JSON) -> Reply:
    """The reply written in this format."""
    return Reply(200, await write(fields, writer), writer.media_type)


async def write(fields: Fields, writer: ReplyWriter) -> Sequence[Content]:
    """The body of a reply in pieces; a large one is written on another thread."""
    if writer.is_large(fields):
        return await offload.write(writer.encode_pieces, fields)
    return (writer.encode(fields),)


async def stream(traced: ChunkedTrace, said: Said, writer: StreamWriter) -> StreamedReply:
    """The reply to a trace that is computed in chunks. An error before the first chunk has its own status.

    A client that reads slowly slows the computation, and one that leaves ends it.

    Args:
        traced: to write.
        said: what the reply tells of the request.
        writer: of the format.
    """
    chunks = traced.chunks()
    first = await anext(chunks)
    pieces = writer.stream(_header(traced, said), _chained(first, chunks), lambda: _end(traced))
    return StreamedReply(pieces, writer.media_type)


def of_json(value: object, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """A reply that is this value in JSON."""
    return Reply(status, (writing.dumps(value),), codecs.JSON.media_type, headers)


def of_schema(value: BaseModel, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """A reply that is a value of its schema."""
    return Reply(status, (value.model_dump_json().encode(),), codecs.JSON.media_type, headers)


def _is_small(answer: Answer) -> bool:
    """Whether it is a prediction of a few numbers, as most are: the size of its reply need not be computed."""
    if answer.trace is not None or answer.output is not None or answer.final_state is not None:
        return False
    if answer.heads is None:
        return answer.prediction is None or answer.prediction.values.numel() <= _FEW_VALUES
    return sum(each.values.numel() for each in _predictions(answer)) <= _FEW_VALUES


def _predictions(answer: Answer) -> list[Prediction]:
    """Of every head."""
    first = [] if answer.prediction is None else [answer.prediction]
    return [*first, *answer.heads.values()] if answer.heads else first


def _about(model: Model, said: Said, *, predicts: bool) -> Fields:
    """Which model answers, whether its prediction is not verified, and what was assumed."""
    fields: Fields = {"model": {"name": model.name, "version": model.version}}
    if predicts and model.verified is None:
        fields["model"]["verified"] = False
    notes = beside_prediction(said.notes, model, said.span) if predicts else said.notes
    if notes:
        fields["notes"] = notes
    return fields


async def _chained(first: Chunk, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    yield first
    del first  # its arrays are not needed any more
    async for chunk in chunks:
        yield chunk


def _header(traced: ChunkedTrace, said: Said) -> Fields:
    """The trace reply as far as it is known before the first step."""
    header, selection, model = traced.header, traced.selection, traced.model
    told = _answered(header, model, said, predicts=traced.predicts)
    return told | description(selection, header, model, traced.initial_state) | {"signals": selection.signals}


def _end(traced: ChunkedTrace) -> Fields:
    """The rest of it."""
    known = ("model", "notes", "sequence_lengths")
    answered = prediction(traced.answer, traced.model)
    rest = {name: value for name, value in answered.items() if name not in known}
    return rest | {"residual": np.float32(traced.residual)}


def _named_state(state: State) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in state.named().items()}


def _with_written(tokens: list[list[str]], answer: Answer, model: Model) -> list[list[str]]:
    """What was read, and behind it what the model wrote itself and read on."""
    entries = model.vocabulary.entries if model.vocabulary else ()
    ids, further = answer.inputs.tolist(), answer.horizon
    return [
        [*read, *(entries[index] for index in ids[row][len(read) : len(read) + further])]
        for row, read in enumerate(tokens)
    ]


def _prediction(prediction: Prediction, answer: Answer, model: Model, name: str | None) -> Fields:
    """What the head of this name says, or the first one."""
    cut = _cutter(prediction)
    fields: Fields = {"values": cut(prediction.values)}
    if prediction.choices is None:
        return fields
    head = model.pipeline.head if name is None else model.pipeline.heads[name]
    if head is None:
        raise TypeError("a model without a head predicts nothing")
    labels = model.labels if name is None else model.labels_of(name)
    chosen = _chosen(prediction.choices, prediction.steps)
    fields["labels"] = [_named(row, labels) for row in chosen]
    probabilities = head.probabilities(prediction.values)
    if probabilities is not None:
        fields["probabilities"] = cut(probabilities)
    if answer.horizon and model.vocabulary is not None and model.reads_text:
        fields["text"] = [model.vocabulary.join(row) for row in chosen]
    return fields


def _cutter(prediction: Prediction) -> Callable[[Tensor], Any]:
    """Mark (batch, step, …) with each row's own steps; leave (batch, …) as it is."""
    if prediction.steps is None:
        return Tensor.numpy
    lengths = prediction.steps.tolist()
    return lambda values: ragged(values.numpy(), lengths)


def _chosen(choices: Tensor, steps: Tensor | None) -> np.ndarray | list[np.ndarray]:
    return choices.numpy() if steps is None else Ragged(choices.numpy(), steps.tolist()).rows()


def _named(choices: np.ndarray, labels: tuple[str, ...]) -> Any:
    """The label of each id, or the labels that are given of each row of flags."""
    if choices.dtype != np.bool_:
        return [labels[index] for index in choices] if choices.ndim else labels[int(choices)]
    if choices.ndim == 1:
        return [labels[index] for index in choices.nonzero()[0]]
    return [_named(row, labels) for row in choices]
