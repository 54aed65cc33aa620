"""The numbers of one seed, and of what stands beside the networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from studies.snow import baselines, clamping
from studies.snow.clamping import ERASED, SUMMER, WINTER, WINTERS, Clamp
from studies.snow.data import Basin, Floats
from studies.snow.network import Network, Scale, Settings, train
from studies.snow.reading import probes, snow_unit, traced

GROUP, GROUPS = 4, 20
"""Units that are clamped together, and random groups of so many beside them."""


def without_networks(basin: Basin, draws: int) -> tuple[dict[str, Any], baselines.Simulated]:
    """The efficiency of the baselines on the held-out days, and the degree-day model."""
    parameters, simulated = baselines.calibrated(basin, draws=draws)
    predicted = {
        "same day of the year before": baselines.earlier(basin.discharge, 365),
        "climatology": baselines.climatology(basin, basin.discharge),
        "degree-day model": simulated.discharge[0],
        "yesterday": baselines.earlier(basin.discharge, 1),
    }
    scores = {name: baselines.efficiency(values, basin.discharge, basin.held_out) for name, values in predicted.items()}
    known = basin.held_out & ~np.isnan(basin.snow)
    cover = float(np.corrcoef(simulated.snow_cover[0][known], basin.snow[known])[0, 1])
    water = {day: _mean_on(basin, simulated.snow_water[0], day) for day in ERASED}
    found = {"efficiency": scores, "degree_day": {"parameters": parameters, "r_cover": cover, "snow_water": water}}
    return found, simulated


def of_seed(basin: Basin, seed: int, settings: Settings) -> tuple[dict[str, Any], Network, Floats]:
    """The numbers of one seed, its network, and its discharge of all days."""
    untrained, network = train(basin, seed, settings)
    seen, before = traced(network, basin), traced(untrained, basin)
    discharge = Scale.of(basin).discharge(network, seen.output)[0]
    unit, twin = snow_unit(seen, basin), snow_unit(before, basin)
    numbers = {
        "seed": seed,
        "efficiency": {
            name: baselines.efficiency(discharge, basin.discharge, days)
            for name, days in (("trained", basin.trained), ("held_out", basin.held_out))
        },
        "unit": {
            "unit": unit.unit,
            "seasonal": unit.seasonal,
            "r_trained": unit.r_trained,
            "r": unit.r,
            "r_shifted": unit.shifted,
            "r_anomaly": unit.r_anomaly,
            "r_untrained": twin.r,
            "r_anomaly_untrained": twin.r_anomaly,
            "every_r": unit.every_r.tolist(),
        },
        "probes": probes(seen, before, basin),
        "clamping": _clamping(network, basin, unit.unit, np.argsort(-np.abs(unit.every_r))[:GROUP].tolist(), seed),
    }
    return numbers, network, discharge


def _clamping(network: Network, basin: Basin, chosen: int, group: list[int], seed: int) -> dict[str, Any]:
    """What clamped forget gates do to the flood and the winter, in per cent, mean of the winters."""
    units, generator = range(network.lstm.hidden_size), np.random.default_rng(seed)
    clamps = [
        *(Clamp((unit,), *WINTER) for unit in units),
        Clamp((chosen,), *SUMMER),
        Clamp((chosen,), *WINTER, value=1.0),
        *(Clamp((unit,), day, day) for day in ERASED for unit in units),
        Clamp(tuple(group), *WINTER),
        *(Clamp(tuple(generator.permutation(len(units))[:GROUP].tolist()), *WINTER) for _ in range(GROUPS)),
    ]
    found = clamping.effects(network, basin, clamps)
    flood = 100 * found.flood / found.flood_before[:, None]  # (winter, clamp)
    winter = 100 * found.winter / found.winter_before[:, None]
    count, mean = len(units), flood.mean(axis=0)
    once = mean[count + 2 : count + 2 + len(ERASED) * count].reshape(len(ERASED), count)
    groups = mean[count + 2 + once.size :]
    return {
        "flood": mean[:count].tolist(),
        "rank": rank(mean[:count], chosen),
        "winters": dict(zip(map(str, WINTERS), flood[:, chosen].tolist(), strict=True)),
        "winter_discharge": float(winter[:, chosen].mean()),
        "summer": float(mean[count]),
        "kept": float(mean[count + 1]),
        "once": dict(zip(ERASED, once[:, chosen].tolist(), strict=True)),
        "once_rank": dict(zip(ERASED, [rank(each, chosen) for each in once], strict=True)),
        "group": float(groups[0]),
        "random_groups": groups[1:].tolist(),
    }


def rank(values: Floats, chosen: int) -> int:
    """1 if no other has a larger absolute value."""
    return int((np.abs(values) > abs(values[chosen])).sum()) + 1


def _mean_on(basin: Basin, values: Floats, day: str) -> float:
    """The mean over the held-out winters on one day of them."""
    days = [str(date)[5:] == day for date in basin.dates]
    return float(values[np.array(days) & basin.held_out].mean())
