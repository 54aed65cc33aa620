"""What a model said of tables, as tables with the same times and ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.client.tables import Series, Tables
from gatescope.client.xarray_tables import dataset_of

if TYPE_CHECKING:
    import xarray

    from gatescope.client.prediction import Head, Prediction

FIRST = "prediction"
_PER_STEP = 3  # axes of values: (batch, time, value)


@dataclass(frozen=True)
class Answered:
    """The tables that were asked, and what the model's heads are called."""

    tables: Tables
    output: Mapping[str, Any]
    """As ModelInfo has it."""

    def head(self, name: str | None) -> Mapping[str, Any]:
        """What ModelInfo says of the head of this name, or of the first.

        Raises:
            ValueError: the version that answered is gone, and with it what its outputs are called.
        """
        if not self.output:
            raise ValueError("the version that answered is no longer there to say what its outputs are called")
        heads = {each["name"]: each for each in self.output.get("heads", ())}
        return self.output if name is None or not heads else heads[name]


def frames_of(prediction: Prediction, name: str | None = None) -> dict[Any, Any]:
    """A frame for each sequence, by its id, or by its place where there are no ids; None is a lone one.

    Raises:
        ValueError: no tables were asked, or the model has no such head.
    """
    answered, head = _asked(prediction), _head(prediction, name)
    tables, about = answered.tables, answered.head(name)
    if tables.kind is None:
        raise ValueError("what was asked were arrays: give data frames to get data frames")
    keys = tables.keys or ([None] if tables.is_lone else range(len(tables.series)))
    return {key: _frame(tables, row, head, about) for row, key in enumerate(keys)}


def frame_of(prediction: Prediction, name: str | None = None) -> Any:
    """The frame of a lone sequence, or one of all: with their ids as a column, or as the first level of the index.

    Raises:
        ValueError: as `frames_of`.
    """
    frames, tables = frames_of(prediction, name), _asked(prediction).tables
    if None in frames:
        return frames[None]
    made, whole = tables.joined(frames), tables.whole
    if whole is None or any(each.rows is None for each in tables.series) or not _is_row_by_row(prediction, name):
        return made
    rows = np.concatenate([each.rows for each in tables.series if each.rows is not None])
    return tables.kind.reordered(made, rows, whole)


def to_xarray(prediction: Prediction, name: str | None = None) -> xarray.Dataset:
    """The same as a Dataset.

    Raises:
        ValueError: as `frames_of`, or the frames are not of pandas.
    """
    frames, tables = frames_of(prediction, name), _asked(prediction).tables
    if not hasattr(next(iter(frames.values())), "index"):
        raise ValueError("a frame of polars becomes no Dataset: give one of pandas")
    axis = tables.series[0].axis
    column = None if axis is None else axis.column
    return dataset_of({key: frame.set_index(column) if column else frame for key, frame in frames.items()}, tables.name)


def _asked(prediction: Prediction) -> Answered:
    if prediction.answered is None:
        raise ValueError("what was asked was no table: give a data frame, or a dictionary of them, to get one")
    return prediction.answered


def _head(prediction: Prediction, name: str | None) -> Prediction | Head:
    head = prediction if name is None else prediction.heads.get(name)
    if head is None or head.values is None:
        known = ", ".join(map(repr, prediction.heads)) or "none beside the first"
        raise ValueError(f"there is no prediction of the head {name!r}; there are {known}")
    return head


def _shift(about: Mapping[str, Any]) -> int:
    """How many steps behind a step its prediction is for."""
    return int(about.get("predicts") == "next_step")


def _is_row_by_row(prediction: Prediction, name: str | None) -> bool:
    """Whether each row of what was asked has its prediction."""
    answered = _asked(prediction)
    head = _head(prediction, name)
    is_per_step = head.values is not None and head.values.ndim == _PER_STEP
    return is_per_step and not answered.tables.horizon and not _shift(answered.head(name))


def _frame(tables: Tables, row: int, head: Prediction | Head, about: Mapping[str, Any]) -> Any:
    """What was predicted of one sequence, each row called as the step that it is for."""
    series, horizon = tables.series[row], tables.horizon
    count = (horizon or series.steps) if head.values is not None and head.values.ndim == _PER_STEP else 1
    start = series.steps + (horizon or _shift(about)) - count
    values = _columns(head, row, count, about) | _observed(series, start, count, about)
    if series.axis is None:
        return tables.kind.made(None, None, {"step": np.arange(start, start + count)} | values)
    return tables.kind.made(series.axis.between(start, start + count), series.axis, values)


def _columns(head: Prediction | Head, row: int, count: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Each output by name; of labels `label` and the probability of each."""
    if head.values is None:
        return {}
    if head.labels is None:
        values = np.reshape(head.values[row], (-1, head.values.shape[-1]))[:count]
        return dict(zip(_names(about), np.array(values, dtype=np.float64).T, strict=True))
    labels = head.labels[row]
    made: dict[str, Any] = {"label": list(labels[:count]) if head.values.ndim == _PER_STEP else [labels]}
    if head.probabilities is not None:
        values = np.reshape(head.probabilities[row], (-1, head.probabilities.shape[-1]))[:count]
        named = (f"probability_{label}" for label in about["labels"])
        made |= dict(zip(named, np.array(values, dtype=np.float64).T, strict=True))
    return made


def _names(about: Mapping[str, Any]) -> Sequence[str]:
    """What the values are called, in their order."""
    names, quantiles = about["names"], about.get("quantiles")
    return [f"{name}_{quantile:g}" for name in names for quantile in quantiles] if quantiles else names


def _observed(series: Series, start: int, count: int, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What was measured of the outputs at the steps that are predicted; NaN where nothing was."""
    made = {}
    for name, values in series.observed.items():
        if name in (about.get("names") or ()):
            padded = np.concatenate((values[start:], np.full(count, np.nan)))
            made[f"{name}_observed"] = padded[:count]
    return made
