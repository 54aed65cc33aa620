"""`prediction_frame`: a reply's predictions as a table, beside the times, ids and measured values of what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.tables.sequences import Sequences, Wanted

if TYPE_CHECKING:
    import pandas as pd

ID, TIME, STEP = "id", "time", "step"


def prediction_frame(reply: Mapping[str, Any], sequences: Sequences, wanted: Wanted) -> pd.DataFrame:
    """A row for each prediction, or for each sequence that has one.

    Columns: `id` where there are ids, `time` where there are times, else `step`, then each output, and beside it
    `NAME_observed` where it was measured.

    Args:
        reply: to a predict request of these sequences, of a regression.
        sequences: what was asked.
        wanted: what the model gives.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    parts = [
        _of_row(row, np.atleast_2d(np.asarray(values, dtype=np.float64)), sequences, wanted)
        for row, values in enumerate(reply["prediction"]["values"])
    ]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def _of_row(row: int, values: np.ndarray, sequences: Sequences, wanted: Wanted) -> dict[str, Any]:
    """The columns of one sequence, whose predictions are (step, output)."""
    made: dict[str, Any] = {}
    if sequences.ids is not None:
        made[ID] = [sequences.ids[row]] * len(values)
    steps = len(sequences.inputs[row])
    is_per_step = sequences.horizon > 0 or len(values) == steps
    shift = 1 if wanted.feeds_back and not sequences.horizon else 0
    places = np.arange(len(values)) + (steps if sequences.horizon else shift) if is_per_step else [steps - 1 + shift]
    if sequences.timestamps is None:
        made[STEP] = list(places)
    else:
        known = [*sequences.timestamps[row], *(sequences.future_timestamps or [[]] * (row + 1))[row]]
        made[TIME] = [_time(known, int(place)) for place in places]
    for index, name in enumerate(wanted.outputs):
        made[name] = values[:, index]
        if name in sequences.observed:
            made[f"{name}_observed"] = _at(sequences.observed[name][row], places)
    return made


def _time(known: Sequence[Any], place: int) -> Any:
    """The time of a step; behind the last one, as far behind it as that is behind the one before."""
    import pandas as pd  # noqa: PLC0415

    if place < len(known):
        return known[place]
    if len(known) < 2:  # noqa: PLR2004 - a step lies between two
        return None
    last, before = known[-1], known[-2]
    if not isinstance(last, str):
        return last + (last - before)
    following = pd.Timestamp(last) + (pd.Timestamp(last) - pd.Timestamp(before))
    return following.date().isoformat() if "T" not in last else following.isoformat()


def _at(values: np.ndarray, places: Sequence[int] | np.ndarray) -> list[float]:
    return [float(values[place]) if place < len(values) else float("nan") for place in places]
