"""Tables through the command line: the API's numbers, without a server's limits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
DAILY = ROOT / "models/river/daily.csv"
GAUGES = ("01022500", "02064000")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Where the shipped models are found."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def predicted(run, tmp_path):
    """The table that `predict` writes."""

    def predict(*arguments, suffix=".parquet"):
        out = tmp_path / f"out{suffix}"
        status, said, err = run("predict", *arguments, "--out", out)
        assert (status, said) == (0, ""), err
        return pd.read_parquet(out) if suffix == ".parquet" else pd.read_csv(out)

    return predict


@pytest.fixture(scope="module")
def daily():
    """Sixty days of two rivers, with the names that the model has."""
    whole = pd.read_csv(DAILY, dtype={"gauge_id": str}, parse_dates=["date"])
    parts = [whole[whole.gauge_id == gauge].head(60 + 5 * row) for row, gauge in enumerate(GAUGES)]
    made = pd.concat(parts, ignore_index=True)
    return made.assign(gauge=made.gauge_id.astype(int))


@pytest.fixture
def by_hand(shipped):
    """What the API says of each river, asked in JSON: (step,) each."""

    def ask(frame):
        info = shipped.get("/v1/models/river").json()
        made = []
        for _, own in frame.groupby("gauge_id", sort=False):
            body = {"inputs": [own[info["input"]["feature_names"]].to_numpy().tolist()]}
            reply = shipped.post("/v1/models/river/predict", json=body).json()
            made.append(np.float32(reply["prediction"]["values"][0])[:, 0])
        return made

    return ask


@pytest.mark.parametrize("is_remote", [False, True])
def test_a_table_has_the_numbers_of_the_api(tmp_path, daily, predicted, by_hand, shipped, is_remote):
    daily.to_parquet(tmp_path / "daily.parquet")
    where = ("--url", shipped.base_url) if is_remote else ()
    found = predicted("river", "--input", tmp_path / "daily.parquet", "--id", "gauge_id", *where)
    assert found["id"].tolist() == daily["gauge_id"].tolist()
    assert found["time"].tolist() == daily["date"].tolist()
    assert found["discharge_mm_observed"].tolist() == daily["discharge_mm"].tolist()
    np.testing.assert_allclose(found["discharge_mm"], np.concatenate(by_hand(daily)), rtol=1e-5, atol=1e-6)


LIMITS = {"MAX_BODY_BYTES": 100, "MAX_TIME_STEPS": 10, "MAX_BATCH_STEPS": 20, "MAX_TRACE_BYTES": 40}


def test_a_servers_limits_are_not_applied_here(tmp_path, daily, predicted, by_hand, monkeypatch):
    for name, value in LIMITS.items():
        monkeypatch.setenv(f"GATESCOPE_{name}", str(value))
    monkeypatch.setenv("GATESCOPE_REQUEST_TIMEOUT_S", "0.000001")
    daily.to_csv(tmp_path / "daily.csv", index=False)
    found = predicted("river", "--input", tmp_path / "daily.csv", "--id", "gauge_id", suffix=".csv")
    np.testing.assert_allclose(found["discharge_mm"], np.concatenate(by_hand(daily)), rtol=1e-5, atol=1e-6)
    assert found["time"].tolist() == daily["date"].dt.strftime("%Y-%m-%d").tolist()


def test_only_the_model_that_is_asked_is_loaded(run, tmp_path, model_folder):
    folder = model_folder("mine")
    broken = folder.models_dir / "broken"
    broken.mkdir()
    (broken / "model.toml").write_text("format = 2\n")
    (tmp_path / "rows.json").write_text("[[1, 2, 3]]")
    status, _, err = run("predict", "mine", "--models", folder.models_dir, "--input", tmp_path / "rows.json")
    assert status == 0, err
    assert "broken" not in err
