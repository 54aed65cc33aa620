"""Answers in files of arrays: names, dates, inputs, what was measured, predictions and signals together."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import xarray

from gatescope.zarr_store import Reader, Writer

ROOT = Path(__file__).parents[2]
STEPS = {"north": 6, "south": 4}
FEATURES = ["precipitation_mm", "shortwave_w_m2", "tmax_c", "tmin_c", "vapour_pressure_pa", "day_length_s", "gauge"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Two rivers over some days of the shipped record, with what was measured but on one day."""
    monkeypatch.chdir(ROOT)
    with (ROOT / "models/river/daily.csv").open() as file:
        days = list(csv.DictReader(file))[:6]
    days[2]["discharge_mm"] = ""
    with (tmp_path / "two.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["basin", "gauge", *days[0]])
        writer.writeheader()
        writer.writerows(
            day | {"basin": name, "gauge": 1022500} for name, count in STEPS.items() for day in days[:count]
        )
    return tmp_path / "two.csv"


@pytest.fixture
def traced(shipped, table):
    """What the API says of the same table."""
    reply = shipped.post(
        "/v1/models/river/trace?id=basin", content=table.read_bytes(), headers={"Content-Type": "text/csv"}
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.fixture
def written(run, table, tmp_path):
    """Write a file of the command's answer and give its path."""

    def write(command, name, *options, model="river", source=table):
        status, _, err = run(command, model, "--input", source, *options, "--out", tmp_path / name)
        assert status == 0, err
        return tmp_path / name

    return write


def test_netcdf_has_all_of_a_trace_with_names_and_dates(written, traced):
    with xarray.open_dataset(written("trace", "t.nc", "--id", "basin"), engine="h5netcdf") as found:
        assert found["ids"].values.tolist() == ["north", "south"]
        assert found["feature"].values.tolist() == FEATURES
        assert found["timestamps"].values.astype("datetime64[D]").astype(str)[0].tolist() == traced["timestamps"][0]
        assert np.isnat(found["timestamps"].values[1, 4:]).all()
        for row, steps in enumerate(STEPS.values()):
            signal = found["cell_state"].values[row, :, :, :steps]
            np.testing.assert_allclose(signal, traced["signals"]["cell_state"][row], rtol=1e-5, atol=1e-6)
            values = found["prediction"].values[row, :steps]
            np.testing.assert_allclose(values, traced["prediction"]["values"][row], rtol=1e-5, atol=1e-6)
            measured = [np.nan if value is None else value for value in traced["observed"]["discharge_mm"][row]]
            np.testing.assert_allclose(found["observed"].values[row, :steps, 0], measured)
            assert np.isnan(found["inputs"].values[row, steps:]).all()
        rain = found["inputs"].sel(feature="precipitation_mm").values[0]
        with (ROOT / "models/river/daily.csv").open() as file:
            np.testing.assert_array_equal(
                rain, [float(day["precipitation_mm"]) for day in list(csv.DictReader(file))[:6]]
            )


def test_zarr_has_the_same_sequence_by_sequence(written, traced):
    path = written("trace", "t.zarr", "--id", "basin")
    found = Reader(path)
    assert (len(found), found.ids, found.offsets.tolist()) == (2, ["north", "south"], [0, 6, 10])
    south = found.record(1)
    for name, values in traced["signals"].items():
        np.testing.assert_allclose(south.signals[name], values[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(south.prediction, traced["prediction"]["values"][1], rtol=1e-5, atol=1e-6)
    assert south.timestamps.astype("datetime64[D]").astype(str).tolist() == traced["timestamps"][1]
    assert np.isnan(south.observed["discharge_mm"][2])
    with xarray.open_zarr(path) as whole:
        assert whole["timestamps"].dtype.kind == "M"
        assert len(whole.attrs["weights"]) == 32


@pytest.mark.parametrize("name", ["p.npz", "p.nc", "p.npy", "p.zarr"])
def test_predictions_are_written_as_arrays_in_every_format(written, traced, name):
    path = written("predict", name, "--id", "basin")
    expected = np.full((2, 6, 1), np.nan)
    for row, values in enumerate(traced["prediction"]["values"]):
        expected[row, : len(values)] = values
    if name == "p.zarr":
        values = expected.copy()
        for row, record in enumerate(Reader(path)):
            values[row, : record.steps] = record.prediction
    elif name == "p.nc":
        with xarray.open_dataset(path, engine="h5netcdf") as file:
            values = file["prediction"].values
    else:
        values = np.load(path)
        values = values if name == "p.npy" else values["prediction"]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_of_fed_back_steps_the_inputs_are_what_was_fed_back(written, shipped, tmp_path):
    request = shipped.get("/v1/models/demand").json()["examples"][0]["request"]
    (tmp_path / "body.json").write_text(json.dumps(request))
    (record,) = Reader(written("trace", "d.zarr", model="demand", source=tmp_path / "body.json"))
    stored = shipped.post("/v1/traces", json={"model": "demand"} | request).json()["trace_id"]
    read = shipped.get(f"/v1/traces/{stored}").json()
    np.testing.assert_allclose(record.inputs, read["inputs"][0], rtol=1e-5)
    assert record.prediction_steps.tolist() == list(range(336, 384))
    assert record.timestamps is None


def test_of_the_next_step_the_prediction_stands_at_the_time_that_it_is_for(written, tmp_path):
    rows = json.loads((ROOT / "models/demand/examples/half-hours.json").read_text())["inputs"][0][:3]
    names = ["demand_mw", "demand_last_week_mw", "demand_last_week_next_mw", "half_hour", "half_hour_of_week"]
    months = ["2001-01-31", "2001-02-28", "2001-03-31"]
    with (tmp_path / "d.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["date", *names], *([day, *row] for day, row in zip(months, rows, strict=True))])
    (record,) = Reader(written("predict", "d.zarr", model="demand", source=tmp_path / "d.csv"))
    assert record.prediction_steps.tolist() == [1, 2, 3]
    expected = [*months[1:], "2001-04-30"]
    assert record.prediction_timestamps.astype("datetime64[D]").astype(str).tolist() == expected
    frame = written("predict", "d.csv", model="demand", source=tmp_path / "d.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in frame[1:]] == expected


def test_what_cannot_be_written_leaves_nothing(run, table, tmp_path, monkeypatch):
    monkeypatch.setattr(Writer, "close", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("trace", "river", "--input", table, "--id", "basin", "--out", tmp_path / "t.zarr")
    assert [path.name for path in tmp_path.iterdir()] == [table.name]


def test_text_has_tokens(written, run, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    status, _, err = run("trace", "pos-tagger", "--text", "I love China", "--out", tmp_path / "t.nc")
    assert status == 0, err
    with xarray.open_dataset(tmp_path / "t.nc", engine="h5netcdf") as found:
        assert found["tokens"].values.tolist() == [["I", "love", "China"]]
        assert found["prediction"].dims == ("batch", "predicted", "output")


def test_a_folder_that_is_there_is_not_overwritten(run, table, tmp_path):
    (tmp_path / "t.zarr").mkdir()
    status, _, err = run("trace", "river", "--input", table, "--id", "basin", "--out", tmp_path / "t.zarr")
    assert status == 1
    assert "this is a folder" in err


def test_a_forecast_is_drawn_beside_what_was_measured(run, table, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *_: drawn.append(figure))
    options = ["--id", "basin", "--plot", tmp_path / "it.png", "--out", tmp_path / "it.csv"]
    status, _, err = run("predict", "river", "--input", table, *options)
    assert status == 0, err
    assert len((tmp_path / "it.csv").read_text().splitlines()) == 11
    north, south = drawn[0].axes
    measured, predicted = south.get_lines()
    with (ROOT / "models/river/daily.csv").open() as file:
        expected = [float(day["discharge_mm"]) for day in list(csv.DictReader(file))[:4]]
    np.testing.assert_array_equal(measured.get_ydata(), [*expected[:2], np.nan, expected[3]])
    assert str(predicted.get_xdata()[3])[:10] == "2000-01-04"
    assert [text.get_text() for text in north.texts] == ["warm-up: fewer than 183 steps read"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["brackets", "--text", "()", "--plot", "it.png"], "of a regression or of quantiles"),
        (["brackets", "--text", "()", "--plot", "it.gif"], "a picture is written as .png, .svg, .pdf"),
        (["brackets", "--text", "()", "--out", "it.csv"], "a table is written of a table"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_refused(run, monkeypatch, arguments, said):
    monkeypatch.chdir(ROOT)
    status, _, err = run("predict", *arguments)
    assert status == 1
    assert said in err
