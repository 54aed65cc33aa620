"""What a request states of the steps of its horizon."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from gatescope import gaps
from gatescope.errors import Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.server.api import derived
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.sent_columns import SentColumns, sent_columns
from gatescope.server.api.sequences import unknown_category


def horizon_of(request: PredictRequest, model: Model) -> int:
    """How many steps the model is to predict from its own predictions; 0 for none. Raises `InvalidInput`."""
    if request.horizon is None:
        return 0
    if model.pipeline.horizon_refusal:
        refuse(f"model '{model.name}' {model.pipeline.horizon_refusal}", "horizon")
    return request.horizon


def future_inputs_of(request: PredictRequest, model: Model, sequences: list[np.ndarray]) -> Tensor | None:
    """What is known of the steps of the horizon: (batch, step, feature), NaN where the prediction is fed back.

    Args:
        request: states them.
        model: is asked.
        sequences: which come before; the values at their last steps are held where the manifest says so.

    Raises:
        InvalidInput: they do not fit the model, the horizon or the sequences.
    """
    inputs, head, future = model.manifest.input, model.manifest.head, request.future_inputs
    if request.horizon is None:
        if future is not None:
            refuse("goes with 'horizon'", "future_inputs")
        return None
    if not isinstance(inputs, FeatureInputs):
        if future is not None:
            refuse(f"model '{model.name}' reads tokens; it has no features to know ahead", "future_inputs")
        return None
    return _rows(request, model, inputs, {} if head is None else head.fed_back(inputs.names), sequences)


def _rows(
    request: PredictRequest,
    model: Model,
    inputs: FeatureInputs,
    fed_back: dict[int, int],
    sequences: list[np.ndarray],
) -> Tensor | None:
    """The same of a request with a horizon."""
    future, sent = request.future_inputs, sent_columns(request, model)
    rows = _stated(request, model, inputs, fed_back, sent, sequences)
    if rows is None:
        return None
    if sent.derived:
        moments = derived.further_moments_of(request, list(map(len, sequences)), inputs, request.horizon or 0)
        for row, own in zip(rows, moments, strict=True):
            derived.fill(row, own, inputs)
    rows, place = _filled(rows, inputs, fed_back, sequences)
    place = place or _unknown_future(rows, inputs, fed_back) or unknown_category(list(rows), inputs)
    if place is None and inputs.masked is not None:
        place = _skipped(rows, inputs)
    if place is not None:
        *within, feature = place.loc
        if feature in sent.derived:
            refuse(f"at step {within[1]} of the horizon of sequence {within[0]} {place.message}", "timestamps")
        refuse(place.message, "future_inputs", *within[_is_alone(future) :], sent.column(feature))
    return torch.from_numpy(rows)


def _stated(
    request: PredictRequest,
    model: Model,
    inputs: FeatureInputs,
    fed_back: Collection[int],
    sent: SentColumns,
    sequences: list[np.ndarray],
) -> np.ndarray | None:
    """What the request says of the steps of the horizon, (batch, step, feature); None where it need not say anything.

    NaN stands for what is fed back, and for what follows from the times.
    """
    future, names, horizon = request.future_inputs, inputs.names, request.horizon or 0
    if future is not None:
        rows = future[None] if _is_alone(future) else future  # (batch, step, column)
        _check_future_shape(rows, horizon, len(sequences), len(sent.features))
        return np.ascontiguousarray(sent.arranged(rows))
    left = [index for index in range(len(names)) if index not in fed_back and index not in sent.derived]
    if left:
        listed = ", ".join(names[index] for index in left)
        remedy = "; those of the calendar follow from 'timestamps' where 'inputs' lacks them, too"
        message = f"is missing: model '{model.name}' needs {listed} of each future step"
        refuse(message + remedy * any(names[index] in inputs.derived for index in left), "future_inputs")
    return np.full((len(sequences), horizon, len(names)), np.nan, sequences[0].dtype) if sent.derived else None


def _is_alone(future: np.ndarray | None) -> bool:
    """Whether it comes without a batch."""
    return future is not None and future.ndim == 2  # noqa: PLR2004


def _check_future_shape(future: np.ndarray, horizon: int, sequences: int, columns: int) -> None:
    if len(future) != sequences:
        refuse(f"has a batch of {len(future)}, but there are {sequences} sequences", "future_inputs")
    if future.shape[1] != horizon:
        refuse(f"has {future.shape[1]} steps, but the horizon is {horizon}", "future_inputs")
    if future.shape[2] != columns:
        refuse(f"has {future.shape[2]} columns, but 'inputs' has {columns}: give the same in both", "future_inputs")


def _skipped(future: np.ndarray, inputs: FeatureInputs) -> Place | None:
    """The first step that the training skipped; its place is (row, step, feature)."""
    for row, steps in enumerate(future):
        if (place := inputs.skipped(steps)) is not None:
            return Place((row, *place.loc, 0), place.message)
    return None


def _filled(
    future: np.ndarray, inputs: FeatureInputs, fed_back: dict[int, int], sequences: list[np.ndarray]
) -> tuple[np.ndarray, Place | None]:
    """The same with missing values filled, as the manifest says, or where that cannot be done."""
    if not inputs.takes_gaps:
        return future, None
    known = [index for index in range(len(inputs.features)) if index not in fed_back]
    rules, names = [inputs.gap_rules[index] for index in known], [inputs.names[index] for index in known]
    made = future.copy()
    for row, sequence in enumerate(sequences):
        try:
            made[row][:, known] = gaps.filled(future[row][:, known], rules, names, sequence[-1, known])
        except gaps.GapRefused as error:
            step, feature = error.place.loc
            return future, Place((row, step, known[int(feature)]), str(error))
    return made, None


def _unknown_future(future: np.ndarray, inputs: FeatureInputs, fed_back: dict[int, int]) -> Place | None:
    """The first null where no prediction is fed back."""
    nulls = np.isnan(future)
    reads_nan = [index for index, rule in enumerate(inputs.gap_rules) if rule == "nan"]
    nulls[..., [*fed_back, *reads_nan]] = False
    if not nulls.any():
        return None
    row, step, feature = (int(index) for index in np.argwhere(nulls)[0])
    message = f"'{inputs.names[feature]}' is null, but no prediction is fed back into it: it must be known"
    return Place((row, step, feature), message)
