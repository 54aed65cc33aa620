"""Windows of sequences, each asked on its own: of rolling predictions, and of a backtest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from gatescope.errors import InvalidInput, Place
from gatescope.tables.answers import ID, STEP, TIME, at, carried_on, output_columns, rows_of
from gatescope.tables.sequences import Sequences, Wanted
from gatescope.tables.times import index_of

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

ORIGIN = "origin"


class Window(NamedTuple):
    """Some steps of a sequence."""

    row: int
    begin: int
    end: int
    """The first step behind it."""


@dataclass(frozen=True)
class Rolling:
    """Which windows are predicted."""

    window: int
    """How many steps each has."""
    stride: int | None = None
    """How many steps lie between them; the horizon by default, so that each step is predicted once."""
    horizon: int | None = None
    """How many steps are predicted behind each, one after another; the one prediction of its end without it."""

    def windows(self, sequences: Sequences) -> Iterator[Window]:
        """Those of all sequences, where the steps of a horizon have known features."""
        further = self.horizon or 0
        for row, values in enumerate(sequences.inputs):
            last = min(len(values), len(values) + sequences.horizon - further)
            for end in range(self.window, last + 1, self.stride or self.horizon or 1):
                yield Window(row, end - self.window, end)


def batches(items: Iterable[T], steps_of: Callable[[T], int], most_steps: int) -> Iterator[list[T]]:
    """Items together that have no more steps than this, with the padding of the shorter ones; or one item."""
    part: list[T] = []
    longest = 0
    for item in items:
        steps = steps_of(item)
        if part and (len(part) + 1) * max(longest, steps) > most_steps:
            yield part
            part, longest = [], 0
        part.append(item)
        longest = max(longest, steps)
    if part:
        yield part


def request(
    sequences: Sequences, wanted: Wanted, windows: Sequence[Window], horizon: int | None = None
) -> dict[str, Any]:
    """The predict body of these windows, as arrays; the outputs of a horizon are NaN, which are fed back."""
    body = {
        "inputs": [sequences.inputs[each.row][each.begin : each.end] for each in windows],
        "columns": list(sequences.columns),
    }
    if sequences.needs_times:
        body["timestamps"] = [_stamps(sequences, each.row, each.begin, each.end + (horizon or 0)) for each in windows]
    if sequences.static_inputs is not None:
        body["static_inputs"] = sequences.static_inputs[[each.row for each in windows]]
        body["static_columns"] = list(sequences.static_columns)
    if horizon is None:
        return body
    further = np.stack([_steps(sequences, each.row, each.end, horizon) for each in windows])
    further[..., [name in wanted.outputs for name in sequences.columns]] = np.nan
    return body | {"horizon": horizon, "future_inputs": further}


def _stamps(sequences: Sequences, row: int, first: int, stop: int) -> list[str | float]:
    """The times of these steps of a sequence, those of its further steps included."""
    known, further = ([] if part is None else part[row] for part in (sequences.timestamps, sequences.future_timestamps))
    return [*known[first:stop], *further[max(0, first - len(known)) : max(0, stop - len(known))]]


def _steps(sequences: Sequences, row: int, first: int, count: int) -> np.ndarray:
    """The features of so many steps of a sequence, those of its further steps included."""
    parts = [sequences.inputs[row], *([] if sequences.future_inputs is None else [sequences.future_inputs[row]])]
    known = parts[0][first : first + count]
    return known if len(known) == count else np.concatenate(parts)[first : first + count]


def window_frame(
    reply: Mapping[str, Any], windows: Sequence[Window], sequences: Sequences, wanted: Wanted, horizon: int | None
) -> pd.DataFrame:
    """A row for each step that is predicted from a window.

    Columns: `id` where there are ids, `origin` (the time of the window's last step, or its index), `time` or `step` of
    what is predicted, then each output, and beside it `NAME_observed` where it was measured.

    Args:
        reply: to `request` of these windows, of a regression.
        windows: what was asked.
        sequences: of which they are.
        wanted: what the model gives.
        horizon: how many steps were predicted behind each window.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    count = horizon or 1
    predicted = np.concatenate([row[-count:] for row in rows_of(reply["prediction"]["values"])])
    rows = np.repeat([each.row for each in windows], count)
    origins = np.repeat([each.end - 1 for each in windows], count)
    shift = np.tile(np.arange(count), len(windows)) + int(wanted.feeds_back or horizon is not None)
    places = origins + shift
    made: dict[str, Any] = {}
    if sequences.ids is not None:
        made[ID] = pd.array(list(sequences.ids), dtype="str").take(rows)
    if sequences.timestamps is None:
        made |= {ORIGIN: origins, STEP: places}
    else:
        made |= {ORIGIN: _times(sequences, rows, origins), TIME: _times(sequences, rows, places)}
    observed = {
        name: np.concatenate([at(known[row], places[rows == row]) for row in _each(rows)])
        for name in wanted.outputs
        if (known := _observed(name, sequences)) is not None
    }
    return pd.DataFrame(made | output_columns(predicted, observed, wanted))


def _observed(name: str, sequences: Sequences) -> list[np.ndarray] | None:
    """What was measured of an output, (time,) of each sequence; also of one that is read, too."""
    if name in sequences.observed:
        return list(sequences.observed[name])
    if name not in sequences.columns:
        return None
    index = sequences.columns.index(name)
    return [values[:, index] for values in sequences.inputs]


def _times(sequences: Sequences, rows: np.ndarray, places: np.ndarray) -> pd.Index:
    def of_row(row: int, own: np.ndarray) -> pd.Index:
        parts = [sequences.timestamps, sequences.future_timestamps]
        first, *others = [index_of(part[row]) for part in parts if part is not None]
        known = first.append(others) if others else first
        return carried_on(known, int(own.max()) + 1 - len(known))[own]

    parts = [of_row(row, places[rows == row]) for row in _each(rows)]
    return parts[0].append(parts[1:]) if len(parts) > 1 else parts[0]


def _each(rows: np.ndarray) -> list[int]:
    return list(dict.fromkeys(rows.tolist()))


def check(rolling: Rolling, wanted: Wanted) -> None:
    """Refuse a horizon of a model that predicts the step that it reads; raises `InvalidInput`."""
    if rolling.horizon is not None and not wanted.feeds_back:
        message = f"model '{wanted.model}' predicts the step that it reads, not those behind it: leave it out"
        raise InvalidInput.at(Place(("horizon",), message))
