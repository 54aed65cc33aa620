"""The engine's `Answer` -> a reply: ragged JSON, or padded binary arrays. `ndjson.py` has the fourth format."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import torch
from pydantic import BaseModel
from torch import Tensor

from gatescope import safetensors_file
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Prediction
from gatescope.selection import Selection
from gatescope.server.api import aside, binary, messages, written
from gatescope.server.api.messages import Content
from gatescope.server.api.ragged import Ragged, ragged
from gatescope.server.api.written import dumps
from gatescope.state import State

AXES = ["batch", "layer", "direction", "time", "unit"]
JSON, SAFETENSORS, NPZ = "application/json", "application/vnd.safetensors", "application/x-npz"
NDJSON = "application/x-ndjson"
PREDICT_FORMATS = (JSON, SAFETENSORS)
"""What a prediction is written as."""
TRACE_FORMATS = (JSON, SAFETENSORS, NPZ, NDJSON)
"""What a trace is written as; the first where the client has no wish."""

Reply = dict[str, Any]

_MOST_BYTES = {JSON: aside.MOST_BYTES, SAFETENSORS: 16 * aside.MOST_BYTES, NPZ: 4 * aside.MOST_BYTES}
"""Of arrays that are written on the event loop: what is copied is written sooner."""

_FEW = 256


def prediction(answer: Answer, model: Model, tokens: list[list[str]] | None) -> Reply:
    """The reply to a predict request; `tokens` is what a model of tokens read."""
    lengths = answer.sequence_lengths.tolist()
    reply: Reply = {"model": {"name": model.name, "version": model.version}, "sequence_lengths": lengths}
    if tokens is not None:
        reply["tokens"] = _with_written(tokens, answer, model)
    if answer.prediction is not None:
        reply["prediction"] = _prediction(answer.prediction, answer, model)
    if answer.output is not None:
        reply["output"] = ragged(answer.output.numpy(), lengths)
    if answer.final_state is not None:
        reply["final_state"] = _state(answer.final_state)
    return reply


def trace(answer: Answer, model: Model, tokens: list[list[str]] | None) -> Reply:
    """The reply to a trace request; its `signals` are still padded arrays, NaN where a sequence has ended."""
    return prediction(answer, model, tokens) | inside(answer)


def inside(answer: Answer) -> Reply:
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


def description(selection: Selection, answer: Answer, initial_state: State) -> Reply:
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


def encode(reply: Reply, media_type: str = JSON) -> Content:
    """The reply in this format."""
    return _ENCODERS[media_type](reply)


def is_slight(answer: Answer) -> bool:
    """Whether it is a prediction of a few numbers, as most are: nobody need look how large its reply is."""
    if answer.trace is not None or answer.output is not None or answer.final_state is not None:
        return False
    return answer.prediction is None or answer.prediction.values.numel() <= _FEW


def is_large(reply: Reply, media_type: str = JSON) -> bool:
    """Whether it is to be written aside, as `pieces` does, in this format."""
    return written.size_of(reply) > _MOST_BYTES[media_type]


def pieces(reply: Reply, media_type: str = JSON) -> Sequence[Content]:
    """A large reply in this format."""
    return written.pieces(_without_padding(reply)) if media_type == JSON else [encode(reply, media_type)]


async def answered(
    tell: Callable[..., Reply], answer: Answer, model: Model, tokens: list[list[str]] | None, media_type: str
) -> messages.Reply:
    """The reply that `tell` makes of an answer, written in this format."""
    if is_slight(answer):
        return messages.Reply(200, (encode(tell(answer, model, tokens), media_type),), media_type)
    predicted = answer.prediction
    if predicted is not None and predicted.values.nbytes > aside.MOST_BYTES:  # its probabilities take long
        reply = await asyncio.to_thread(tell, answer, model, tokens)
    else:
        reply = tell(answer, model, tokens)
    return await respond(reply, media_type)


async def respond(
    reply: Reply, media_type: str = JSON, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()
) -> messages.Reply:
    """The reply written in this format."""
    if is_large(reply, media_type):
        written_reply = await aside.write(pieces, reply, media_type)
    else:
        written_reply = (encode(reply, media_type),)
    return messages.Reply(status, written_reply, media_type, headers)


def of_json(value: object) -> messages.Reply:
    """A reply that is this value in JSON."""
    return messages.Reply(200, (dumps(value),), JSON)


def of_schema(value: BaseModel, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> messages.Reply:
    """A reply that is a value of its schema."""
    return messages.Reply(status, (value.model_dump_json().encode(),), JSON, headers)


def _without_padding(reply: Reply) -> Reply:
    if "trace" in reply:
        lengths = {"sequence_lengths": reply["sequence_lengths"]}
        inner = _without_padding(reply["trace"] | lengths)
        return reply | {"trace": {name: value for name, value in inner.items() if name not in lengths}}
    if "signals" not in reply:
        return reply
    parts = _unpadded(reply["time_steps"], reply["sequence_lengths"])
    return reply | {"signals": {name: _cut(values, parts) for name, values in reply["signals"].items()}}


def _unpadded(steps: list[int], lengths: list[int]) -> list[slice]:
    """Which part of the time axis each sequence has; the steps go up or down."""
    upwards = steps[0] <= steps[-1]
    ordered = steps if upwards else steps[::-1]
    counts = [bisect_left(ordered, length) for length in lengths]
    return [slice(count) if upwards else slice(len(steps) - count, None) for count in counts]


def _cut(values: np.ndarray, parts: list[slice]) -> np.ndarray | list[np.ndarray]:
    """(batch, layer, direction, time, unit) without the padding: as it is where there is none, else row by row."""
    rows = [row[:, :, part] for row, part in zip(values, parts, strict=True)]
    return values if all(row.shape == values.shape[1:] for row in rows) else rows


def _json(reply: Reply) -> bytes:
    return dumps(_without_padding(reply))


def _safetensors(reply: Reply) -> memoryview:
    if "signals" not in reply:
        arrays, rest = _split(reply | {"sequence_lengths": np.array(reply["sequence_lengths"], dtype=np.int64)})
    else:
        arrays, rest = _arrays(reply), _rest(reply)
    return safetensors_file.write(arrays, {name: _text(value) for name, value in rest.items()}, orjson.dumps)


def _split(reply: Reply, *path: str) -> tuple[dict[str, np.ndarray], Reply]:
    """The arrays of a reply, each under its path with dots; and the rest."""
    arrays: dict[str, np.ndarray] = {}
    rest: Reply = {}
    for name, value in reply.items():
        if isinstance(value, dict):
            inner, value = _split(value, *path, name)  # noqa: PLW2901 - what is left of it
            arrays |= inner
        if isinstance(value, Ragged):
            arrays[".".join((*path, name))] = value.padded
        elif isinstance(value, np.ndarray):
            arrays[".".join((*path, name))] = value
        elif value != {}:
            rest[name] = value
    return arrays, rest


def _npz(reply: Reply) -> memoryview:
    return binary.npz(_arrays(reply) | {"metadata": np.array(_text(_rest(reply)))})


def _arrays(reply: Reply) -> dict[str, np.ndarray]:
    signals: dict[str, np.ndarray] = reply["signals"]
    return {"sequence_lengths": np.array(reply["sequence_lengths"], dtype=np.int64)} | signals


def _rest(reply: Reply) -> Reply:
    return {name: value for name, value in reply.items() if name not in ("signals", "sequence_lengths")}


def _text(value: Any) -> str:
    return dumps(value).decode()


_ENCODERS: Mapping[str, Callable[[Reply], Content]] = {JSON: _json, SAFETENSORS: _safetensors, NPZ: _npz}


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


def _prediction(prediction: Prediction, answer: Answer, model: Model) -> Reply:
    cut = _cutter(prediction)
    reply: Reply = {"values": cut(prediction.values)}
    if prediction.choices is not None:
        chosen = _chosen(prediction.choices, prediction.steps)
        reply["labels"] = [_named(row, model.labels) for row in chosen]
        reply["probabilities"] = cut(torch.softmax(prediction.values, dim=-1))
        if answer.horizon and model.vocabulary is not None and model.reads_text:
            reply["text"] = [model.vocabulary.join(row) for row in chosen]
    return reply


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
