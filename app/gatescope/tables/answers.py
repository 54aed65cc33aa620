"""`prediction_frame`: a reply's predictions as a table, beside the times, ids and measured values of what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.tables import further_times
from gatescope.tables.sequences import Sequences, Wanted
from gatescope.tables.times import Stamps, index_of

if TYPE_CHECKING:
    import pandas as pd

ID, TIME, STEP = "id", "time", "step"


def prediction_frame(
    reply: Mapping[str, Any], sequences: Sequences, wanted: Wanted, horizon: int | None = None
) -> pd.DataFrame:
    """A row for each prediction, or for each sequence that has one.

    Columns: `id` where there are ids, `time` where there are times, else `step`, then each output, or its quantiles,
    and beside it `NAME_observed` where it was measured.

    Args:
        reply: to a predict request of these sequences, of quantities; its values are lists, or padded arrays.
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
    observed = {
        name: np.concatenate([at(known[row.row], row.places) for row in rows])
        for name, known in sequences.observed.items()
    }
    return pd.DataFrame(made | output_columns(values, observed, wanted))


def output_columns(values: np.ndarray, observed: Mapping[str, np.ndarray], wanted: Wanted) -> dict[str, np.ndarray]:
    """The columns of predictions (row, value): each output, or its quantiles, and beside it what was measured.

    Args:
        values: what was predicted.
        observed: output -> what was measured, (row,).
        wanted: what the model gives.
    """
    columns = dict(zip(wanted.value_names, values.T, strict=True))
    count, made = max(1, len(wanted.quantiles)), dict[str, np.ndarray]()
    for index, name in enumerate(wanted.outputs):
        made |= {each: columns[each] for each in wanted.value_names[index * count : (index + 1) * count]}
        if name in observed:
            made[f"{name}_observed"] = observed[name]
    return made


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
    """Times and so many behind the last, as far apart as the last ones; missing where there are fewer than two."""
    import pandas as pd  # noqa: PLC0415

    if steps <= 0:
        return known
    told = further_times.carried_on(list(known if known.dtype.kind == "O" else Stamps(known)), steps)
    if not told:
        return known.append(pd.Index([None] * steps, dtype=known.dtype if known.dtype.kind == "M" else np.float64))
    if known.dtype.kind != "M":
        return known.append(pd.Index(told))
    further = pd.DatetimeIndex(pd.to_datetime(told, utc=known.tz is not None)).as_unit(known.unit)
    return known.append(further if known.tz is None else further.tz_convert(known.tz))


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


def _joined(parts: list[pd.Index]) -> pd.Index:
    return parts[0].append(parts[1:]) if len(parts) > 1 else parts[0]
