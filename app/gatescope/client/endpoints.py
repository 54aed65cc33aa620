"""The calls that ask a model: what it is, what it says, and what happened inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import httpx
import numpy as np

from gatescope import dataset
from gatescope.client.body import EVENTS, JSON, SAFETENSORS, encode
from gatescope.client.call import Call, of_model, path
from gatescope.client.fields import Array, Asked, Explained, Traced, written
from gatescope.client.prediction import Prediction
from gatescope.client.reply import fields, json, nothing

if TYPE_CHECKING:
    import xarray

T = TypeVar("T")


def models() -> Call[list[dict[str, Any]]]:
    """The ModelInfo of every model, also of those that could not be loaded, with the reason."""
    return Call("GET", path("models"), lambda reply: list(json(reply)["models"]))


def model(name: str, version: str | None = None) -> Call[dict[str, Any]]:
    """One model's ModelInfo: what it takes and gives, the sizes of its recurrent modules, and examples.

    Raises:
        ModelNotFound: there is no such model; a similar name is told.
        VersionNotFound: it has no such version.
    """
    return Call("GET", of_model(name, version), json)


def predict(model: str, inputs: Array | None = None, **asked: Unpack[Asked]) -> Call[Prediction]:
    """What a model says of a batch of sequences, or of one.

    Args:
        model: its name.
        inputs: (batch, time, feature) or (time, feature), or token ids; a list of arrays where lengths differ.
        **asked: the other fields of a predict body, and `version`; `text` stands in place of `inputs`.

    Raises:
        InvalidInput: something does not fit the model; `places` say what and where.
        AppError: what else the server refuses.
    """
    return _post(model, "predict", inputs, asked, lambda reply: Prediction.of(fields(reply)), SAFETENSORS)


def tokens(model: str, inputs: Array | None = None, **asked: Unpack[Asked]) -> Call[None]:
    """The tokens that a model writes as they are drawn; its reply is read as it comes. Arguments as for `predict`."""
    return _post(model, "predict", inputs, asked, nothing, EVENTS)


def trace(model: str, inputs: Array | None = None, **asked: Unpack[Traced]) -> Call[xarray.Dataset]:
    """What happened inside, with named axes: each signal (batch, layer, direction, time, unit), padded with NaN.

    Args:
        model: its name.
        inputs: as for `predict`.
        **asked: as for `predict`, and the part that is wanted: `signals`, `layers`, `directions`, `units`, `time`.

    Raises:
        ModuleNotFoundError: xarray is not installed.
        InvalidInput: something does not fit the model; `places` say what and where.
        AppError: what else the server refuses.
    """
    dataset.need()
    return _post(model, "trace", inputs, asked, fields, SAFETENSORS, to_dataset)


def explain(model: str, inputs: Array | None = None, **asked: Unpack[Explained]) -> Call[dict[str, Any]]:
    """One unit at one time step, with every number of the equations, as `docs/api.md` describes it.

    Args:
        model: its name.
        inputs: as for `predict`, one sequence.
        **asked: as for `predict`, and `unit`, `time_step`, `layer` and `direction`.

    Raises:
        InvalidInput: something does not fit the model; `places` say what and where.
        AppError: what else the server refuses.
    """
    return _post(model, "explain", inputs, asked, fields)


def to_dataset(said: dict[str, Any], info: dict[str, Any]) -> xarray.Dataset:
    """The dataset of a binary trace reply: its arrays are the lengths and the signals."""
    arrays = {name: value for name, value in said.items() if isinstance(value, np.ndarray)}
    return dataset.of(said, arrays.pop("sequence_lengths"), arrays, info)


def _post(
    model: str,
    what: str,
    inputs: Array | None,
    asked: Mapping[str, Any],
    read: Callable[[httpx.Response], Any],
    accept: str = JSON,
    finish: Callable[[dict[str, Any], dict[str, Any]], T] | None = None,
) -> Call[T]:
    body = encode({"inputs": inputs} | written(asked))
    return Call("POST", of_model(model, asked.get("version"), what), read, body, accept, finish=finish)
