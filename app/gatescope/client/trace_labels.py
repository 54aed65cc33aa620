"""The ids and times of tables as coordinates of their trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gatescope.client.tables import Series, Tables

if TYPE_CHECKING:
    import xarray


def labelled(traced: xarray.Dataset, tables: Tables) -> xarray.Dataset:
    """With the coordinates `ids` (batch) and `timestamps`, (time) where all sequences have the same, or (batch, time).

    Times with a zone are in UTC, as xarray knows no zones. `time` still counts steps.
    """
    if tables.ids is not None:
        traced = traced.assign_coords(ids=("batch", tables.ids))
    steps = traced["time"].to_numpy()
    rows = [_moments(each, tables.horizon, steps) for each in tables.series]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        return traced
    times = np.stack(known)
    is_one = bool(((times == times[0]) | (np.isnat(times) & np.isnat(times[0]))).all())
    return traced.assign_coords(timestamps=("time", times[0]) if is_one else (("batch", "time"), times))


def _moments(series: Series, horizon: int, steps: np.ndarray) -> np.ndarray | None:
    """When these steps are, NaT behind the last; None where the sequence has no times."""
    moments = None if series.axis is None else series.axis.moments(series.steps + horizon)
    if moments is None:
        return None
    made = np.full(len(steps), np.datetime64("NaT"), dtype=moments.dtype)
    made[steps < len(moments)] = moments[steps[steps < len(moments)]]
    return made
