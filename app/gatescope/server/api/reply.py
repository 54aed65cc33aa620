"""The engine's `Answer` -> the fields of a reply -> the reply, in one of the formats of `codecs`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from gatescope.pipeline.model import Model
from gatescope.pipeline.pipeline import predicts_next_step
from gatescope.pipeline.query import Answer, Prediction
from gatescope.pipeline.sampling import Drawn, Generated, finish_reason
from gatescope.selection import Selection
from gatescope.server.api import codecs, offload
from gatescope.server.api.codecs.codec import Fields, ReplyWriter, StreamWriter, TokenWriter
from gatescope.server.api.codecs.json import writing
from gatescope.server.api.codecs.ragged import Ragged, ragged
from gatescope.server.api.messages import Content, Reply, StreamedReply
from gatescope.server.api.notes import Span, beside_answer, unknown_tokens
from gatescope.server.api.query_reader import ReadQuery
from gatescope.server.serving import states
from gatescope.server.serving.chunking import Chunk, ChunkedTrace
from gatescope.server.serving.row_labels import NO_LABELS, RowLabels
from gatescope.server.serving.stored import Note
from gatescope.server.serving.token_stream import TokenStream
from gatescope.state import State
from gatescope.tables.further_times import Stamp

AXES = ["batch", "layer", "direction", "time", "unit"]

_FEW_VALUES = 256


class Said(NamedTuple):
    """What of a request its reply tells."""

    tokens: list[list[str]] | None = None
    """What a model of tokens read."""
    notes: Sequence[Note] = ()
    """What was assumed when it was read."""
    labels: RowLabels = NO_LABELS
    """What it says about its sequences."""
    begun: State | None = None
    """Where its sequences began, of a model with several recurrent modules that is traced."""
    span: Span | None = None
    """Which time steps it reads; None where that is told elsewhere."""


NOTHING = Said()


def of_request(asked: ReadQuery[Any], model: Model, span: Span | None = None) -> Said:
    """What the reply to this request tells of it; `span` is a session's, of one of its steps."""
    is_joint = asked.query.trace is not None and states.has_several_modules(model)
    begun = states.begun(asked.query, model) if is_joint else None
    return Said(asked.tokens, asked.notes, asked.labels, begun, span or Span.of(asked.query))


def prediction(answer: Answer, model: Model, said: Said = NOTHING) -> Fields:
    """The reply to a predict request."""
    return _answered(answer, model, said, predicts=answer.prediction is not None)


def _answered(answer: Answer, model: Model, said: Said, *, predicts: bool) -> Fields:
    """The same; `predicts` says whether a prediction stands here, or further on."""
    fields = _about(model, said, predicts=predicts)
    lengths = fields["sequence_lengths"] = answer.sequence_lengths.tolist()
    if said.labels.ids is not None:
        fields["ids"] = said.labels.ids
    if said.labels.timestamps is not None:
        fields["timestamps"] = said.labels.extended(answer.horizon).timestamps
    if said.labels.observed is not None:
        fields["observed"] = said.labels.observed
    if said.tokens is not None:
        fields["tokens"] = _with_written(said.tokens, answer.generated, model)
        fields |= unknown_tokens(said.tokens, said.notes, model)
    if answer.generated is not None:
        fields["sampling"] = sampling(answer.generated)
    if answer.prediction is not None:
        fields["prediction"] = _prediction(answer.prediction, answer, model, None, said.labels)
    if answer.heads is not None:
        heads = answer.heads.items()
        fields["heads"] = {name: _prediction(each, answer, model, name, said.labels) for name, each in heads}
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
    return StreamedReply(pieces, writer.media_type, writer.failure)


async def stream_tokens(tokens: TokenStream[Answer], model: Model, said: Said, writer: TokenWriter) -> StreamedReply:
    """The tokens as they are drawn, then the reply. An error before the first token has its own status.

    A client that leaves ends the computation.

    Args:
        tokens: to write.
        model: draws them.
        said: what the reply tells of the request.
        writer: of the format.
    """
    steps = tokens.steps()
    first = await anext(steps)
    pieces = writer.stream(_told(first, steps, model), lambda: prediction(tokens.answer, model, said))
    return StreamedReply(pieces, writer.media_type, writer.failure)


def sampling(generated: Generated) -> Fields:
    """How tokens were drawn."""
    return {name: getattr(generated.sampling, name) for name in ("temperature", "top_k", "top_p", "seed")}


def samples(generated: Generated, model: Model) -> list[list[Fields]]:
    """The texts that were written, [batch][sample]."""
    return [[_sample(*text, model) for text in row] for row in _texts(generated)]


def token(drawn: Drawn, model: Model) -> Fields:
    """What is told of one token; `text` is what it adds to its text."""
    vocabulary = model.vocabulary
    if vocabulary is None:
        raise TypeError("a model without a vocabulary draws no tokens")
    entry = vocabulary.entries[drawn.token]
    told: Fields = {"sequence": drawn.sequence, "sample": drawn.sample, "step": drawn.step, "token": entry}
    if vocabulary.reads_text:
        told["text"] = entry if drawn.step == 0 else f"{vocabulary.separator}{entry}"
    return told | ({} if drawn.finish_reason is None else {"finish_reason": drawn.finish_reason})


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
    notes = beside_answer(said.notes, model, said.span, predicts=predicts)
    if notes:
        fields["notes"] = notes
    return fields


async def _told(
    first: Sequence[Drawn], steps: AsyncGenerator[Sequence[Drawn], None], model: Model
) -> AsyncGenerator[Sequence[Fields], None]:
    """What is told of the tokens of each step."""
    async with aclosing(steps):
        yield [token(drawn, model) for drawn in first]
        async for step in steps:
            yield [token(drawn, model) for drawn in step]


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
    known = ("model", "notes", "sequence_lengths", "sampling")
    answered = prediction(traced.answer, traced.model)
    rest = {name: value for name, value in answered.items() if name not in known}
    return rest | {"residual": np.float32(traced.residual)}


def _named_state(state: State) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(value.numpy()) for name, value in state.named().items()}


def _with_written(tokens: list[list[str]], generated: Generated | None, model: Model) -> list[list[str]]:
    """What was read, and behind it what the model wrote itself and read on, in its first sample."""
    if generated is None:
        return tokens
    first = (row[0] for row in _texts(generated))
    return [[*read, *_entries(written, model)] for read, (written, _) in zip(tokens, first, strict=True)]


def _texts(generated: Generated) -> list[list[tuple[list[int], bool]]]:
    """The token ids of each sample of each sequence, and whether a stop ended it."""
    parts = (generated.tokens.tolist(), generated.lengths.tolist(), generated.is_stopped.tolist())
    return [
        [(ids[:length], is_stopped) for ids, length, is_stopped in zip(*row, strict=True)]
        for row in zip(*parts, strict=True)
    ]


def _entries(ids: Sequence[int], model: Model) -> list[str]:
    entries = model.vocabulary.entries if model.vocabulary else ()
    return [entries[index] for index in ids]


def _sample(ids: list[int], is_stopped: bool, model: Model) -> Fields:  # noqa: FBT001 - as `_texts` gives them
    vocabulary = model.vocabulary
    text = {"text": vocabulary.join(ids)} if vocabulary is not None and vocabulary.reads_text else {}
    return text | {"tokens": _entries(ids, model), "finish_reason": finish_reason(is_stopped=is_stopped)}


def _prediction(
    prediction: Prediction, answer: Answer, model: Model, name: str | None, labels_said: RowLabels
) -> Fields:
    """What the head of this name says, or the first one."""
    cut = _cutter(prediction)
    fields: Fields = {"values": cut(prediction.values)}
    head = model.pipeline.head if name is None else model.pipeline.heads[name]
    if head is None:
        raise TypeError("a model without a head predicts nothing")
    if (stamps := _predicted_at(prediction, answer, labels_said, shifts=predicts_next_step(head.config))) is not None:
        fields["timestamps"] = stamps
    if prediction.choices is None:
        return fields
    labels = model.labels if name is None else model.labels_of(name)
    chosen = _chosen(prediction.choices, prediction.steps)
    fields["labels"] = [named(row, labels) for row in chosen]
    probabilities = head.probabilities(prediction.values)
    if probabilities is not None:
        fields["probabilities"] = cut(probabilities)
    if answer.horizon and model.vocabulary is not None and model.reads_text:
        fields["text"] = [model.vocabulary.join(row) for row in chosen]
    if answer.generated is not None:
        written = samples(answer.generated, model)
        fields["finish_reason"] = [each[0]["finish_reason"] for each in written]
        fields |= {"samples": written} if answer.generated.sampling.samples > 1 else {}
    return fields


def _predicted_at(
    prediction: Prediction, answer: Answer, labels: RowLabels, *, shifts: bool
) -> list[list[Stamp]] | list[Stamp] | None:
    """When each value is for: a list for each sequence, or a time for each; None where the request has no times."""
    if labels.timestamps is None:
        return None
    further = answer.horizon or int(shifts)
    rows = [[*row, *more] for row, more in zip(labels.timestamps, labels.after(further), strict=True)]
    if any(len(row) == len(known) for row, known in zip(rows, labels.timestamps, strict=True)) and further:
        return None  # one time alone tells no step
    if prediction.steps is None:
        return [row[-1] for row in rows]
    return [row[len(row) - count :] for row, count in zip(rows, prediction.steps.tolist(), strict=True)]


def _cutter(prediction: Prediction) -> Callable[[Tensor], Any]:
    """Mark (batch, step, …) with each row's own steps; leave (batch, …) as it is."""
    if prediction.steps is None:
        return Tensor.numpy
    lengths = prediction.steps.tolist()
    return lambda values: ragged(values.numpy(), lengths)


def _chosen(choices: Tensor, steps: Tensor | None) -> np.ndarray | list[np.ndarray]:
    return choices.numpy() if steps is None else Ragged(choices.numpy(), steps.tolist()).rows()


def named(choices: np.ndarray, labels: tuple[str, ...]) -> Any:
    """The label of each id, or the labels that are given of each row of flags."""
    if choices.dtype != np.bool_:
        return [labels[index] for index in choices] if choices.ndim else labels[int(choices)]
    if choices.ndim == 1:
        return [labels[index] for index in choices.nonzero()[0]]
    return [named(row, labels) for row in choices]
