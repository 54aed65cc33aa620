"""Features that follow from the times of the steps, of requests that leave them out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from gatescope.pipeline import calendar
from gatescope.pipeline.features import FeatureInputs
from gatescope.server.api.places import refuse
from gatescope.server.api.row_labels import stamps_of
from gatescope.server.api.schema.requests import PredictRequest
from gatescope.tables.further_times import regular


def moments_of(request: PredictRequest, lengths: Sequence[int], inputs: FeatureInputs) -> list[list[datetime]]:
    """The time of each step of each sequence, and behind them those of the horizon that the request says.

    Raises:
        InvalidInput: there are none, or they are no dates.
    """
    left_out = ", ".join(map(repr, inputs.derived))
    stamps = stamps_of(request, lengths)
    if stamps is None:
        refuse(
            f"is missing: {left_out} follow from the time of each step; give it, or these columns, too", "timestamps"
        )
    if not isinstance(stamps[0][0], str):
        refuse(f"must be dates in ISO 8601, not numbers: {left_out} follow from them", "timestamps")
    return [[datetime.fromisoformat(str(stamp)) for stamp in row] for row in stamps]


def further_moments_of(
    request: PredictRequest, lengths: Sequence[int], inputs: FeatureInputs, steps: int
) -> list[list[datetime]]:
    """The time of each step of the horizon of each sequence, as the request says it or the times before it go on.

    Raises:
        InvalidInput: the times before it are not equally far apart, or there is only one; or as `moments_of`.
    """
    made = []
    for row, moments in enumerate(moments_of(request, lengths, inputs)):
        if len(moments) > lengths[row]:
            made.append(moments[lengths[row] :])
            continue
        following = regular(moments) if len(moments) > 1 else None
        if following is None:
            message = (
                f"do not say when the steps of the horizon are: those of sequence {row} are not equally far apart; "
                f"give these {steps} times behind them, too"
            )
            refuse(message, "timestamps")
        try:
            made.append([following(step + 1) for step in range(steps)])
        except (OverflowError, ValueError):
            refuse("go beyond the year 9999 within the horizon", "timestamps")
    return made


def fill(values: np.ndarray, moments: Sequence[datetime], inputs: FeatureInputs) -> None:
    """Write the features that follow from the times into (time, feature)."""
    columns = [inputs.names.index(name) for name in inputs.derived]
    values[:, columns] = calendar.values(list(inputs.derived.values()), moments[: len(values)])
