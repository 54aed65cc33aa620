"""The engine's `Answer` -> the fields of a reply -> the reply, in one of the formats of `codecs`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np
import torch
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
from gatescope.server.serving.chunking import Chunk, ChunkedTrace
from gatescope.state import State

AXES = ["batch", "layer", "direction", "time", "unit"]

_FEW_VALUES = 256


def prediction(answer: Answer, model: Model, tokens: list[list[str]] | None) -> Fields:
    """The reply to a predict request; `tokens` is what a model of tokens read."""
    lengths = answer.sequence_lengths.tolist()
    fields: Fields = {"model": {"name": model.name, "version": model.version}, "sequence_lengths": lengths}
    if tokens is not None:
        fields["tokens"] = _with_written(tokens, answer, model)
    if answer.prediction is not None:
        fields["prediction"] = _prediction(answer.prediction, answer, model)
    if answer.output is not None:
        fields["output"] = ragged(answer.output.numpy(), lengths)
    if answer.final_state is not None:
        fields["final_state"] = _state(answer.final_state)
    return fields


def trace(answer: Answer, model: Model, tokens: list[list[str]] | None) -> Fields:
    """The reply to a trace request; its `signals` are still padded arrays, NaN where a sequence has ended."""
    return prediction(answer, model, tokens) | inside(answer)


def inside(answer: Answer) -> Fields:
    """What a trace reply says beyond a prediction."""
    trace = answer.trace
    if trace is None:
        raise TypeError("the answer holds no trace")
    described = description(trace.selection, answer, trace.initial_state)
    signals = {name: values.numpy() for name, values in trace.signals.items()}
    return described | {
        "final_state": _state(trace.final_state),
        "residual": np.float32(trace.residual),
        "signals": signals,
    }


def description(selection: Selection, answer: Answer, initial_state: State) -> Fields:
    """What a trace reply says of its axes and of where it began."""
    return {
        "module": answer.module,
        "axes": AXES,
        "layers": selection.layers,
        "directions": selection.directions,
        "units": selection.units,
        "time_steps": selection.time_steps(max(answer.sequence_lengths.tolist())),
        "initial_state": _state(initial_state),
    }


async def respond_to(
    describe: Callable[..., Fields], answer: Answer, model: Model, tokens: list[list[str]] | None, writer: ReplyWriter
) -> Reply:
    """The reply that `describe` makes of an answer, written in this format."""
    if _is_small(answer):
        return Reply(200, (writer.encode(describe(answer, model, tokens)),), writer.media_type)
    predicted = answer.prediction
    if predicted is not None and predicted.values.nbytes > offload.MAX_LOOP_BYTES:  # its probabilities take long
        fields = await asyncio.to_thread(describe, answer, model, tokens)
    else:
        fields = describe(answer, model, tokens)
    return await respond(fields, writer)


async def respond(fields: Fields, writer: ReplyWriter = codecs.JSON) -> Reply:
    """The reply written in this format."""
    return Reply(200, await write(fields, writer), writer.media_type)


async def write(fields: Fields, writer: ReplyWriter) -> Sequence[Content]:
    """The body of a reply in pieces; a large one is written on another thread."""
    if writer.is_large(fields):
        return await offload.write(writer.encode_pieces, fields)
    return (writer.encode(fields),)


async def stream(traced: ChunkedTrace, tokens: list[list[str]] | None, writer: StreamWriter) -> StreamedReply:
    """The reply to a trace that is computed in chunks. An error before the first chunk has its own status.

    A client that reads slowly slows the computation, and one that leaves ends it.

    Args:
        traced: to write.
        tokens: what a model of tokens read.
        writer: of the format.
    """
    chunks = traced.chunks()
    first = await anext(chunks)
    pieces = writer.stream(_header(traced, tokens), _chained(first, chunks), lambda: _end(traced))
    return StreamedReply(pieces, writer.media_type)


def of_json(value: object) -> Reply:
    """A reply that is this value in JSON."""
    return Reply(200, (writing.dumps(value),), codecs.JSON.media_type)


def of_schema(value: BaseModel, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Reply:
    """A reply that is a value of its schema."""
    return Reply(status, (value.model_dump_json().encode(),), codecs.JSON.media_type, headers)


def _is_small(answer: Answer) -> bool:
    """Whether it is a prediction of a few numbers, as most are: the size of its reply need not be computed."""
    if answer.trace is not None or answer.output is not None or answer.final_state is not None:
        return False
    return answer.prediction is None or answer.prediction.values.numel() <= _FEW_VALUES


async def _chained(first: Chunk, chunks: AsyncIterator[Chunk]) -> AsyncIterator[Chunk]:
    yield first
    del first  # its arrays are not needed any more
    async for chunk in chunks:
        yield chunk


def _header(traced: ChunkedTrace, tokens: list[list[str]] | None) -> Fields:
    """The trace reply as far as it is known before the first step."""
    header, selection = traced.header, traced.selection
    described = description(selection, header, traced.initial_state)
    return prediction(header, traced.model, tokens) | described | {"signals": selection.signals}


def _end(traced: ChunkedTrace) -> Fields:
    """The rest of it."""
    known = ("model", "sequence_lengths", "tokens")
    answered = prediction(traced.answer, traced.model, None)
    rest = {name: value for name, value in answered.items() if name not in known}
    return rest | {"residual": np.float32(traced.residual)}


def _state(state: State) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in state.named().items()}


def _with_written(tokens: list[list[str]], answer: Answer, model: Model) -> list[list[str]]:
    """What was read, and behind it what the model wrote itself and read on."""
    entries = model.vocabulary.entries if model.vocabulary else ()
    ids, further = answer.inputs.tolist(), answer.horizon
    return [
        [*read, *(entries[index] for index in ids[row][len(read) : len(read) + further])]
        for row, read in enumerate(tokens)
    ]


def _prediction(prediction: Prediction, answer: Answer, model: Model) -> Fields:
    cut = _cutter(prediction)
    fields: Fields = {"values": cut(prediction.values)}
    if prediction.choices is not None:
        chosen = _chosen(prediction.choices, prediction.steps)
        fields["labels"] = [_named(row, model.labels) for row in chosen]
        fields["probabilities"] = cut(torch.softmax(prediction.values, dim=-1))
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
    return [labels[index] for index in choices] if choices.ndim else labels[int(choices)]
