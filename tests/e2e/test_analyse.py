"""`gatescope analyse`, on the river model, and the client beside it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    daily = pd.read_csv(ROOT / "models/river/daily.csv", dtype={"gauge_id": str}).rename(columns={"gauge_id": "gauge"})
    daily = daily[daily["gauge"] == "01022500"].iloc[:200]
    frost = (daily["tmin_c"] < 0).astype(float).cumsum()
    daily.assign(frost=frost).to_csv(tmp_path / "daily.csv", index=False)
    return tmp_path / "daily.csv"


def test_a_result_is_the_same_as_json_table_and_dataset(run, table, tmp_path):
    asked = ["analyse", "correlation", "river", "--input", table, "--series", "frost", "--unit", 3, "--unit", 113]
    status, out, err = run(*asked)
    assert status == 0, err
    reply = json.loads(out)
    r = np.array(reply["arrays"]["r"]["values"]).ravel()
    assert reply["coordinates"]["unit"] == [3, 113]
    assert run(*asked, "--out", tmp_path / "r.csv")[0] == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "r.csv")["r"], r, rtol=1e-6)
    assert run(*asked, "--out", tmp_path / "r.nc")[0] == 0

    with xarray.open_dataset(tmp_path / "r.nc") as dataset:
        np.testing.assert_allclose(dataset["r"].sel(unit=113).item(), r[1], rtol=1e-6)


def test_parameters_and_targets_are_read(run, table):
    asked = ["analyse", "lesions", "river", "--input", table, "--series", "discharge_mm", "--set", "to=zero"]
    status, out, err = run(*asked, "--unit", 113)
    assert status == 0, err
    reply = json.loads(out)
    assert reply["parameters"]["to"] == "zero"
    assert len(reply["parameters"]["targets"][0]) == 200
    assert np.isfinite(reply["arrays"]["error_change"]["values"][0][0][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--series", "snow"], "there is no column 'snow'"),
        (["--set", "max_lag"], "write NAME=VALUE"),
        (["--out", "r.xlsx"], "not as '.xlsx'"),
        (["--series", "frost", "--set", "lags=3"], "unknown field 'lags'"),
    ],
)
def test_what_cannot_be_is_refused(run, table, options, message):
    status, _, err = run("analyse", "correlation", "river", "--input", table, *options)
    assert status == 1
    assert message in err
