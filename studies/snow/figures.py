"""The figures of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studies.page import ACCENT, DARK, LIGHT, figure, save
from studies.snow.clamping import ERASED
from studies.snow.data import Basin, Floats

DRAWN = 3  # every third day, so that the file stays small


def series(basin: Basin, discharge: Floats, state: Floats, folder: Path) -> None:
    """Snow cover beside the state of the unit, and discharge, on the held-out days of one seed."""
    days = np.flatnonzero(basin.held_out)[::DRAWN]
    dates = basin.dates[days]
    drawn, ((above,), (below,)) = figure(2, 1, (7.2, 4.2))
    above.plot(dates, basin.snow[days], ".", color=LIGHT, markersize=2, label="snow cover (satellite)")
    above.set_ylabel("covered share")
    other = above.twinx()
    other.plot(dates, state[days], color=ACCENT, linewidth=0.9, label="cell state of the unit")
    other.set_ylabel("cell state")
    lines = [*above.lines, *other.lines]
    above.legend(lines, [line.get_label() for line in lines], loc="upper left", ncols=2, frameon=False, fontsize=8)
    above.set_ylim(0, 1.25)
    low, high = other.get_ylim()
    other.set_ylim(low, low + 1.25 * (high - low))
    below.plot(dates, basin.discharge[days], color=LIGHT, linewidth=1.6, label="measured")
    below.plot(dates, discharge[days], color=DARK, linewidth=0.8, label="LSTM")
    below.set_ylabel("discharge, mm/day")
    below.legend(frameon=False, fontsize=8, ncols=2)
    save(drawn, folder, "snow-series")


def probes(seeds: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """R² of each probe and its controls, a dot a seed."""
    names, kinds = list(seeds[0]["probes"]), list(next(iter(seeds[0]["probes"].values())))
    drawn, (axes,) = figure(1, len(names), (7.2, 2.6))
    for axis, name in zip(axes, names, strict=True):
        for place, kind in enumerate(kinds):
            values = [each["probes"][name][kind] for each in seeds]
            axis.plot([place] * len(values), values, "o", markersize=3.5, alpha=0.7, color=DARK if place else ACCENT)
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(len(kinds)), kinds, rotation=45, ha="right")
        axis.axhline(0, color=LIGHT, linewidth=0.6)
    axes[0].set_ylabel("R² out of fold")
    save(drawn, folder, "snow-probes")


def clamping(seeds: Sequence[Mapping[str, Any]], water: Mapping[str, float], folder: Path) -> None:
    """Left: the change of the flood by each unit. Right: by a memory erased once, beside the snow at that time."""
    drawn, ((left, right),) = figure(1, 2, (7.2, 3.0))
    for place, each in enumerate(seeds):
        flood = np.array(each["clamping"]["flood"])
        left.plot([place] * len(flood), flood, "_", color=LIGHT, markersize=10)
        left.plot(place, flood[each["unit"]["unit"]], "o", color=ACCENT, markersize=5)
    left.set_xlabel("seed (line: a unit; dot: the snow unit)")
    left.set_ylabel("change of the flood, %")
    left.set_xticks(range(len(seeds)), [str(each["seed"]) for each in seeds])
    for each in seeds:
        right.plot(range(len(ERASED)), list(each["clamping"]["once"].values()), color=ACCENT, linewidth=0.8, alpha=0.6)
    right.set_ylabel("change of the flood, %", color=ACCENT)
    right.set_xticks(range(len(ERASED)), ERASED)
    right.set_xlabel("memory of the snow unit erased on")
    other = right.twinx()
    other.plot(range(len(ERASED)), list(water.values()), "s--", color=DARK, markersize=4)
    other.set_ylabel("snow, mm of water", color=DARK)
    other.invert_yaxis()
    save(drawn, folder, "snow-clamping")
