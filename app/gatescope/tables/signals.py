"""`signal_frame`: the signals of a trace as a table, a row for each time step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gatescope.tables.answers import ID, STEP, TIME, carried_on
from gatescope.tables.sequences import Sequences
from gatescope.tables.times import index_of

if TYPE_CHECKING:
    import pandas as pd


def signal_frame(reply: Mapping[str, Any], signals: Mapping[str, np.ndarray], sequences: Sequences) -> pd.DataFrame:
    """A row for each time step of each sequence.

    Columns: `id` where there are ids, `time` where there are times, else `step`, then `SIGNAL_lLAYER_UNIT`, or
    `SIGNAL_lLAYER_reverse_UNIT`, of each unit, layer and direction.

    Args:
        reply: to a trace request of all steps of these sequences.
        signals: those of the reply, (batch, layer, direction, time, unit), NaN where a sequence has ended.
        sequences: what was asked.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    some = next(iter(signals.values()))
    steps = [int(np.flatnonzero(~np.isnan(row[0, 0, :, 0]))[-1]) + 1 for row in some]
    made: dict[str, Any] = {}
    if sequences.ids is not None:
        made[ID] = pd.array(list(sequences.ids), dtype="str").take(np.repeat(np.arange(len(steps)), steps))
    if sequences.timestamps is None:
        made[STEP] = np.concatenate([np.arange(count) for count in steps])
    else:
        first, *others = [_times(sequences, row, count) for row, count in enumerate(steps)]
        made[TIME] = first.append(others) if others else first
    for name, values in signals.items():
        parts = [values[row, ..., :count, :] for row, count in enumerate(steps)]
        whole = np.concatenate(parts, axis=2)  # (layer, direction, row, unit)
        for layer, of_layer in zip(reply["layers"], whole, strict=True):
            for direction, of_direction in zip(reply["directions"], of_layer, strict=True):
                before = f"{name}_l{layer}" + "_reverse" * (direction == "reverse")
                made |= {f"{before}_{unit}": each for unit, each in zip(reply["units"], of_direction.T, strict=True)}
    return pd.DataFrame(made)


def _times(sequences: Sequences, row: int, count: int) -> pd.Index:
    parts = [sequences.timestamps, sequences.future_timestamps]
    first, *others = [index_of(part[row]) for part in parts if part is not None]
    known = first.append(others) if others else first
    return carried_on(known, count - len(known))[:count]
