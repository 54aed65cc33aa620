"""The cron job writes its last forecast as gauges that Prometheus reads, whole or not at all."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples/cron/forecast_gauge.py"


@pytest.fixture
def job():
    """Run it as cron does; exit status and what it said."""

    def run(*arguments):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, SCRIPT, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PATH": path},
        )
        return done.returncode, done.stderr

    return run


@pytest.mark.examples
def test_the_last_forecast_of_each_sequence_is_a_gauge(job, shipped, tmp_path):
    with (ROOT / "models/river/daily.csv").open() as file:
        rows = [row for row in csv.reader(file) if row[0] in {"gauge_id", "01022500", "03015500"}]
    table = tmp_path / "two.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[1:9], *rows[-5:]])
    options = ["--map", "gauge=gauge_id", "--id", "gauge_id"]
    status, said = job("river", tmp_path / "river.prom", "--input", table, *options)
    assert status == 0, said
    found = {each.name: each for each in text_string_to_metric_families((tmp_path / "river.prom").read_text())}
    query = {"map": "gauge=gauge_id", "id": "gauge_id"}
    told = shipped.post(
        "/v1/models/river/predict", content=table.read_bytes(), headers={"Content-Type": "text/csv"}, params=query
    ).json()
    values = {each.labels["id"]: each.value for each in found["gatescope_forecast"].samples}
    expected = [row[-1][0] for row in told["prediction"]["values"]]
    assert values == pytest.approx(dict(zip(told["ids"], expected, strict=True)), rel=1e-4)
    assert {each.labels["output"] for each in found["gatescope_forecast"].samples} == {"discharge_mm"}
    times = {each.labels["id"]: each.value for each in found["gatescope_forecast_for_timestamp_seconds"].samples}
    assert times["01022500"] == 947289600  # 2000-01-08
    (written,) = found["gatescope_forecast_written_timestamp_seconds"].samples
    assert time.time() - 60 < written.value <= time.time()
    assert [each.name for each in tmp_path.iterdir() if "prom" in each.name] == ["river.prom"]


@pytest.mark.examples
def test_without_a_forecast_the_old_file_stays(job, tmp_path):
    (tmp_path / "it.prom").write_text("old")
    status, said = job("river", tmp_path / "it.prom", "--input", tmp_path / "missing.csv")
    assert (status, (tmp_path / "it.prom").read_text()) == (1, "old")
    assert "missing.csv" in said
