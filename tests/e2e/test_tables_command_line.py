"""Tables through the command line: the API's numbers, without a server's limits."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gatescope.tables import blocks

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


class TestManyFiles:
    @pytest.fixture
    def folder(self, tmp_path, daily):
        """A file for each river."""
        for gauge, own in daily.groupby("gauge_id"):
            own.to_csv(tmp_path / f"{gauge}.csv", index=False)
        return tmp_path

    def test_one_table_says_of_which_file_each_row_is(self, folder, predicted, daily, by_hand):
        found = predicted("river", "--input", folder / "0*.csv")
        assert found["file"].tolist() == [str(folder / f"{gauge}.csv") for gauge in daily["gauge_id"]]
        np.testing.assert_allclose(found["discharge_mm"], np.concatenate(by_hand(daily)), rtol=1e-5, atol=1e-6)

    def test_a_folder_gets_a_table_of_each(self, folder, run, daily, by_hand):
        inputs = [part for gauge in GAUGES for part in ("--input", folder / f"{gauge}.csv")]
        status, _, err = run("predict", "river", *inputs, "--out", folder / "out")
        assert status == 0, err
        for gauge, expected in zip(GAUGES, by_hand(daily), strict=True):
            found = pd.read_csv(folder / "out" / f"{gauge}.csv")
            np.testing.assert_allclose(found["discharge_mm"], expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--input", "*.nothing"), "there is no such file"),
            (("--input", "0*.csv"), "give --out FILE.csv"),
            (("--input", "0*.csv", "--out", "."), "itself would be written over"),
            (("--input", "0*.csv", "--input", "01022500.csv", "--out", "all.csv"), "it is there twice"),
            (("--input", "0*.csv", "--input", "sub/01022500.csv", "--out", "out"), "two files would be written to"),
            (("--input", "0*.csv", "--input", "no-dates.csv", "--out", "all.csv"), "one table cannot hold the columns"),
        ],
    )
    def test_what_cannot_be_written_is_refused(self, folder, run, daily, monkeypatch, arguments, message):
        models = ROOT / "models"
        (folder / "sub").mkdir()
        daily.head(3).to_csv(folder / "sub/01022500.csv", index=False)
        daily.head(3).drop(columns=["date"]).to_csv(folder / "no-dates.csv", index=False)
        before = sorted(folder.rglob("*"))
        monkeypatch.chdir(folder)
        status, out, err = run("predict", "river", "--models", models, *arguments)
        assert (status, out) == (1, "")
        assert message in err
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("is_remote", [False, True])
def test_windows_are_those_of_a_loop(tmp_path, daily, predicted, by_hand, shipped, is_remote):
    daily.to_csv(tmp_path / "daily.csv", index=False)
    where = ("--url", shipped.base_url) if is_remote else ()
    asked = ("--input", tmp_path / "daily.csv", "--id", "gauge_id", "--window", 20, "--stride", 7, *where)
    found = predicted("river", *asked)
    expected = []
    for gauge, own in daily.groupby("gauge_id", sort=False):
        for end in range(20, len(own) + 1, 7):
            window = own.iloc[end - 20 : end]
            last = window.iloc[-1]
            expected.append((gauge, last["date"], last["date"], by_hand(window)[0][-1], last["discharge_mm"]))
    assert found[["id", "origin", "time"]].values.tolist() == [list(each[:3]) for each in expected]
    np.testing.assert_allclose(found["discharge_mm"], [each[3] for each in expected], rtol=1e-4, atol=1e-5)
    assert found["discharge_mm_observed"].tolist() == [each[4] for each in expected]


def test_a_horizon_follows_each_window(tmp_path, predicted, shipped):
    info = shipped.get("/v1/models/demand").json()
    names = info["input"]["feature_names"]
    rows = np.array(info["examples"][0]["request"]["inputs"][0], dtype=float)[:40]
    frame = pd.DataFrame(rows, columns=names)
    frame.insert(0, "time", pd.date_range("2024-01-01", periods=len(rows), freq="h"))
    frame.to_csv(tmp_path / "load.csv", index=False)
    found = predicted("demand", "--input", tmp_path / "load.csv", "--window", 24, "--horizon", 5)
    outputs = info["output"]["names"]
    values = []
    for end in range(24, len(rows) - 5 + 1, 5):
        future = [
            [None if name in outputs else float(row[at]) for at, name in enumerate(names)]
            for row in rows[end : end + 5]
        ]
        body = {"inputs": [rows[end - 24 : end].tolist()], "horizon": 5, "future_inputs": [future]}
        reply = shipped.post("/v1/models/demand/predict", json=body).json()
        values.append(np.array(reply["prediction"]["values"][0]))
    np.testing.assert_allclose(found[outputs], np.concatenate(values), rtol=1e-4)
    assert found["origin"].tolist() == [frame["time"][end - 1] for end in range(24, 36, 5) for _ in range(5)]
    assert found["time"].tolist() == [frame["time"][end + step] for end in range(24, 36, 5) for step in range(5)]
    assert found[f"{outputs[0]}_observed"].tolist() == [
        frame[outputs[0]][end + at] for end in (24, 29, 34) for at in range(5)
    ]


def test_windows_that_cannot_be_are_refused(tmp_path, run, daily):
    daily.head(9).to_csv(tmp_path / "short.csv", index=False)
    asked = ("predict", "river", "--input", tmp_path / "short.csv")
    for arguments, message in {
        ("--window", 10, "--out", tmp_path / "o.csv"): "no sequence has as many steps",
        ("--window", 3): "the predictions of windows are written",
        ("--stride", 3): "--stride goes with --window",
        ("--window", 3, "--horizon", 2, "--out", tmp_path / "o.csv"): "predicts the step that it reads",
    }.items():
        status, _, err = run(*asked, *arguments)
        assert status == 1
        assert message in err


def test_chosen_signals_become_a_table(tmp_path, run, daily, shipped):
    daily.to_csv(tmp_path / "daily.csv", index=False)
    chosen = ("--signal", "cell_state", "--signal", "forget_gate", "--unit", 3, "--unit", 9, "--layer", 0)
    out = tmp_path / "signals.parquet"
    status, said, err = run(
        "trace", "river", "--input", tmp_path / "daily.csv", "--id", "gauge_id", *chosen, "--out", out
    )
    assert (status, said) == (0, ""), err
    found = pd.read_parquet(out)
    assert found["id"].tolist() == daily["gauge_id"].tolist()
    assert found["time"].tolist() == daily["date"].tolist()
    names = shipped.get("/v1/models/river").json()["input"]["feature_names"]
    expected = []
    for _, own in daily.groupby("gauge_id", sort=False):
        reply = shipped.post("/v1/models/river/trace", json={"inputs": [own[names].to_numpy().tolist()]}).json()
        expected.append(np.float32([reply["signals"][name][0][0][0] for name in ("cell_state", "forget_gate")]))
    whole = np.concatenate(expected, axis=1)  # (signal, row, unit)
    assert list(found.columns[2:]) == ["cell_state_l0_3", "cell_state_l0_9", "forget_gate_l0_3", "forget_gate_l0_9"]
    np.testing.assert_allclose(found.iloc[:, 2:], np.hstack(whole[..., [3, 9]]), rtol=1e-5, atol=1e-6)


def test_a_selection_holds_for_the_reply_in_a_pipe(run):
    status, out, err = run("trace", "brackets", "--text", "(x)", "--signal", "cell_state", "--unit", 1)
    assert status == 0, err
    reply = json.loads(out)
    assert (list(reply["signals"]), reply["units"]) == (["cell_state"], [1])


def test_large_files_are_predicted_as_small_ones(tmp_path, daily, predicted, monkeypatch):
    daily.to_csv(tmp_path / "daily.csv", index=False)
    asked = ("river", "--input", tmp_path / "daily.csv", "--id", "gauge_id")
    whole = predicted(*asked)
    monkeypatch.setattr(blocks, "LARGE_BYTES", 0)
    monkeypatch.setattr(blocks, "BLOCK_CHARACTERS", 1000)
    pd.testing.assert_frame_equal(predicted(*asked), whole, rtol=1e-4)


class TestShells:
    def test_names_of_models_are_completed_from_the_folder(self, run, monkeypatch):
        monkeypatch.setenv("_GATESCOPE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", "gatescope predict po")
        monkeypatch.setenv("COMP_CWORD", "2")
        assert run()[:2] == (0, "pos-tagger\n")

    def test_help_and_completion_load_nothing_large(self):
        large = {"torch", "numpy", "pandas", "pyarrow", "httpx", "pydantic", "structlog"}
        code = f"import sys, gatescope.cli.commands; print(*({large} & set(sys.modules)))"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert said.stdout == "\n"
