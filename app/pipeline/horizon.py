"""The horizon: predictions fed back as inputs, for forecasts beyond the data and for text that writes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from app.lstm import State, batch
from app.lstm.forward import forward
from app.pipeline.features import FeatureInputs
from app.pipeline.query import Prediction, Query

if TYPE_CHECKING:
    from app.pipeline.pipeline import Pipeline


def extend(pipeline: Pipeline, query: Query) -> tuple[Tensor, Tensor, Prediction]:
    """Run on for `query.horizon` steps.

    A model of the next step reads its own prediction of each step, beside that step's known features; a model of the
    same step reads that step's known features and then predicts it.

    Returns:
        The inputs with the further steps behind each row's own last one, their lengths (batch,), and the prediction
        of those steps (batch, horizon, value).
    """
    encoded = pipeline.encoder(query.inputs)
    state = query.initial_state or State.zeros(pipeline.spec, len(encoded), encoded)
    output, state = forward(pipeline.lstm, encoded, query.sequence_lengths, state)
    last = pipeline.predict_step(batch.at_last_step(output, query.sequence_lengths))  # (batch, value)
    rows, values = _run_on(pipeline, query, last, state)
    inputs, lengths = _append(query.inputs, query.sequence_lengths, rows)
    choices = rows if pipeline.task == "next_token" else None
    return inputs, lengths, Prediction(values, torch.full_like(lengths, query.horizon), choices)


def _run_on(pipeline: Pipeline, query: Query, last: Tensor, state: State) -> tuple[Tensor, Tensor]:
    """The rows read, (batch, horizon, feature) or (batch, horizon), and the values predicted for them."""
    next_row = _rows(pipeline, query)
    reads_itself = pipeline.predicts_next_step
    one_step = torch.ones(len(last), dtype=torch.int64, device=last.device)
    rows, values = [], [last] if reads_itself else []
    for step in range(query.horizon):
        rows.append(next_row(step, values[-1] if reads_itself else None))
        if len(values) < query.horizon:
            output, state = forward(pipeline.lstm, pipeline.encoder(rows[-1][:, None]), one_step, state)
            values.append(pipeline.predict_step(output[:, 0]))
    return torch.stack(rows, dim=1), torch.stack(values, dim=1)


class _Rows(Protocol):
    def __call__(self, step: int, predicted: Tensor | None) -> Tensor:
        """The inputs of one further step, given the prediction of it (batch, value) where there is one."""


def _rows(pipeline: Pipeline, query: Query) -> _Rows:
    if isinstance(pipeline.inputs, FeatureInputs):
        return _FeatureRows(pipeline.output_config.fed_back(pipeline.inputs.names), query)
    return _TokenRows(pipeline.output_config.temperature, pipeline.output_config.seed, query)


class _FeatureRows:
    """Known features as given, the others from the outputs of the same name."""

    def __init__(self, fed_back: dict[int, int], query: Query) -> None:
        batch_size, _, features = query.inputs.shape
        nothing = query.inputs.new_full((batch_size, query.horizon, features), torch.nan)
        self._future = nothing if query.future_inputs is None else query.future_inputs
        self._fed_back = fed_back

    def __call__(self, step: int, predicted: Tensor | None) -> Tensor:
        """(batch, feature)."""
        row = self._future[:, step].clone()
        if predicted is not None:
            for feature, output in self._fed_back.items():
                row[:, feature] = torch.where(row[:, feature].isnan(), predicted[:, output], row[:, feature])
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

    def __call__(self, step: int, predicted: Tensor | None) -> Tensor:  # noqa: ARG002
        """(batch,)."""
        if predicted is None:
            raise TypeError("a token is drawn from a prediction")
        if not self._temperature:
            return predicted.argmax(dim=-1)
        noise = torch.empty(predicted.shape[-1]).exponential_(generator=self._generator).log().to(self._device)
        return (predicted / self._temperature - noise).argmax(dim=-1)


def _append(inputs: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Put rows (batch, horizon, …) behind each sequence's own last step."""
    sequences = [torch.cat((inputs[b, :length], rows[b])) for b, length in enumerate(lengths.tolist())]
    padded, longer = batch.pad(sequences)
    return padded, longer.to(lengths.device)
