"""The study of docs/findings/snow.md: `python -m studies.snow --data daily.csv`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from models import recipe
from studies import page
from studies.snow import data, figures, study
from studies.snow.baselines import DRAWS, efficiency
from studies.snow.network import Settings
from studies.snow.reading import traced
from studies.snow.tables import tables


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, draw and write."""
    options = _options(arguments)
    recipe.prepare()
    report = Console(stderr=True).print
    basin, settings = data.read(options.data), Settings(options.hidden, options.steps)
    beside, _ = study.without_networks(basin, options.draws)
    found, networks, discharges = [], [], []
    for seed in range(options.seeds):
        numbers, network, discharge = study.of_seed(basin, seed, settings)
        report(f"seed {seed}: NSE {numbers['efficiency']['held_out']:.2f}, rank {numbers['clamping']['rank']}")
        found.append(numbers)
        networks.append(network)
        discharges.append(discharge)
    numbers = {
        "settings": {"hidden": settings.hidden, "steps": settings.steps, "draws": options.draws},
        "baselines": beside,
        "efficiency_of_mean": efficiency(np.mean(discharges, axis=0), basin.discharge, basin.held_out),
        "seeds": found,
    }
    page.write(options.out, "snow", numbers, tables)
    state = traced(networks[0], basin).cell_state[0, 0, 0, :, found[0]["unit"]["unit"]].double().numpy()
    figures.series(basin, discharges[0], state, options.out)
    figures.probes(found, options.out)
    figures.clamping(found, beside["degree_day"]["snow_water"], options.out)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.snow", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=f"a CSV: {data.SOURCE}")
    parser.add_argument("--out", type=Path, default=page.FINDINGS, help="the folder of numbers and figures")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--hidden", type=int, default=Settings.hidden, help="units of the LSTM")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="of the training")
    parser.add_argument("--draws", type=int, default=DRAWS, help="random parameters of the degree-day model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
