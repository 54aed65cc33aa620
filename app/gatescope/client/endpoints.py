"""The calls that ask a model: what it is, what it says, and what happened inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import httpx
import numpy as np

from gatescope import dataset
from gatescope.client import joining
from gatescope.client.body import EVENTS, JSON, SAFETENSORS, encode
from gatescope.client.call import Call, of_model, path
from gatescope.client.fields import Array, Asked, Explained, Intervened, Predicted, Traced, written
from gatescope.client.many import CONCURRENCY, Calls, Part
from gatescope.client.prediction import Prediction
from gatescope.client.prediction_frames import Answered
from gatescope.client.reading import in_one, tables_of
from gatescope.client.reply import fields, json, nothing
from gatescope.client.tables import Tables, rows_of
from gatescope.client.trace_labels import labelled

if TYPE_CHECKING:
    import xarray

T = TypeVar("T")

MOST_NUMBERS = 250_000
"""In the inputs of one request: tables of more are asked for in parts, some sequences each."""


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


def predict(model: str, inputs: Array | None = None, **asked: Unpack[Predicted]) -> Calls[Prediction]:
    """What a model says of a batch of sequences, or of one.

    Tables of many sequences are sent in several requests, each with `timeout_s` of its own.

    Args:
        model: its name.
        inputs: (batch, time, feature) or (time, feature), or token ids; a list of arrays where lengths differ. Or
            tables, whose columns are matched by name: a data frame of pandas or polars, a Dataset or DataArray of
            xarray, a list of frames, or a dictionary of frames, or of arrays, by name.
        **asked: the other fields of a predict body, and `version`; `text` stands in place of `inputs`. Of tables `id`
            is the column that tells sequences apart, `timestamps` that of times, and `observed` lists those that were
            measured. `concurrency` is how many requests are sent together at most (4), and `progress` shows how many
            sequences are done.

    Raises:
        ModuleNotFoundError: progress is wanted, and tqdm is not installed.
        InvalidInput: something does not fit the model; `places` say what and where, with the name of the sequence.
        AppError: what else the server refuses.
    """
    tables, rest = tables_of(inputs, asked)
    if tables is None:
        call: Call[Prediction] = _post(model, "predict", inputs, rest, _prediction, SAFETENSORS)
        return _calls([Part(lambda: call, None, 1)], lambda answers: answers[0], asked)

    def finish(said: dict[str, Any], info: dict[str, Any]) -> Prediction:
        return Prediction.of(said, answered=Answered(tables, info.get("output") or {}))

    parts = _parts(model, "predict", tables, rest, MOST_NUMBERS, finish)
    names = [part.names or () for part in parts]
    return _calls(parts, lambda answers: joining.predictions(answers, names), asked)


def tokens(model: str, inputs: Array | None = None, **asked: Unpack[Asked]) -> Call[None]:
    """The tokens that a model writes as they are drawn; its reply is read as it comes. Arguments as for `predict`."""
    return _post(model, "predict", *in_one(inputs, asked), nothing, EVENTS)


def trace(model: str, inputs: Array | None = None, **asked: Unpack[Traced]) -> Calls[xarray.Dataset]:
    """What happened inside, with named axes: each signal (batch, layer, direction, time, unit), padded with NaN.

    Of tables by id each is asked for by itself, so that a negative time counts from its own end.

    Args:
        model: its name.
        inputs: as for `predict`; the ids and times of tables are coordinates.
        **asked: as for `predict`, and the part that is wanted: `signals`, `layers`, `directions`, `units`, `time`.

    Raises:
        ModuleNotFoundError: xarray is not installed, or tqdm where progress is wanted.
        InvalidInput: something does not fit the model; `places` say what and where.
        AppError: what else the server refuses.
    """
    dataset.need()
    tables, rest = tables_of(inputs, asked)
    if tables is None:
        call: Call[xarray.Dataset] = _post(model, "trace", inputs, rest, fields, SAFETENSORS, to_dataset)
        return _calls([Part(lambda: call, None, 1)], lambda answers: answers[0], asked)
    parts = _parts(model, "trace", tables, rest, MOST_NUMBERS if tables.keys is None else 1, to_dataset)
    return _calls(parts, lambda answers: labelled(joining.traces(answers), tables), asked)


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
    return _post(model, "explain", *in_one(inputs, asked), fields)


def _prediction(reply: httpx.Response) -> Prediction:
    return Prediction.of(fields(reply))


def intervene(model: str, inputs: Array | None = None, **asked: Unpack[Intervened]) -> Call[dict[str, Any]]:
    """A run as it is, the same with edited signals or inputs, and the difference, as `docs/api.md` describes them.

    Args:
        model: its name.
        inputs: as for `predict`.
        **asked: as for `predict`; `interventions`, `inputs_edited` or `text_edited`; and the part of both traces that
            is wanted, as for `trace`.

    Raises:
        InvalidInput: something does not fit the model; `places` say what and where.
        AppError: what else the server refuses.
    """
    return _post(model, "intervene", inputs, asked, fields)


def analyse(
    model: str,
    analysis: str,
    inputs: Array | None = None,
    parameters: Mapping[str, Any] | None = None,
    **asked: Unpack[Traced],
) -> Call[dict[str, Any]]:
    """A question about what happens inside the model, answered as `docs/analyses.md` describes it.

    Args:
        model: its name.
        analysis: the name of the analysis, such as "timescales".
        inputs: as for `predict`.
        parameters: of the analysis.
        **asked: as for `predict`; and `layers`, `directions` and `units`, as for `trace`.

    Returns:
        The fields of the reply; each array is NumPy, under its own name, and `axes` names its axes.

    Raises:
        AnalysisNotFound: there is no such analysis.
        InvalidInput: something does not fit the model or the analysis; `places` say what and where.
        AppError: what else the server refuses.
    """
    given = {**asked, **(parameters or {})}
    return _post(model, ("analyses", analysis), inputs, given, fields, SAFETENSORS)


def to_dataset(said: dict[str, Any], info: dict[str, Any]) -> xarray.Dataset:
    """The dataset of a binary trace reply: its arrays are the lengths and the signals."""
    arrays = {name: value for name, value in said.items() if isinstance(value, np.ndarray)}
    return dataset.of(said, arrays.pop("sequence_lengths"), arrays, info)


def _calls(parts: list[Part[Any]], join: Callable[[Sequence[Any]], T], asked: Mapping[str, Any]) -> Calls[T]:
    return Calls(parts, join, asked.get("concurrency", CONCURRENCY), progress=asked.get("progress", False))


def _parts(
    model: str,
    what: str,
    tables: Tables,
    rest: Mapping[str, Any],
    most_numbers: int,
    finish: Callable[[dict[str, Any], dict[str, Any]], Any],
) -> list[Part[Any]]:
    """The requests for the sequences of tables: some in each, with no more numbers together, or one."""
    spans = list(tables.spans(most_numbers))

    def call(rows: slice) -> Call[Any]:
        told = written(rest) if len(spans) == 1 else rows_of(written(rest), rows)
        body = encode(told | tables.fields(rows))
        return Call("POST", of_model(model, rest.get("version"), what), fields, body, SAFETENSORS, finish=finish)

    ids = tables.ids
    return [Part(partial(call, rows), ids and ids[rows], rows.stop - rows.start) for rows in spans]


def _post(
    model: str,
    what: str | tuple[str, ...],
    inputs: Array | None,
    asked: Mapping[str, Any],
    read: Callable[[httpx.Response], Any],
    accept: str = JSON,
    finish: Callable[[dict[str, Any], dict[str, Any]], T] | None = None,
) -> Call[T]:
    body = encode({"inputs": inputs} | written(asked))
    below = (what,) if isinstance(what, str) else what
    return Call("POST", of_model(model, asked.get("version"), *below), read, body, accept, finish=finish)
