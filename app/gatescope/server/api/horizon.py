"""What a request states of the steps of its horizon."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gatescope.errors import Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.server.api.sequences import column_order, unknown_category


def horizon_of(request: PredictRequest, model: Model) -> int:
    """How many steps the model is to predict from its own predictions; 0 for none. Raises `InvalidInput`."""
    if request.horizon is None:
        return 0
    if model.pipeline.horizon_refusal:
        refuse(f"model '{model.name}' {model.pipeline.horizon_refusal}", "horizon")
    return request.horizon


def future_inputs_of(request: PredictRequest, model: Model, sequences: int) -> Tensor | None:
    """What is known of the steps of the horizon: (batch, step, feature), NaN where the prediction is fed back.

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
    names = inputs.names
    fed_back = {} if head is None else head.fed_back(names)
    unknown = [name for index, name in enumerate(names) if index not in fed_back]
    if future is None:
        if unknown:
            refuse(f"is missing: model '{model.name}' needs {', '.join(unknown)} of each future step", "future_inputs")
        return None
    alone = future.ndim == 2  # noqa: PLR2004
    rows = future[None] if alone else future  # (batch, step, feature)
    _check_future_shape(rows, request.horizon, sequences)
    order = column_order(request, model)
    rows = rows if order is None else np.ascontiguousarray(rows[..., order])
    place = _unknown_future(rows, names, fed_back) or unknown_category(list(rows), inputs)
    if place is None and inputs.masked is not None:
        place = _skipped(rows, inputs)
    if place is not None:
        *within, feature = place.loc
        sent = feature if order is None else order[int(feature)]
        refuse(place.message, "future_inputs", *within[alone:], sent)
    return torch.from_numpy(rows)


def _check_future_shape(future: np.ndarray, horizon: int, sequences: int) -> None:
    if len(future) != sequences:
        refuse(f"has a batch of {len(future)}, but there are {sequences} sequences", "future_inputs")
    if future.shape[1] != horizon:
        refuse(f"has {future.shape[1]} steps, but the horizon is {horizon}", "future_inputs")


def _skipped(future: np.ndarray, inputs: FeatureInputs) -> Place | None:
    """The first step that the training skipped; its place is (row, step, feature)."""
    for row, steps in enumerate(future):
        if (place := inputs.skipped(steps)) is not None:
            return Place((row, *place.loc, 0), place.message)
    return None


def _unknown_future(future: np.ndarray, names: list[str], fed_back: dict[int, int]) -> Place | None:
    """The first null where no prediction is fed back."""
    nulls = np.isnan(future)
    nulls[..., list(fed_back)] = False
    if not nulls.any():
        return None
    row, step, feature = (int(index) for index in np.argwhere(nulls)[0])
    message = f"'{names[feature]}' is null, but no prediction is fed back into it: it must be known"
    return Place((row, step, feature), message)
