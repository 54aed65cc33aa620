"""Data sets of xarray are matched by the names of their variables and dimensions."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from gatescope.client.reading import tables_of
from gatescope.errors import InvalidInput


@pytest.fixture(scope="module")
def grid(shipped):
    """Of `river`: two basins, forty days, with the dimensions in an unusual order."""
    info = shipped.get("/v1/models/river").json()
    values = np.array(info["examples"][0]["request"]["inputs"][0][:40], dtype=float)
    both = np.stack([values, values[::-1]])
    array = xr.DataArray(
        both,
        dims=("basin", "time", "feature"),
        coords={
            "basin": ["a", "b"],
            "time": pd.date_range("2001-10-01", periods=40),
            "feature": info["input"]["feature_names"],
        },
    )
    return array.transpose("time", "feature", "basin")[:, ::-1]


@pytest.fixture
def expected(client, grid):
    return client.predict("river", grid.transpose("basin", "time", "feature")[..., ::-1].to_numpy()).values[..., 0]


def test_a_dataset_is_answered_with_one(client, grid, expected):
    found = client.predict("river", grid.to_dataset(dim="feature")).to_xarray()
    assert found["discharge_mm"].dims == ("basin", "time")
    np.testing.assert_array_equal(found["discharge_mm"], expected)
    np.testing.assert_array_equal(found["time"], grid["time"])
    assert found["basin"].values.tolist() == ["a", "b"]


def test_an_array_has_one_dimension_of_features(client, grid, expected):
    found = client.predict("river", grid, id="basin")
    np.testing.assert_array_equal(found.to_xarray()["discharge_mm"], expected)
    lone = client.predict("river", grid.sel(basin="b")).to_xarray()
    np.testing.assert_allclose(lone["discharge_mm"], expected[1], rtol=1e-5)
    assert lone["discharge_mm"].dims == ("time",)


def test_an_array_without_names_is_an_array(client, grid):
    plain = grid.sel(basin="a").to_numpy()[:, ::-1]
    np.testing.assert_array_equal(
        client.predict("river", xr.DataArray(plain)).values, client.predict("river", plain).values
    )


@pytest.mark.parametrize(
    ("change", "asked", "said"),
    [
        (lambda grid: grid, {}, r"'time', 'feature', 'basin' say which one tells sequences apart"),
        (lambda grid: grid.rename(time="day"), {"id": "basin"}, "no dimension 'time', but 'day', 'feature', 'basin'"),
        (lambda grid: grid.drop_vars("feature"), {"id": "basin"}, "'feature' needs the names of the features"),
        (lambda grid: grid.to_dataset(dim="feature").assign(area=("basin", [1.0, 2.0])), {}, "'area' has no dimension"),
        (lambda grid: grid.to_dataset(dim="feature").expand_dims(run=2), {}, "one dimension may tell sequences apart"),
    ],
)
def test_what_dimensions_do_not_tell_is_asked_for(client, grid, change, asked, said):
    with pytest.raises(InvalidInput, match=said):
        client.predict("river", change(grid), **asked)


def test_the_dimension_of_time_may_have_any_name(client, grid, expected):
    found = client.predict("river", grid.rename(time="day"), id="basin", timestamps="day").to_xarray()
    assert found["discharge_mm"].dims == ("basin", "day")
    np.testing.assert_array_equal(found["discharge_mm"], expected)


def test_frames_become_a_dataset_in_utc(client, grid):
    frame = grid.sel(basin="a").to_pandas().tz_localize("America/Denver")
    found = client.predict("river", frame).to_xarray()
    assert found["time"].values[0] == np.datetime64("2001-10-01T06:00")


def test_beside_the_inputs_arrays_are_matched_by_name_too(client, grid, expected):
    turned = {name: grid.sel(basin=name) for name in ("b", "a")}
    found = client.predict("river", turned)
    np.testing.assert_allclose(found.frames["a"]["discharge_mm"], expected[0], rtol=1e-5)
    with client.session("river") as stream:
        step = stream.step(grid.sel(basin="a"))
    np.testing.assert_allclose(step.values[0, :, 0], expected[0], rtol=1e-5)
    with pytest.raises(InvalidInput, match="has the dimension 'basin' beside"):
        client.predict("river", {"a": grid.to_dataset(dim="feature")})


def test_further_steps_and_static_inputs_may_be_of_xarray():
    times = pd.date_range("2001-01-01", periods=5)
    given = xr.Dataset({"x": (("site", "time"), np.arange(10.0).reshape(2, 5))}, {"time": times, "site": ["a", "b"]})
    static = xr.Dataset({"area": ("site", [2.0, 1.0])}, {"site": ["b", "a"]})
    known, future = given.isel(time=slice(3)), given.isel(time=slice(3, None), site=[1, 0])
    tables, rest = tables_of(known, {"horizon": 2, "future_inputs": future, "static_inputs": static})
    np.testing.assert_array_equal(tables.fields()["future_inputs"], [[[3.0], [4.0]], [[8.0], [9.0]]])
    np.testing.assert_array_equal(rest["static_inputs"], [[1.0], [2.0]])
    assert tables.series[1].axis.index.equals(times)
