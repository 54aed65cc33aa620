"""Columns with types: Parquet, Arrow, netCDF, JSON and data frames."""

import io
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from gatescope.errors import InvalidInput
from gatescope.tables.files import of_frame, read_table
from gatescope.tables.requests import read_body
from gatescope.tables.sequences import Wanted, interpret
from tests.tables.ugly import FEATURES, HOURS, ISO, VALUES

WANTED = Wanted("demand", FEATURES, ("load",), feeds_back=True)
LOAD, TEMP = VALUES.T
INFO = {"name": "demand", "input": {"kind": "features", "feature_names": list(FEATURES)}}


def through_parquet(columns):
    written = io.BytesIO()
    parquet.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), written)
    return read_table(written.getvalue(), "t.parquet")


def refusal(table):
    with pytest.raises(InvalidInput) as refused:
        interpret(table, WANTED)
    return str(refused.value)


SAME = {
    "doubles": {"load": LOAD, "temp": TEMP},
    "floats": {"load": pa.array(LOAD, pa.float32()), "temp": pa.array(TEMP, pa.float32())},
    "decimals": {"load": pa.array([Decimal(str(each)) for each in LOAD]), "temp": TEMP},
    "categories": {"load": pa.array(LOAD).dictionary_encode(), "temp": pa.array(TEMP).dictionary_encode()},
    "texts": {"load": [str(each) for each in LOAD], "temp": [str(each) for each in TEMP]},
    "a nested column beside them": {"load": LOAD, "temp": TEMP, "all": [[1, 2]] * len(LOAD)},
    "a structure beside them": {"load": LOAD, "temp": TEMP, "all": [{"a": 1}] * len(LOAD)},
}


@pytest.mark.parametrize("kind", SAME)
def test_numbers_of_every_type_are_the_same(kind):
    found = interpret(through_parquet({"time": pa.array(HOURS), **SAME[kind]}), WANTED)
    np.testing.assert_array_equal(found.inputs[0], VALUES)
    assert list(found.timestamps[0]) == ISO


def test_whole_numbers_with_gaps_keep_their_digits():
    whole = pa.array([2**53 - 1, None, 3], pa.int64())
    found = interpret(through_parquet({"load": whole, "temp": [1.0, 2, 3]}), Wanted("it", ("load",), may_miss={"load"}))
    np.testing.assert_array_equal(found.inputs[0][:, 0], [2**53 - 1, np.nan, 3])


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (pa.array(HOURS, pa.timestamp("ns")), ISO[0]),
        (pa.array(HOURS, pa.timestamp("ms", "Europe/Berlin")), "2021-02-27T21:00:00+01:00"),
        (pa.array([f"{each}+02:00" for each in ISO]), f"{ISO[0]}+02:00"),
        (pa.array([time.timestamp() for time in HOURS]), HOURS[0].timestamp()),
    ],
)
def test_times_of_every_type_are_read(times, first):
    found = interpret(through_parquet({"load": LOAD, "temp": TEMP, "time": times}), WANTED)
    assert found.timestamps[0][0] == first


def test_dates_are_days():
    days = pd.date_range("2021-02-25", periods=len(LOAD))
    found = interpret(through_parquet({"day": pa.array(days.date), "load": LOAD, "temp": TEMP}), WANTED)
    assert list(found.timestamps[0])[:5] == ["2021-02-25", "2021-02-26", "2021-02-27", "2021-02-28", "2021-03-01"]


@pytest.mark.parametrize("name", ["when", None])
def test_an_index_of_times_is_the_time_of_each_row(name):
    frame = pd.DataFrame(VALUES, columns=FEATURES, index=pd.DatetimeIndex(HOURS, name=name))[::-1]
    for table in (of_frame(frame), through_parquet(pa.Table.from_pandas(frame))):
        found = interpret(table, WANTED)
        np.testing.assert_array_equal(found.inputs[0], VALUES)
        assert list(found.timestamps[0]) == ISO


@pytest.mark.parametrize("ids", [["a", "b"], [7, 8], pd.Categorical(["a", "b"])])
def test_ids_of_every_type_are_texts(ids):
    frame = pd.DataFrame({"station": np.repeat(ids, 6), "time": HOURS[:6] * 2, "load": LOAD, "temp": TEMP})
    found = interpret(through_parquet(pa.Table.from_pandas(frame)), WANTED)
    assert found.ids == tuple(map(str, ids))
    np.testing.assert_array_equal(found.inputs, [VALUES[:6], VALUES[6:]])


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([1.0, np.inf], "row 2, column 'temp': 'inf' is not a number"),
        ([[1.0], [2.0]], "row 1, column 'temp': '[1.]' is not a number"),
        ([{"a": 1}, {"a": 2}], "row 1, column 'temp'"),
        (["1", "x"], "row 2, column 'temp': 'x' is not a number"),
        ([1.0, None], "row 2, column 'temp': there is no value"),
        ([HOURS[0], HOURS[1]], "row 1, column 'temp'"),
    ],
)
def test_what_is_no_number_is_refused_with_its_place(cells, said):
    assert said in refusal(through_parquet({"load": [1.0, 2.0], "temp": cells}))


def test_a_missing_time_and_a_missing_id_are_refused_with_their_places():
    columns = {"load": [1.0, 2, 3, 4], "temp": [1.0, 2, 3, 4]}
    times = pa.array([*HOURS[:3], None])
    assert "row 4, column 'time': there is no time" in refusal(through_parquet({"time": times, **columns}))
    assert "row 3, column 'id': there is no id" in refusal(through_parquet({"id": ["a", "a", None, "a"], **columns}))


def test_lists_are_no_ids():
    table = through_parquet({"id": [[1], [1]], "load": [1.0, 2], "temp": [1.0, 2]})
    assert interpret(table, WANTED).ids is None


def test_netcdf_of_several_basins_has_a_sequence_for_each(tmp_path):
    basins = pd.Index(["a", "b"], name="basin")
    stamps = pd.DatetimeIndex(HOURS[:6], name="time")
    frame = pd.DataFrame(VALUES, columns=FEATURES, index=pd.MultiIndex.from_product([basins, stamps]))
    frame.to_xarray().to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    found = interpret(read_table(tmp_path / "t.nc"), WANTED)
    assert found.ids == ("a", "b")
    np.testing.assert_array_equal(found.inputs, [VALUES[:6], VALUES[6:]])


def test_json_of_records_is_a_table(tmp_path):
    frame = pd.DataFrame({"temp": TEMP, "time": ISO, "load": LOAD})
    frame.to_json(tmp_path / "t.json", orient="records")
    body = read_body(tmp_path / "t.json", INFO)
    np.testing.assert_array_equal(body.sequences.inputs[0], VALUES)
    assert list(body.sequences.timestamps[0]) == ISO
