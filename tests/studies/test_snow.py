import csv
import datetime as dt

import numpy as np
import pytest

from studies.snow import __main__ as snow
from studies.snow.baselines import RANGES, efficiency, simulate
from studies.snow.data import BANDS, WEATHER, read


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A made-up basin with seasons, as long as the real one."""
    path, generator = tmp_path_factory.mktemp("basin") / "daily.csv", np.random.default_rng(0)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["date", *WEATHER, "discharge_mm", *BANDS])
        first = dt.date(1999, 1, 1)
        for day in range(4230):
            date, season = first + dt.timedelta(day), np.cos(2 * np.pi * day / 365.25)
            snow = np.clip(season + 0.2 * generator.standard_normal(5), 0, 1).round(3)
            rain, warm = generator.exponential(3), 5 - 10 * season + generator.standard_normal()
            known = snow.tolist() if generator.random() < 0.5 else [""] * 5
            weather = [round(value, 1) for value in (rain, warm, 1 - season)]
            writer.writerow([date, *weather, round(2 - season + rain / 3, 3), *known])
    return path


@pytest.mark.examples
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_snow_study_runs_from_data_to_figures(table, tmp_path):
    tiny = ["--seeds", "1", "--hidden", "6", "--steps", "2", "--draws", "10"]
    snow.main(["--data", str(table), "--out", str(tmp_path), *tiny])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"snow.json", "snow-series.svg", "snow-probes.svg", "snow-clamping.svg"}


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(SystemExit, match="airGR"):
        snow.main(["--data", str(tmp_path / "none.csv")])


def test_degree_day_model_loses_no_water(table):
    basin = read(table)
    rain = basin.weather[:, 0].sum()
    sets = np.array([[(low + high) / 2 for low, high in RANGES.values()]])
    dry = np.copy(basin.weather)
    dry[:, 2] = 0.0  # nothing evaporates
    object.__setattr__(basin, "weather", dry)
    found = simulate(basin, sets)
    at = list(RANGES).index
    stored = found.snow_water[0, -1] + sets[0, at("capacity")]
    flowing = found.discharge[0, -1] * sets[0, at("slow_days")]
    assert found.discharge.sum() == pytest.approx(sets[0, at("precipitation_factor")] * rain, abs=stored + flowing)


def test_efficiency_of_the_mean_is_zero():
    measured = np.array([1.0, 2.0, 6.0, np.nan])
    days = np.ones(4, dtype=bool)
    assert efficiency(np.full(4, 3.0), measured, days) == pytest.approx(0)
    assert efficiency(measured, measured, days) == 1
