"""Records in Zarr: the contract's layout, blocks, what xarray makes of it, and what was not finished."""

from dataclasses import replace

import numpy as np
import pytest
import xarray
import zarr

from gatescope.errors import InvalidInput
from gatescope.records import About, Record, moments
from gatescope.signal_info import SignalInfo
from gatescope.zarr_store import Reader, Writer, writer

ABOUT = About(
    model="river",
    version="2",
    weights="0a1b",
    module="lstm",
    layers=(0, 1),
    directions=("forward",),
    units=(3, 7, 9),
    signals={"cell_state": SignalInfo("cell_state", "c", description="the memory")},
    features=("rain", "temp"),
    outputs=("discharge",),
    targets=("discharge",),
    predicts="same_step",
)


def record(steps, number=0, **changed):
    values = np.random.default_rng(number)
    days = [f"2001-01-{day + 1:02}" for day in range(28)] * (steps // 28 + 1)
    made = Record(
        steps=steps,
        signals={
            "cell_state": values.normal(size=(2, 1, steps, 3)).astype(np.float32),
            "hidden_state": values.normal(size=(2, 1, steps, 2)).astype(np.float32),
        },
        inputs=values.normal(size=(steps, 2)),
        observed={"discharge": values.normal(size=steps)},
        prediction=values.normal(size=(steps, 1)),
        prediction_steps=np.arange(steps),
        timestamps=moments(days[:steps]),
        prediction_timestamps=moments(days[:steps]),
        id=f"basin {number}",
    )
    return replace(made, **changed)


def assert_same(found, expected):
    assert (found.steps, found.id) == (expected.steps, expected.id)
    for name in ("inputs", "prediction", "prediction_steps", "timestamps", "prediction_timestamps"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("signals", "observed"):
        assert set(getattr(found, name)) == set(getattr(expected, name))
        for key, values in getattr(expected, name).items():
            np.testing.assert_array_equal(getattr(found, name)[key], values)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 steps, and a note of what is on disk behind each of them."""
    monkeypatch.setattr(writer, "_LEAST_BLOCK", 8)
    monkeypatch.setattr(writer, "_MOST_BLOCK", 8)
    monkeypatch.setattr(writer, "_CHECKPOINT_S", 0.0)


def test_sequences_stand_one_after_another(tmp_path, small_blocks):
    records = [record(steps, number) for number, steps in enumerate((5, 19, 1, 8))]
    with Writer(tmp_path / "it.zarr", ABOUT) as store:
        for each in records:
            store.append(each)
    group = zarr.open_group(tmp_path / "it.zarr", mode="r")
    assert group["signals/cell_state"].shape == (33, 2, 1, 3)
    assert group["signals/cell_state"].chunks == (8, 2, 1, 3)
    assert group["signals/cell_state"].metadata.dimension_names == ("step", "layer", "direction", "unit")
    np.testing.assert_array_equal(group["offsets"][:], [0, 5, 24, 25, 33])
    expected = np.concatenate([each.signals["cell_state"] for each in records], axis=2)
    np.testing.assert_array_equal(group["signals/cell_state"][:], np.moveaxis(expected, 2, 0))
    told = dict(group.attrs)
    assert (told["schema_version"], told["model"], told["version"], told["weights"]) == (1, "river", "2", "0a1b")


def test_each_record_is_read_back_alone(tmp_path, small_blocks):
    records = [record(steps, number) for number, steps in enumerate((5, 19, 1, 8))]
    with Writer(tmp_path / "it.zarr", ABOUT) as store:
        for each in records:
            store.append(each)
    reader = Reader(tmp_path / "it.zarr")
    assert len(reader) == 4
    assert_same(reader.record(1), records[1])
    for found, expected in zip(reader, records, strict=True):
        assert_same(found, expected)


def test_a_sequence_has_as_many_predictions_as_the_model_makes(tmp_path):
    ends = [replace(record(4, n), prediction=np.full((1, 1), n), prediction_steps=np.array([4])) for n in range(3)]
    ends = [replace(each, prediction_timestamps=each.timestamps[-1:]) for each in ends]
    with Writer(tmp_path / "it.zarr", ABOUT) as store:
        for each in ends:
            store.append(each)
    assert Reader(tmp_path / "it.zarr").record(2).prediction == [[2]]
    assert zarr.open_group(tmp_path / "it.zarr")["prediction_offsets"][:].tolist() == [0, 1, 2, 3]


def test_xarray_opens_it_with_names_and_dates(tmp_path):
    with Writer(tmp_path / "it.zarr", ABOUT) as store:
        store.append(record(20))
    with xarray.open_zarr(tmp_path / "it.zarr") as whole:
        assert whole["timestamps"].dtype.kind == "M"
        assert str(whole["timestamps"].values[2])[:10] == "2001-01-03"
        assert whole["feature"].values.tolist() == ["rain", "temp"]
        assert whole["ids"].values.tolist() == ["basin 0"]
        assert {"inputs", "prediction", "observed", "offsets"} <= set(whole.data_vars)
    with xarray.open_datatree(tmp_path / "it.zarr", engine="zarr") as tree:
        cell_state = tree["signals/cell_state"]
        assert cell_state.dims == ("step", "layer", "direction", "unit")
        assert cell_state["unit"].values.tolist() == [3, 7, 9]
        assert cell_state.attrs["description"] == "the memory"
        assert tree["signals/hidden_state"].dims[-1] == "projected_unit"


def test_what_was_not_finished_is_no_zarr_group_and_goes_on(tmp_path, small_blocks):
    records = [record(steps, number) for number, steps in enumerate((5, 19, 1, 30, 8, 7))]
    broken = Writer(tmp_path / "it.zarr", ABOUT)
    for each in records[:5]:
        broken.append(each)
    with pytest.raises(InvalidInput, match="no finished folder"):
        Reader(tmp_path / "it.zarr")
    with pytest.raises(InvalidInput, match="unfinished: resume it"):
        Writer(tmp_path / "it.zarr", ABOUT)
    with pytest.raises(InvalidInput, match="about something else"):
        Writer(tmp_path / "it.zarr", replace(ABOUT, weights="other"), resume=True)
    with Writer(tmp_path / "it.zarr", ABOUT, resume=True) as store:
        assert len(store) == 4  # 55 steps in blocks of 8; the fifth ends within the eighth block
        for each in records[len(store) :]:
            store.append(each)
    for found, expected in zip(Reader(tmp_path / "it.zarr"), records, strict=True):
        assert_same(found, expected)
    assert not list((tmp_path / "it.zarr").glob("progress*"))


def test_what_broke_off_before_its_first_block_begins_anew(tmp_path, small_blocks):
    Writer(tmp_path / "it.zarr", ABOUT).append(record(3))
    with Writer(tmp_path / "it.zarr", ABOUT, resume=True) as store:
        assert len(store) == 0
        store.append(record(5, 7))
    (found,) = Reader(tmp_path / "it.zarr")
    assert_same(found, record(5, 7))


def test_a_record_with_other_arrays_is_refused(tmp_path):
    store = Writer(tmp_path / "it.zarr", ABOUT)
    store.append(record(3))
    with pytest.raises(InvalidInput, match="differs from the first in ids"):
        store.append(record(3, id=None))


def test_times_with_a_zone_are_in_utc_and_numbers_stay_numbers():
    zoned = moments(["2024-03-31T01:30:00+01:00", "2024-03-31T03:30:00+02:00"])
    assert zoned.astype(str).tolist() == ["2024-03-31T00:30:00.000000", "2024-03-31T01:30:00.000000"]
    assert moments([1.5, 2]).dtype == np.float64
