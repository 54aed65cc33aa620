"""`SentColumns`: which of the model's features the columns of a request's numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.server.api.named_columns import order_of
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.requests import PredictRequest


class SentColumns(NamedTuple):
    """The columns of `inputs` and `future_inputs`: all features, or all but those that follow from the times."""

    features: Sequence[int]
    """Of each column, the index of its feature."""
    derived: Sequence[int]
    """The features that no column has."""

    @property
    def width(self) -> int:
        """How many features the model has."""
        return len(self.features) + len(self.derived)

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """(…, column) -> (…, feature) in the model's order; NaN where no column has one."""
        if not self.derived and list(self.features) == list(range(len(self.features))):
            return values
        made = np.full((*values.shape[:-1], self.width), np.nan, dtype=values.dtype)
        made[..., list(self.features)] = values
        return made

    def column(self, feature: int | str) -> int:
        """The column that has a feature."""
        return self.features.index(int(feature))


def sent_columns(request: PredictRequest, model: Model) -> SentColumns:
    """Which features the columns of a request with `inputs` are.

    Raises:
        InvalidInput: the columns are named, and are not the model's features.
    """
    inputs = model.manifest.input
    if not isinstance(inputs, FeatureInputs):
        if request.columns is not None:
            refuse(f"model '{model.name}' reads tokens, which have no columns", "columns")
        return SentColumns((), ())
    width = None if not request.inputs else request.inputs[0].shape[-1]
    lacks_derived = bool(inputs.derived) and width == len(inputs.stated)
    names = [inputs.names[index] for index in inputs.stated] if lacks_derived else inputs.names
    own = inputs.stated if lacks_derived else range(len(inputs.names))
    order = order_of(request.columns, names, "columns")
    features = list(own)
    for index, column in enumerate(order or ()):
        features[column] = own[index]
    return SentColumns(features, [index for index in range(len(inputs.names)) if index not in own])
