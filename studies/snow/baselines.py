"""What discharge is predicted with where no network is: calendars, yesterday, and a degree-day model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studies.snow.data import Basin, Flags, Floats

RANGES = {
    "precipitation_factor": (0.7, 1.6),  # gauges catch too little snow
    "band_step": (0.5, 4.0),  # °C from one elevation band to the next; five of equal area
    "snow_below": (-1.0, 3.0),  # °C; half of what falls one degree around it is snow
    "melt_above": (-2.0, 3.0),  # °C
    "degree_day": (1.0, 8.0),  # mm melted per day and °C
    "capacity": (30.0, 500.0),  # mm of water in the soil
    "exponent": (0.5, 5.0),  # of the share of the soil's water that runs off
    "fast_share": (0.0, 0.9),
    "fast_days": (1.0, 20.0),
    "slow_days": (20.0, 300.0),
}
"""The parameters of the degree-day model, and between which values they are looked for."""

DRAWS, REFINEMENTS, KEPT = 2000, 4, 20
HALF_WINDOW = 7  # days on each side that the mean of a calendar day is over


@dataclass(frozen=True)
class Simulated:
    """What the degree-day model makes of the weather, for each set of parameters."""

    discharge: Floats  # (set, day) mm
    snow_water: Floats  # (set, day) mm of water in the snow, mean of the bands
    snow_cover: Floats  # (set, day) share of the bands with more than 1 mm


def efficiency(predicted: Floats, measured: Floats, days: Flags) -> float:
    """Nash and Sutcliffe 1970: 1 is perfect, 0 is no better than the mean of these days."""
    known = days & ~np.isnan(measured) & ~np.isnan(predicted)
    rest = ((predicted - measured)[known] ** 2).sum()
    return float(1 - rest / ((measured[known] - measured[known].mean()) ** 2).sum())


def climatology(basin: Basin, values: Floats) -> Floats:
    """The mean of these days of the calendar in the training years, for every day."""
    means = np.empty(366)
    for day in range(366):
        apart = np.abs(basin.day_of_year - day)
        near = np.minimum(apart, 365 - apart) <= HALF_WINDOW
        means[day] = np.nanmean(values[basin.trained & near])
    return means[basin.day_of_year]


def earlier(values: Floats, days: int) -> Floats:
    """What was measured so many days before; NaN where nothing was."""
    moved = np.full_like(values, np.nan)
    moved[days:] = values[:-days]
    return moved


def simulate(basin: Basin, sets: Floats) -> Simulated:
    """Run the degree-day model; sets (set, parameter) in the order of `RANGES`.

    Five bands of equal area store snow, one soil loses water to the air and to two linear stores: HBV of Bergström
    1976 without routing, with bands as in CemaNeige (Valéry et al. 2014).
    """
    factor, step, snow_below, melt_above, degree_day, capacity, exponent, share, fast, slow = sets.T
    warmer = step[:, None] * np.arange(2, -3, -1)  # (set, band)
    snow, soil = np.zeros_like(warmer), capacity / 2
    quick, base = np.zeros(len(sets)), np.full(len(sets), 10.0)
    found = np.empty((3, len(sets), len(basin.dates)))
    for day, (rain, temperature, evaporation) in enumerate(basin.weather):
        at = temperature + warmer
        frozen = np.clip((snow_below[:, None] + 1 - at) / 2, 0, 1) * (factor * rain)[:, None]
        snow += frozen
        melt = np.minimum(snow, degree_day[:, None] * np.maximum(at - melt_above[:, None], 0))
        snow -= melt
        liquid = (melt - frozen).mean(axis=1) + factor * rain
        recharge = liquid * (soil / capacity) ** exponent
        soil = np.minimum(soil + liquid - recharge, capacity)
        soil -= np.minimum(soil, evaporation * soil / capacity)
        quick, base = quick + share * recharge, base + (1 - share) * recharge
        flows = quick / fast, base / slow
        quick, base = quick - flows[0], base - flows[1]
        found[:, :, day] = flows[0] + flows[1], snow.mean(axis=1), (snow > 1).mean(axis=1)
    return Simulated(*found)


def calibrated(basin: Basin, seed: int = 0, draws: int = DRAWS) -> tuple[dict[str, float], Simulated]:
    """The parameters that are best in the training years, of random ones that are refined four times."""
    generator = np.random.default_rng(seed)
    low, high = np.array(list(RANGES.values())).T
    sets = generator.uniform(low, high, (draws, len(RANGES)))
    best, scores = sets, _scores(basin, sets)
    for round_ in range(REFINEMENTS):
        order = np.argsort(scores)[::-1][:KEPT]
        best, scores = best[order], scores[order]
        spread = 0.15 / 2**round_ * (high - low)
        near = best[generator.integers(len(best), size=draws // 4)]
        more = np.clip(near + spread * generator.standard_normal(near.shape), low, high)
        best, scores = np.concatenate([best, more]), np.concatenate([scores, _scores(basin, more)])
    chosen = best[scores.argmax()]
    return dict(zip(RANGES, chosen.tolist(), strict=True)), simulate(basin, chosen[None])


def _scores(basin: Basin, sets: Floats) -> Floats:
    found = [simulate(basin, part).discharge for part in np.array_split(sets, max(1, len(sets) // 500))]
    predicted = np.concatenate(found)
    return np.array([efficiency(each, basin.discharge, basin.trained) for each in predicted])
