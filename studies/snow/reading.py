"""Which unit and which probe follows the snow cover, beside what does so without having learnt anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gatescope import Trace, analyse, trace
from studies.snow.baselines import climatology
from studies.snow.data import Basin, Floats
from studies.snow.network import Network

COVER, ANOMALY, OTHER_YEAR = "snow cover", "snow cover less its season", "snow cover a year before"
"""What is probed: the series itself, what is left without the calendar, and the same season of another year."""

SEASON = "mean snow cover of the calendar day"
YEAR = 365


@dataclass(frozen=True)
class Unit:
    """The unit that follows the snow cover best in the training years."""

    unit: int
    r_trained: float  # there, where it was chosen
    r: float  # on the held-out days
    shifted: float  # what the best unit reaches on them with shifted series (99 % quantile)
    r_anomaly: float  # on them, without the season of both
    every_r: Floats  # (unit,) of the training years
    seasonal: int  # the unit that follows the mean snow cover of the calendar day best in the training years


def traced(network: Network, basin: Basin) -> Trace:
    """The trace of all days."""
    return trace(network.lstm, torch.tensor(basin.scaled[None], dtype=torch.float32))


def series(basin: Basin, values: Floats, *, held_out: bool) -> list[float | None]:
    """A series as `analyse` takes it, of the training years or the held-out days alone."""
    days = basin.held_out if held_out else basin.trained
    return [
        float(value) if wanted and not np.isnan(value) else None for value, wanted in zip(values, days, strict=True)
    ]


def snow_unit(seen: Trace, basin: Basin) -> Unit:
    """Chosen in the training years, measured on the held-out days."""
    trained, held_out = (
        analyse(seen, "correlation", series=[{"name": COVER, "values": series(basin, basin.snow, held_out=held_out)}])
        for held_out in (False, True)
    )
    every_r = trained["r"][0, 0, 0]
    season = series(basin, climatology(basin, basin.snow), held_out=False)
    by_season = analyse(seen, "correlation", series=[{"name": SEASON, "values": season}])["r"][0, 0, 0]
    unit = int(np.abs(every_r).argmax())
    state = seen.cell_state[0, 0, 0, :, unit].double().numpy()
    anomalies = [values - climatology(basin, values) for values in (state, basin.snow)]
    known = basin.held_out & ~np.isnan(basin.snow)
    r_anomaly = np.corrcoef(anomalies[0][known], anomalies[1][known])[0, 1]
    if held_out.check is None:
        raise TypeError("a correlation has a check")
    r = float(held_out["r"][0, 0, 0, unit])
    return Unit(
        unit, float(every_r[unit]), r, held_out.check.value, float(r_anomaly), every_r, int(np.abs(by_season).argmax())
    )


def probes(seen: Trace, untrained: Trace, basin: Basin) -> dict[str, dict[str, float]]:
    """R² out of fold on the held-out days, of each series: the states' own and that of every control."""
    wanted = {
        COVER: basin.snow,
        ANOMALY: basin.snow - climatology(basin, basin.snow),
        OTHER_YEAR: np.roll(basin.snow, YEAR),
    }
    given: list[dict[str, Any]] = [
        {"name": name, "values": series(basin, values, held_out=True)} for name, values in wanted.items()
    ]
    found, twin = (analyse(each, "probe", series=given) for each in (seen, untrained))
    return {
        name: {
            "trained": float(found["r2"][index]),
            "inputs": float(found["r2_inputs"][index]),
            "untrained": float(found["r2_untrained"][index]),
            "twin": float(twin["r2"][index]),
            "shifted": float(found["r2_shifted"][index]),
        }
        for index, name in enumerate(wanted)
    }
