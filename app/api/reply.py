"""The engine's `Answer` -> a reply: ragged JSON, or padded binary arrays. `ndjson.py` has the fourth format."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import torch
from fastapi import Response
from torch import Tensor

from app.api import binary
from app.lstm import Selection, State
from app.pipeline.query import Answer, Prediction
from app.repository.model import Model

AXES = ["batch", "layer", "direction", "time", "unit"]
JSON, SAFETENSORS, NPZ = "application/json", "application/vnd.safetensors", "application/x-npz"
NDJSON = "application/x-ndjson"
TRACE_FORMATS = (JSON, SAFETENSORS, NPZ, NDJSON)
"""What a trace is written as; the first where the client has no wish."""

Reply = dict[str, Any]


def prediction(answer: Answer, model: Model, tokens: list[list[str]] | None) -> Reply:
    """The reply to a predict request; `tokens` is what a model of tokens read."""
    lengths = answer.sequence_lengths.tolist()
    reply: Reply = {"model": {"name": model.name, "version": model.version}, "sequence_lengths": lengths}
    if tokens is not None:
        reply["tokens"] = _with_written(tokens, answer, model)
    if answer.prediction is not None:
        reply["prediction"] = _prediction(answer.prediction, answer, model)
    if answer.output is not None:
        reply["output"] = _ragged(answer.output, lengths)
    if answer.final_state is not None:
        reply["final_state"] = _state(answer.final_state)
    return reply


def trace(answer: Answer, model: Model, tokens: list[list[str]] | None) -> Reply:
    """The reply to a trace request; its `signals` are still padded arrays, NaN where a sequence has ended."""
    trace = answer.trace
    if trace is None:
        raise TypeError("the answer holds no trace")
    described = description(trace.selection, answer, trace.initial_state)
    signals = {name: values.numpy() for name, values in trace.signals.items()}
    ending = {"final_state": _state(trace.final_state), "residual": np.float32(trace.residual), "signals": signals}
    return prediction(answer, model, tokens) | described | ending


def description(selection: Selection, answer: Answer, initial_state: State) -> Reply:
    """What a trace reply says of its axes and of where it began."""
    return {
        "module": answer.module,
        "axes": AXES,
        "layers": selection.layers,
        "directions": selection.directions,
        "units": selection.units,
        "time_steps": selection.time_steps(int(answer.sequence_lengths.max())),
        "initial_state": _state(initial_state),
    }


def respond(reply: Reply, media_type: str = JSON) -> Response:
    """The reply in this format; the binary ones are for traces only."""
    return Response(_ENCODERS[media_type](reply), media_type=media_type)


def _json(reply: Reply) -> bytes:
    if "signals" in reply:
        parts = _unpadded(reply["time_steps"], reply["sequence_lengths"])
        reply = reply | {"signals": {name: _cut(values, parts) for name, values in reply["signals"].items()}}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def _unpadded(steps: list[int], lengths: list[int]) -> list[slice]:
    """Which part of the time axis each sequence has; the steps go up or down."""
    upwards = steps[0] <= steps[-1]
    ordered = steps if upwards else steps[::-1]
    counts = [bisect_left(ordered, length) for length in lengths]
    return [slice(count) if upwards else slice(len(steps) - count, None) for count in counts]


def _cut(values: np.ndarray, parts: list[slice]) -> np.ndarray | list[np.ndarray]:
    """(batch, layer, direction, time, unit) without the padding: as it is where it can be, else one array per sequence.

    Only what does not lie together in memory is copied.
    """
    rows = [row[:, :, part] for row, part in zip(values, parts, strict=True)]
    if values.flags.c_contiguous and all(row.shape == values.shape[1:] for row in rows):
        return values
    return [np.ascontiguousarray(row) for row in rows]


def _safetensors(reply: Reply) -> memoryview:
    return binary.safetensors(_arrays(reply), {name: _text(value) for name, value in _rest(reply).items()})


def _npz(reply: Reply) -> memoryview:
    return binary.npz(_arrays(reply) | {"metadata": np.array(_text(_rest(reply)))})


def _arrays(reply: Reply) -> dict[str, np.ndarray]:
    signals: dict[str, np.ndarray] = reply["signals"]
    return {"sequence_lengths": np.array(reply["sequence_lengths"], dtype=np.int64)} | signals


def _rest(reply: Reply) -> Reply:
    return {name: value for name, value in reply.items() if name not in ("signals", "sequence_lengths")}


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


_ENCODERS: Mapping[str, Callable[[Reply], bytes | memoryview]] = {JSON: _json, SAFETENSORS: _safetensors, NPZ: _npz}


def _ragged(values: Tensor, lengths: list[int]) -> list[np.ndarray]:
    """(batch, time, …) without the padding, one array per sequence."""
    return [np.ascontiguousarray(row[:length]) for row, length in zip(values.numpy(), lengths, strict=True)]


def _state(state: State) -> dict[str, np.ndarray]:
    return {name: value.contiguous().numpy() for name, value in state._asdict().items()}


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
        chosen = cut(prediction.choices)
        reply["labels"] = [_named(row, model.labels) for row in chosen]
        reply["probabilities"] = cut(torch.softmax(prediction.values, dim=-1))
        if answer.horizon and model.vocabulary is not None and model.reads_text:
            reply["text"] = [model.vocabulary.join(row) for row in chosen]
    return reply


def _cutter(prediction: Prediction) -> Callable[[Tensor], Any]:
    """Cut (batch, step, …) to each row's own steps; leave (batch, …) as it is."""
    if prediction.steps is None:
        return lambda values: values.numpy()
    lengths = prediction.steps.tolist()
    return lambda values: _ragged(values, lengths)


def _named(choices: np.ndarray, labels: tuple[str, ...]) -> Any:
    return [labels[index] for index in choices] if choices.ndim else labels[int(choices)]
