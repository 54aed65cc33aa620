"""`gatescope backtest`, on the demand model and a week of half-hours."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
NAMES = ["demand_mw", "demand_last_week_mw", "demand_last_week_next_mw", "half_hour", "half_hour_of_week"]


@pytest.fixture
def values():
    return json.loads((ROOT / "models/demand/examples/half-hours.json").read_text())["inputs"][0]


@pytest.fixture
def table(tmp_path, values, monkeypatch):
    monkeypatch.chdir(ROOT)
    with (tmp_path / "week.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *values])
    return tmp_path / "week.csv"


def test_each_prediction_is_that_of_predict_and_the_measures_are_of_them(run, table, values, tmp_path):
    options = ["--horizon", 24, "--season", 48, "--start", 240, "--out", tmp_path / "rows.json"]
    status, out, err = run("backtest", "demand", "--input", table, *options)
    assert status == 0, err
    summary, rows = json.loads(out), json.loads((tmp_path / "rows.json").read_text())
    assert (summary["origins"], summary["pairs"]) == (4, 96)
    known, demand = np.array(values, dtype=float), np.array(values, dtype=float)[:, 0]
    future = [[None, *row[1:]] for row in known[264:288].tolist()]
    body = {"inputs": [known[:264].tolist()], "horizon": 24, "future_inputs": [future]}
    (tmp_path / "body.json").write_text(json.dumps(body))
    _, out, _ = run("predict", "demand", "--input", tmp_path / "body.json")
    expected = np.array(json.loads(out)["prediction"]["values"][0])[:, 0]
    of_second = [row for row in rows if row["origin"] == 264]
    np.testing.assert_allclose([row["predicted"] for row in of_second], expected, rtol=1e-5)
    np.testing.assert_array_equal([row["seasonal_naive"] for row in of_second], demand[216:240])
    error = np.array([row["predicted"] for row in rows]) - demand[240:336]
    assert summary["model"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    naive = np.repeat(demand[[239, 263, 287, 311]], 24) - demand[240:336]
    assert summary["baselines"]["naive"]["mae"] == pytest.approx(np.abs(naive).mean())


def test_a_table_is_written_without_columns_that_say_nothing(run, table, tmp_path):
    status, _, err = run("backtest", "demand", "--input", table, "--start", 330, "--out", tmp_path / "rows.csv")
    assert status == 0, err
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert set(rows[0]) == {"origin", "step", "predicted", "observed", "naive", "mean"}


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("demand", ["--target", "price"], "no output 'price'; it has demand_mw"),
        ("demand", ["--window", 336], "take a smaller window or horizon"),
        ("brackets", [], "a backtest takes"),
        ("demand", ["--out", "rows.xls"], "a table is written as .csv, .tsv, .txt, .parquet, .arrow, .feather, .json"),
    ],
)
def test_what_cannot_be_compared_is_refused(run, table, model, options, said):
    status, out, err = run("backtest", model, "--input", table, *options)
    assert (status, out) == (1, "")
    assert said in err


def test_an_output_that_was_not_measured_is_refused(run, monkeypatch):
    monkeypatch.chdir(ROOT)
    status, _, err = run("backtest", "river", "--input", "models/river/examples/winter.csv")
    assert status == 1
    assert "is not measured" in err


def test_gaps_are_filled_as_it_is_asked(run, table, values):
    status, out, _ = run("backtest", "demand", "--input", table, "--start", 300)
    text = table.read_text()
    row = ",".join(map(str, values[100]))
    assert row in text
    table.write_text(text.replace(row, row.replace(str(values[100][1]), "", 1)))
    status, _, err = run("backtest", "demand", "--input", table, "--start", 300)
    assert status == 1
    assert "line 102, column 'demand_last_week_mw'" in err
    filled = run("backtest", "demand", "--input", table, "--start", 300, "--fill", f"{NAMES[1]}={values[100][1]}")
    assert (filled[0], filled[1]) == (0, out)
    assert f"1 missing in '{NAMES[1]}'" in filled[2]


def test_it_is_drawn(run, table, tmp_path):
    options = ["--horizon", 24, "--season", 48, "--plot", tmp_path / "it.svg"]
    status, _, err = run("backtest", "demand", "--input", table, *options)
    assert status == 0, err
    assert (tmp_path / "it.svg").stat().st_size > 10_000
