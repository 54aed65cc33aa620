"""The horizon: predictions fed back as inputs, for forecasts beyond the data and for text that writes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gatescope.padding import append
from gatescope.pipeline import generation, window
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.query import Prediction, Query
from gatescope.pipeline.sampling import Generated

if TYPE_CHECKING:
    from gatescope.pipeline.pipeline import Pipeline


class Extended(NamedTuple):
    """A query's sequences with the further steps."""

    inputs: Tensor
    """The inputs with the further steps behind each row's own last one."""
    lengths: Tensor
    """(batch,)."""
    prediction: Prediction | None
    """Of the further steps, (batch, step, value); None where none is asked for."""
    generated: Generated | None = None
    """Of a model that writes tokens."""


def extend(pipeline: Pipeline, query: Query) -> Extended:
    """Run on for `query.horizon` steps.

    A model of the same step reads the further steps' known features and predicts them; a model of the next step reads
    its own prediction of each step, beside that step's known features. One that writes tokens may end earlier.
    """
    if pipeline.task == "next_token":
        rows, prediction, generated = generation.write(pipeline, query)
        return Extended(*append(query.inputs, query.sequence_lengths, rows), prediction, generated)
    run_on = _feed_back if pipeline.predicts_next_step else _read_ahead
    inputs, lengths, values = run_on(pipeline, query)
    prediction = Prediction(values, torch.full_like(lengths, query.horizon), None) if query.prediction else None
    return Extended(inputs, lengths, prediction)


def _read_ahead(pipeline: Pipeline, query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs, lengths and values."""
    if query.future_inputs is None:
        raise TypeError("a model of the same step needs the inputs of the further steps")
    inputs, lengths = append(query.inputs, query.sequence_lengths, query.future_inputs)
    return inputs, lengths, window.predict_further(pipeline, query, inputs, lengths)


def _feed_back(pipeline: Pipeline, query: Query) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs, lengths and values."""
    predicted = window.predict_on(pipeline, query)
    values = [next(predicted)]  # (batch, value) each
    next_row, rows = _rows(pipeline, query), []
    for step in range(query.horizon):
        query.raise_if_cancelled()
        rows.append(next_row(step, values[-1]))  # (batch, feature)
        if len(values) < query.horizon:
            values.append(predicted.send(rows[-1]))
    inputs, lengths = append(query.inputs, query.sequence_lengths, torch.stack(rows, dim=1))
    return inputs, lengths, torch.stack(values, dim=1)


def _rows(pipeline: Pipeline, query: Query) -> _FeatureRows:
    if pipeline.head is None or not isinstance(pipeline.inputs, FeatureInputs):
        raise TypeError("a model without a head, or of tokens, predicts no features")
    return _FeatureRows(pipeline.head.config.fed_back(pipeline.inputs.names), query)


class _FeatureRows:
    """The inputs of the further steps: known features as given, the others from the outputs of the same name."""

    def __init__(self, fed_back: dict[int, int], query: Query) -> None:
        batch_size, _, features = query.inputs.shape
        nothing = query.inputs.new_full((batch_size, query.horizon, features), torch.nan)
        self._future = nothing if query.future_inputs is None else query.future_inputs
        self._fed_back = fed_back

    def __call__(self, step: int, predicted: Tensor) -> Tensor:
        """(batch, feature), given the prediction of this step, (batch, value)."""
        row = self._future[:, step].clone()
        for feature, output in self._fed_back.items():
            value = predicted[:, output].to(row.dtype)
            row[:, feature] = torch.where(row[:, feature].isnan(), value, row[:, feature])
        return row
