"""The tables of the page, from the study's numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from studies.page import spread, table

Seeds = Sequence[Mapping[str, Any]]


def tables(numbers: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name."""
    seeds: Seeds = numbers["seeds"]
    return {
        "discharge": _discharge(numbers),
        "units": _units(seeds, numbers["baselines"]["degree_day"]["r_cover"]),
        "probes": _probes(seeds),
        "clamping": _clamping(seeds),
        "once": _once(seeds, numbers["baselines"]["degree_day"]["snow_water"]),
    }


def _over(seeds: Seeds, value: Callable[[Mapping[str, Any]], float]) -> list[float]:
    return [value(each) for each in seeds]


def _discharge(numbers: Mapping[str, Any]) -> str:
    scores = numbers["baselines"]["efficiency"]
    networks = _over(numbers["seeds"], lambda each: each["efficiency"]["held_out"])
    trained = _over(numbers["seeds"], lambda each: each["efficiency"]["trained"])
    rows = [
        ["same day of the year before (naive)", f"{scores['same day of the year before']:.2f}"],
        ["mean of the calendar day (climatology)", f"{scores['climatology']:.2f}"],
        ["**LSTM**, one network", spread(networks)],
        ["mean of all networks", f"{numbers['efficiency_of_mean']:.2f}"],
        ["degree-day model", f"{scores['degree-day model']:.2f}"],
        ["yesterday's discharge, which needs a gauge", f"{scores['yesterday']:.2f}"],
        ["for comparison: LSTM in the training years", spread(trained)],
    ]
    return table(["predicted from", "NSE, held-out years"], rows)


def _units(seeds: Seeds, r_cover: float) -> str:
    def row(name: str, key: str) -> list[str]:
        return [name, spread([abs(each["unit"][key]) for each in seeds])]

    rows = [
        row("best unit of the trained network", "r"),
        row("control: best unit of the same network before training", "r_untrained"),
        row("control: best unit, snow cover shifted in a circle (99 % quantile)", "r_shifted"),
        ["for comparison: cover of the degree-day model", f"{r_cover:.2f}"],
        row("best unit of the trained network, without the season", "r_anomaly"),
        row("control: the same before training", "r_anomaly_untrained"),
    ]
    return table(["what is compared with the snow cover", "absolute r, held-out days"], rows)


def _probes(seeds: Seeds) -> str:
    names = list(seeds[0]["probes"])
    kinds = {
        "trained": "trained network",
        "inputs": "control: inputs with lags of up to 30 days",
        "untrained": "control: untrained networks, also with the trained biases (best of six)",
        "twin": "control: the same network before training (same forget bias)",
        "shifted": "control: series shifted in a circle (best of five)",
    }
    rows = [
        [said, *(spread([each["probes"][name][kind] for each in seeds]) for name in names)]
        for kind, said in kinds.items()
    ]
    above = [
        sum(each["probes"][name]["trained"] > _best_control(each["probes"][name]) for each in seeds) for name in names
    ]
    rows.append(
        ["**seeds in which the trained network is above all controls**", *(f"{n} of {len(seeds)}" for n in above)]
    )
    return table(["R² out of fold, held-out days", *names], rows)


def _best_control(found: Mapping[str, float]) -> float:
    return max(value for name, value in found.items() if name != "trained")


def _clamping(seeds: Seeds) -> str:
    def others(each: Mapping[str, Any]) -> list[float]:
        return [abs(value) for unit, value in enumerate(each["clamping"]["flood"]) if unit != each["unit"]["unit"]]

    def row(name: str, value: Callable[[Mapping[str, Any]], float]) -> list[str]:
        return [name, spread(_over(seeds, value), 1, "+")]

    rows = [
        row("snow unit, forget gate 0 from December to March", _of_unit),
        row("unit that follows the calendar's mean snow cover best, the same", _of_seasonal),
        row("other units, the same: median of the absolute changes", lambda e: float(np.median(others(e)))),
        row("other units, the same: largest absolute change", lambda e: max(others(e))),
        row("four units with the largest absolute r, the same", lambda e: e["clamping"]["group"]),
        row("20 random groups of four: median", lambda e: float(np.median(e["clamping"]["random_groups"]))),
        row("20 random groups of four: the lowest", lambda e: min(e["clamping"]["random_groups"])),
        row("snow unit, forget gate 0 in the summer before", lambda e: e["clamping"]["summer"]),
        row("snow unit, forget gate 1 from December to March", lambda e: e["clamping"]["kept"]),
        row("discharge of the winter itself, snow unit's forget gate 0", lambda e: e["clamping"]["winter_discharge"]),
    ]
    size = len(seeds[0]["clamping"]["flood"])
    rows += [
        [
            f"rank of the snow unit among {size}, by absolute change",
            spread(_over(seeds, lambda e: e["clamping"]["rank"]), 0),
        ],
        [f"its rank among {size}, by how much the flood is lowered", spread(_over(seeds, _lowering_rank), 0)],
        [
            "probability of ranks that sum to so little, of units taken at random",
            f"{_by_chance(_over(seeds, _lowering_rank), size):.1g}",
        ],
        ["seeds in which the calendar chooses the same unit", f"{_same(seeds)} of {len(seeds)}"],
        [
            "**seeds in which the snow unit lowers the flood**",
            f"{sum(_of_unit(each) < 0 for each in seeds)} of {len(seeds)}",
        ],
        [
            "**seeds in which the four lower the flood more than all 20 random groups**",
            f"{sum(e['clamping']['group'] < min(e['clamping']['random_groups']) for e in seeds)} of {len(seeds)}",
        ],
    ]
    return table(["what is clamped", "change of the spring flood, %"], rows)


def _of_unit(each: Mapping[str, Any]) -> float:
    return float(each["clamping"]["flood"][each["unit"]["unit"]])


def _of_seasonal(each: Mapping[str, Any]) -> float:
    return float(each["clamping"]["flood"][each["unit"]["seasonal"]])


def _same(seeds: Seeds) -> int:
    return sum(each["unit"]["seasonal"] == each["unit"]["unit"] for each in seeds)


def _lowering_rank(each: Mapping[str, Any]) -> int:
    return 1 + sum(bool(value < _of_unit(each)) for value in each["clamping"]["flood"])


def _by_chance(ranks: Sequence[float], size: int) -> float:
    """The probability that the sum of as many uniform ranks from 1 to `size` is not larger."""
    sums = np.ones(1)  # from one each
    for _ in ranks:
        sums = np.convolve(sums, np.full(size, 1 / size))
    return float(sums[: int(sum(ranks)) - len(ranks) + 1].sum())


def _once(seeds: Seeds, water: Mapping[str, float]) -> str:
    rows = [
        [
            day,
            f"{millimetres:.0f}",
            spread([each["clamping"]["once"][day] for each in seeds], 1, "+"),
            spread([each["clamping"]["once_rank"][day] for each in seeds], 0),
        ]
        for day, millimetres in water.items()
    ]
    header = ["erased on", "snow then, mm of water (degree-day model)", "change of the flood, %", "rank of the unit"]
    return table(header, rows)
