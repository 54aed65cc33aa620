"""One file through the command line, the client and the API: the same numbers, those of the arrays in it."""

import json
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gatescope.client import Client
from gatescope.tables.files import read_table
from gatescope.tables.sequences import Wanted, interpret
from tests.server.api import layered

ROOT = Path(__file__).parents[2]
GATESCOPE = Path(sys.executable).with_name("gatescope")
CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
STEPS = 40


@pytest.fixture(scope="module")
def made():
    """The modules of the model with static features."""
    return layered.modules()


@pytest.fixture(scope="module")
def models(made, tmp_path_factory):
    """A folder with `river`, `demand` and `basin`."""
    root = tmp_path_factory.mktemp("models")
    layered.write(root, made)
    for name in ("river", "demand"):
        shutil.copytree(ROOT / "models" / name, root / name)
    return root


@pytest.fixture(scope="module")
def server(models, service):
    with service(GATESCOPE_MODELS_DIR=str(models)) as (client, _):
        yield client


def half_hours():
    """(step, feature), of a week of `demand`."""
    return np.array(json.loads((ROOT / "models/demand/examples/half-hours.json").read_text())["inputs"][0], dtype=float)


def winter(names):
    """(step, feature), of one winter of `river`."""
    return pd.read_csv(ROOT / "models/river/examples/winter.csv")[names].to_numpy()


def german(number):
    """With points before thousands and a decimal comma."""
    return f"{number:,.9f}".translate(str.maketrans(",.", ".,"))


def days(count):
    return [date(2001, 10, 1) + timedelta(days=day) for day in range(count)]


def of_river(info, folder):
    """Excel in Germany: two rivers mixed, newest first, names with units in another case, a column that is not read."""
    names, values = info["input"]["feature_names"], winter(info["input"]["feature_names"])
    parts = {"01": values[:30], "1": values[30:60]}
    lines = [
        "sep=;",
        ";".join(["Datum", "Station ID", "Bemerkung", *(f"{name.upper()} [x]" for name in reversed(names))]),
    ]
    for step in reversed(range(30)):
        for each, own in parts.items():
            cells = [days(30)[step].strftime("%d.%m.%Y"), each, '"kalt; ""nass"""', *map(german, own[step, ::-1])]
            lines.append(";".join(cells))
    file = folder / "river.csv"
    file.write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    return file, CSV, {"inputs": [parts["01"].tolist(), parts["1"].tolist()]}


def of_demand(info, folder):
    """Parquet: an index of times of Berlin over the night when clocks go back, and rows of the future."""
    names, values = info["input"]["feature_names"], half_hours()[: STEPS + 6]
    index = pd.date_range("2021-10-30T20:00", periods=len(values), freq="30min", tz="Europe/Berlin", name="when")
    frame = pd.DataFrame(values, columns=names, index=index)
    frame.iloc[STEPS:, 0] = np.nan
    frame[frame.columns[::-1]].to_parquet(folder / "demand.parquet")
    future = [[None, *row[1:]] for row in values[STEPS:].tolist()]
    body = {"inputs": [values[:STEPS].tolist()], "horizon": 6, "future_inputs": [future]}
    return folder / "demand.parquet", PARQUET, body


def of_basin(info, folder):
    """Static features as columns of the table, a decimal comma, tabs, UTF-16; blank but in the first row of each."""
    rows = np.array([[2451545.125, 1.0], [2451545.25, -0.5], [2451546.0, 0.25]])
    static = {"b": [130.5, 2], "a": [12.25, 1]}
    lines = ["basin\tSoil\tarea (km²)\train\tday"]
    for each, (area, soil) in static.items():
        for step, (day, rain) in enumerate(rows.tolist()):
            known = (f"{soil}", f"{area}") if step == 0 else ("", "")
            lines.append("\t".join((each, *known, f"{rain}", f"{day}")).replace(".", ","))
    file = folder / "basin.csv"
    file.write_text("\n".join(lines), encoding="utf-16")
    return file, CSV, {"inputs": [rows.tolist()] * 2, "static_inputs": list(static.values())}


@pytest.mark.parametrize(("name", "written"), [("river", of_river), ("demand", of_demand), ("basin", of_basin)])
def test_one_file_has_the_same_numbers_whoever_reads_it(server, models, run, tmp_path, name, written):
    info = server.get(f"/v1/models/{name}").json()
    file, kind, body = written(info, tmp_path)
    expected = server.post(f"/v1/models/{name}/predict", json=body).json()["prediction"]["values"]
    replies = {}

    path = f"/v1/models/{name}"
    sent = {"content": file.read_bytes(), "headers": {"Content-Type": kind}}
    replies["table over HTTP"] = server.post(f"{path}/predict", **sent).json()
    replies["preview"] = server.post(
        f"{path}/predict", json=server.post(f"{path}/tables", **sent).json()["request"]
    ).json()
    command = [GATESCOPE, "predict", name, "--input", file, "--url", str(server.base_url)]
    asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    replies["command, of a server"] = json.loads(asked.stdout)
    status, out, err = run("predict", name, "--input", file, "--models", models)
    assert status == 0, err
    replies["command, here"] = json.loads(out)
    for who, reply in replies.items():
        assert len(reply["prediction"]["values"]) == len(expected), who
        for own, true in zip(reply["prediction"]["values"], expected, strict=True):
            np.testing.assert_allclose(own, true, rtol=1e-6, atol=1e-6, err_msg=who)
    found = interpret(read_table(file), Wanted.of(info))
    with Client(str(server.base_url)) as client:
        said = client.predict(name, **found.arrays())
    for own, true in zip(said.values, expected, strict=True):
        np.testing.assert_allclose(own[: len(true)], true, rtol=1e-6, atol=1e-6)


def test_a_second_table_has_the_numbers_of_the_equations(made, models, run, tmp_path):
    """The oracle is the model's own modules in float64."""
    rows = np.array([[2451545.125, 1.0], [2451545.25, -0.5], [2451546.0, 0.25]])
    static = {"07": [130.5, 2], "a": [12.25, 1]}
    lines = [f"{each},{day},{rain}" for each in static for day, rain in rows.tolist()]
    (tmp_path / "rows.csv").write_text("\n".join(["gauge_id,day,rain", *lines]))
    attributes = [f"{each};{soil};{str(area).replace('.', ',')}" for each, (area, soil) in reversed(static.items())]
    (tmp_path / "basins.csv").write_text("\n".join(["gauge_id;soil;size", *attributes]))
    options = ["--models", models, "--input", tmp_path / "rows.csv", "--static", tmp_path / "basins.csv"]
    status, out, err = run("predict", "basin", *options, "--map", "area=size")
    assert status == 0, err
    for own, each in zip(json.loads(out)["prediction"]["values"], static.values(), strict=True):
        np.testing.assert_allclose(own, layered.basin(made["basin"], rows, each)[0]["level"], atol=2e-6)
    status, out, err = run("trace", "basin", *options, "--map", "area=size")
    assert (status, json.loads(out)["sequence_lengths"]) == (0, [3, 3]), err
    status, _, err = run("predict", "basin", *options[:-1], tmp_path / "rows.csv")
    assert (status, "needs 'area', 'soil'" in err) == (1, True)
