"""What the spring flood becomes where units are made to forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gatescope import Intervention, intervene
from gatescope.selection import Selection
from studies.snow.data import Basin, Floats
from studies.snow.network import Network, Scale

WINTERS = (2006, 2007, 2008, 2009, 2010)
"""The held-out winters, each called by the year in which it ends."""

FLOOD = ("04-01", "07-31")
WINTER = ("12-01", "03-31")
SUMMER = ("07-01", "09-30")
"""First and last days. The flood is that of the same year, the summer that before the winter."""

ERASED = ("12-01", "01-01", "02-01", "03-01", "04-01")
"""The days on which a memory is erased once."""


@dataclass(frozen=True)
class Clamp:
    """The forget gates of some units, set from one day to another."""

    units: Sequence[int]
    first: str  # month and day
    last: str
    value: float = 0.0


@dataclass(frozen=True)
class Effect:
    """What became of the discharge, in mm, (winter, clamp)."""

    flood: Floats
    winter: Floats
    flood_before: Floats  # (winter,) of the run as it is
    winter_before: Floats


def effects(network: Network, basin: Basin, clamps: Sequence[Clamp]) -> Effect:
    """Of every held-out winter: a run of two hydrological years, the first of which warms up."""
    found = [_of_winter(network, basin, clamps, year) for year in WINTERS]
    flood, winter = (np.array([each[part] for each in found]) for part in range(2))
    return Effect(flood[:, 1:] - flood[:, :1], winter[:, 1:] - winter[:, :1], flood[:, 0], winter[:, 0])


def _of_winter(network: Network, basin: Basin, clamps: Sequence[Clamp], year: int) -> tuple[Floats, Floats]:
    """(1 + clamp,) the volume of the flood and of the winter: of the run as it is, and with each clamp."""
    days = basin.days(f"{year - 2}-10-01", f"{year}-07-31")
    dates = basin.dates[days]
    inputs = torch.tensor(basin.scaled[days], dtype=torch.float32).expand(len(clamps), -1, -1)
    edits = [_edit(clamp, row, dates, year) for row, clamp in enumerate(clamps)]
    ran = intervene(network.lstm, inputs, edits, selection=Selection(signals=()))
    output = torch.cat([ran.baseline.output[:1], ran.intervened.output])
    discharge = Scale.of(basin).discharge(network, output)
    spans = (_day(year, FLOOD[0]), _day(year, FLOOD[1])), (_day(year, WINTER[0]), _day(year, WINTER[1]))
    flood, winter = (discharge[:, (dates >= first) & (dates <= last)].sum(axis=1) for first, last in spans)
    return flood, winter


def _edit(clamp: Clamp, row: int, dates: np.ndarray, year: int) -> Intervention:
    is_summer = (clamp.first, clamp.last) == SUMMER
    first, last = (_day(year - is_summer, day) for day in (clamp.first, clamp.last))
    start, stop = np.searchsorted(dates, [first, last + 1]).tolist()
    return Intervention(
        "forget_gate", units=tuple(clamp.units), start=start, stop=stop, sequences=(row,), set=clamp.value
    )


def _day(year: int, day: str) -> np.datetime64:
    """A day of a winter: October to December are those of the year before."""
    return np.datetime64(f"{year - (day >= '10-01')}-{day}")
