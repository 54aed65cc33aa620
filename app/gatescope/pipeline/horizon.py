"""The horizon: predictions fed back as inputs, for forecasts beyond the data and for text that writes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from gatescope import padding
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.query import Prediction, Query

if TYPE_CHECKING:
    from gatescope.pipeline.pipeline import Pipeline


def extend(pipeline: Pipeline, query: Query) -> tuple[Tensor, Tensor, Prediction]:
    """Run on for `query.horizon` steps.

    A model of the same step reads the further steps' known features and predicts them; a model of the next step reads
    its own prediction of each step, beside that step's known features.

    Returns:
        The inputs with the further steps behind each row's own last one, their lengths (batch,), and the prediction
        of those steps (batch, horizon, value).
    """
    run_on = _feed_back if pipeline.predicts_next_step else _read_ahead
    inputs, lengths, values, choices = run_on(pipeline, query)
    return inputs, lengths, Prediction(values, torch.full_like(lengths, query.horizon), choices)


_Further = tuple[Tensor, Tensor, Tensor, Tensor | None]  # inputs, lengths, values, choices


def _read_ahead(pipeline: Pipeline, query: Query) -> _Further:
    if query.future_inputs is None:
        raise TypeError("a model of the same step needs the inputs of the further steps")
    inputs, lengths = append(query.inputs, query.sequence_lengths, query.future_inputs)
    return inputs, lengths, pipeline.predict_further(query, inputs, lengths), None


def _feed_back(pipeline: Pipeline, query: Query) -> _Further:
    predicted = pipeline.predict_on(query)
    values = [next(predicted)]  # (batch, value) each
    next_row, rows = _rows(pipeline, query), []
    for step in range(query.horizon):
        query.raise_if_cancelled()
        rows.append(next_row(step, values[-1]))  # (batch, feature), or (batch,) of tokens
        if len(values) < query.horizon:
            values.append(predicted.send(rows[-1]))
    further = torch.stack(rows, dim=1)
    inputs, lengths = append(query.inputs, query.sequence_lengths, further)
    return inputs, lengths, torch.stack(values, dim=1), further if pipeline.task == "next_token" else None


class _Rows(Protocol):
    def __call__(self, step: int, predicted: Tensor) -> Tensor:
        """The inputs of one further step, given the prediction of it (batch, value)."""


def _rows(pipeline: Pipeline, query: Query) -> _Rows:
    if pipeline.head is None:
        raise TypeError("a model without a head predicts nothing")
    config = pipeline.head.config
    if isinstance(pipeline.inputs, FeatureInputs):
        return _FeatureRows(config.fed_back(pipeline.inputs.names), query)
    return _TokenRows(config.temperature, config.seed, query)


class _FeatureRows:
    """Known features as given, the others from the outputs of the same name."""

    def __init__(self, fed_back: dict[int, int], query: Query) -> None:
        batch_size, _, features = query.inputs.shape
        nothing = query.inputs.new_full((batch_size, query.horizon, features), torch.nan)
        self._future = nothing if query.future_inputs is None else query.future_inputs
        self._fed_back = fed_back

    def __call__(self, step: int, predicted: Tensor) -> Tensor:
        """(batch, feature)."""
        row = self._future[:, step].clone()
        for feature, output in self._fed_back.items():
            value = predicted[:, output].to(row.dtype)
            row[:, feature] = torch.where(row[:, feature].isnan(), value, row[:, feature])
        return row


class _TokenRows:
    """The likeliest token, or one drawn at a temperature.

    The draw adds the same Gumbel noise to every row's scores, step by step from one seed: so a row writes the same
    text in any batch, and a shorter horizon writes the beginning of a longer one.
    """

    def __init__(self, temperature: float, seed: int, query: Query) -> None:
        self._temperature = temperature
        self._generator = torch.Generator().manual_seed(seed)
        self._device = query.inputs.device

    def __call__(self, step: int, predicted: Tensor) -> Tensor:  # noqa: ARG002 - features need it
        """(batch,)."""
        if not self._temperature:
            return predicted.argmax(dim=-1)
        noise = torch.empty(predicted.shape[-1]).exponential_(generator=self._generator).log().to(self._device)
        return (predicted / self._temperature - noise).argmax(dim=-1)


def append(inputs: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Put rows (batch, horizon, …) behind each sequence's own last step."""
    sequences = [torch.cat((inputs[b, :length], rows[b])) for b, length in enumerate(lengths.tolist())]
    padded, longer = padding.pad(sequences)
    return padded, longer.to(lengths.device)
