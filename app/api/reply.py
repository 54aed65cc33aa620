"""The engine's `Answer` -> a reply: ragged JSON, or padded binary arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import torch
from fastapi import Response
from safetensors.numpy import save as save_safetensors
from torch import Tensor

from app.errors import NotAcceptable
from app.lstm import State
from app.pipeline.query import Answer, Prediction
from app.repository.model import Model

AXES = ["batch", "layer", "direction", "time", "unit"]
JSON, SAFETENSORS, NPZ = "application/json", "application/vnd.safetensors", "application/x-npz"

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
    selection = trace.selection
    return prediction(answer, model, tokens) | {
        "axes": AXES,
        "layers": selection.layers,
        "directions": selection.directions,
        "units": selection.units,
        "time_steps": selection.time_steps(int(trace.sequence_lengths.max())),
        "initial_state": _state(trace.initial_state),
        "final_state": _state(trace.final_state),
        "residual": np.float32(trace.residual),
        "signals": {name: values.numpy() for name, values in trace.signals.items()},
    }


def respond(reply: Reply, accept: str | None = None) -> Response:
    """The reply in the first format of the `Accept` header that there is.

    Raises:
        NotAcceptable: there is none of them.
    """
    media_type = JSON if accept is None or "signals" not in reply else _choose(accept)
    return Response(_ENCODERS[media_type](reply), media_type=media_type)


def check_acceptable(accept: str | None) -> None:
    """Refuse a format that there is none of before anything is computed.

    Raises:
        NotAcceptable: none of the media types that are asked for can be written.
    """
    if accept is not None:
        _choose(accept)


def _choose(accept: str) -> str:
    for media_type in _by_preference(accept):
        if media_type in _ENCODERS:
            return media_type
        if media_type in ("*/*", "application/*"):
            return JSON
    raise NotAcceptable(f"a trace is written as {', '.join(_ENCODERS)}; asked for was {accept}")


def _by_preference(accept: str) -> list[str]:
    weighted = []
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((piece.removeprefix("q=") for piece in parameters if piece.startswith("q=")), "1")
        try:
            weighted.append((float(weight), media_type))
        except ValueError:
            continue
    ordered = sorted(weighted, key=lambda pair: -pair[0])
    return [media_type for weight, media_type in ordered if weight > 0]


def _json(reply: Reply) -> bytes:
    if "signals" in reply:
        steps, lengths = np.array(reply["time_steps"]), reply["sequence_lengths"]
        reply = reply | {"signals": {name: _cut(values, steps, lengths) for name, values in reply["signals"].items()}}
    return orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY)


def _cut(values: np.ndarray, steps: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    """(batch, layer, direction, time, unit) without the padding, one array per sequence."""
    return [np.ascontiguousarray(row[:, :, steps < length]) for row, length in zip(values, lengths, strict=True)]


def _safetensors(reply: Reply) -> bytes:
    rest = {name: _text(value) for name, value in reply.items() if name not in ("signals", "sequence_lengths")}
    return save_safetensors(_arrays(reply), metadata=rest)


def _npz(reply: Reply) -> bytes:
    rest = {name: value for name, value in reply.items() if name not in ("signals", "sequence_lengths")}
    file = io.BytesIO()
    arrays: dict[str, Any] = _arrays(reply) | {"metadata": np.array(_text(rest))}
    np.savez(file, **arrays)
    return file.getvalue()


def _arrays(reply: Reply) -> dict[str, np.ndarray]:
    signals = {name: np.ascontiguousarray(values) for name, values in reply["signals"].items()}
    return signals | {"sequence_lengths": np.array(reply["sequence_lengths"], dtype=np.int64)}


def _text(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


_ENCODERS: Mapping[str, Callable[[Reply], bytes]] = {JSON: _json, SAFETENSORS: _safetensors, NPZ: _npz}


def _ragged(values: Tensor, lengths: list[int]) -> list[np.ndarray]:
    """(batch, time, …) without the padding, one array per sequence."""
    return [np.ascontiguousarray(row[:length]) for row, length in zip(values.numpy(), lengths, strict=True)]


def _state(state: State) -> dict[str, np.ndarray]:
    return {name: value.contiguous().numpy() for name, value in state._asdict().items()}


def _with_written(tokens: list[list[str]], answer: Answer, model: Model) -> list[list[str]]:
    """What was read, and behind it what the model wrote itself and read on."""
    entries = model.vocabulary.entries if model.vocabulary else ()
    ids, lengths = answer.inputs.tolist(), answer.sequence_lengths.tolist()
    return [
        [*read, *(entries[index] for index in ids[row][len(read) : lengths[row]])] for row, read in enumerate(tokens)
    ]


def _prediction(prediction: Prediction, answer: Answer, model: Model) -> Reply:
    cut = _cutter(prediction)
    reply: Reply = {"values": cut(prediction.values)}
    if prediction.choices is not None:
        chosen = cut(prediction.choices)
        reply["labels"] = [_named(row, model.labels) for row in chosen]
        reply["probabilities"] = cut(torch.softmax(prediction.values, dim=-1))
        if answer.horizon and model.vocabulary is not None:
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
