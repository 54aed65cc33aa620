"""`prediction_frame`: a reply's predictions as a table, beside the times, ids and measured values of what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.tables.sequences import Sequences, Wanted
from gatescope.tables.times import Stamps

if TYPE_CHECKING:
    import pandas as pd

ID, TIME, STEP = "id", "time", "step"


def prediction_frame(
    reply: Mapping[str, Any], sequences: Sequences, wanted: Wanted, horizon: int | None = None
) -> pd.DataFrame:
    """A row for each prediction, or for each sequence that has one.

    Columns: `id` where there are ids, `time` where there are times, else `step`, then each output, and beside it
    `NAME_observed` where it was measured.

    Args:
        reply: to a predict request of these sequences, of a regression; its values are lists, or padded arrays.
        sequences: what was asked.
        wanted: what the model gives.
        horizon: how many further steps were asked for; those of the sequences by default.

    Raises:
        InvalidInput: it cannot be told of which steps the predictions are.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    further = sequences.horizon if horizon is None else horizon
    given = enumerate(rows_of(reply["prediction"]["values"]))
    rows = [_Row(row, values, sequences, further, feeds_back=wanted.feeds_back) for row, values in given]
    made: dict[str, Any] = {}
    if sequences.ids is not None:
        ids = pd.array(list(sequences.ids), dtype="str")
        made[ID] = ids.take(np.repeat(np.arange(len(rows)), [len(row.predicted) for row in rows]))
    if sequences.timestamps is None:
        made[STEP] = np.concatenate([row.places for row in rows])
    else:
        made[TIME] = _joined([row.times() for row in rows])
    values = np.concatenate([row.predicted for row in rows])
    for index, name in enumerate(wanted.outputs):
        made[name] = values[:, index]
        if name in sequences.observed:
            observed = sequences.observed[name]
            made[f"{name}_observed"] = np.concatenate([at(observed[row.row], row.places) for row in rows])
    return pd.DataFrame(made)


def rows_of(values: Any) -> Iterator[np.ndarray]:
    """The predictions of each sequence, (step, output): one step of a head that predicts once; without padding."""
    for row in values:
        own = np.atleast_2d(np.asarray(row, dtype=None if isinstance(row, np.ndarray) else np.float64))
        known = np.flatnonzero(~np.isnan(own).all(axis=1))
        yield own[: known[-1] + 1] if len(known) else own


def at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The values at these places, NaN behind the last."""
    return np.where(places < len(values), values[np.minimum(places, len(values) - 1)], np.nan)


def carried_on(known: pd.Index, steps: int) -> pd.Index:
    """Times and so many behind the last, as far apart as the last two; missing where there are fewer than two."""
    import pandas as pd  # noqa: PLC0415

    if steps <= 0:
        return known
    if len(known) < 2:  # noqa: PLR2004 - a step lies between two
        return known.append(pd.Index([None] * steps, dtype=known.dtype if known.dtype.kind == "M" else np.float64))
    width = known[-1] - known[-2]
    return known.append(pd.Index([known[-1] + width * (step + 1) for step in range(steps)], dtype=known.dtype))


class _Row:
    """One sequence and its predictions (step, output)."""

    def __init__(self, row: int, values: np.ndarray, sequences: Sequences, horizon: int, *, feeds_back: bool) -> None:
        self.row, self.predicted, self._sequences = row, values, sequences
        steps, count = len(sequences.inputs[row]), len(values)
        if not horizon and count not in {1, steps}:
            raise InvalidInput(f"a sequence of {steps} steps has {count} predictions: it cannot be told of which steps")
        first = steps if horizon else steps + int(feeds_back) - count
        self.places = np.arange(first, first + count)

    def times(self) -> pd.Index:
        """Of each prediction."""
        parts = [self._sequences.timestamps, self._sequences.future_timestamps]
        known = _joined([index_of(part[self.row]) for part in parts if part is not None])
        return carried_on(known, int(self.places[-1]) + 1 - len(known))[self.places]


def index_of(stamps: Any) -> pd.Index:
    """The times of a sequence as an index."""
    import pandas as pd  # noqa: PLC0415

    return stamps.moments if isinstance(stamps, Stamps) else pd.Index(stamps)


def _joined(parts: list[pd.Index]) -> pd.Index:
    return parts[0].append(parts[1:]) if len(parts) > 1 else parts[0]
