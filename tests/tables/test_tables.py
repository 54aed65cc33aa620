"""Tables as people and programs write them: read as what they say, or refused with the place and the remedy."""

import io

import numpy as np
import pandas as pd
import pytest

from gatescope.errors import InvalidInput
from gatescope.tables.answers import prediction_frame
from gatescope.tables.files import of_frame, read_table
from gatescope.tables.pairs import fill_of
from gatescope.tables.sequences import Reading, Wanted, interpret

WANTED = Wanted("demand", ("load", "temp"), ("load",), feeds_back=True)
RIVER = Wanted("river", ("rain", "temp"), ("discharge",))
VALUES = np.array([[1.5, 20.0], [2.5, -3.25], [1234.5, 0.0]])
HOURS = ["2024-03-30T00:00", "2024-03-30T01:00", "2024-03-30T02:00"]


def table(text, name="t.csv", encoding="utf-8"):
    return read_table(text.encode(encoding) if isinstance(text, str) else text, name)


def sequences(text, wanted=WANTED, encoding="utf-8", **reading):
    return interpret(table(text, encoding=encoding), wanted, Reading(**reading))


def refusal(text, wanted=WANTED, **reading):
    with pytest.raises(InvalidInput) as refused:
        sequences(text, wanted, **reading)
    assert str(refused.value).isprintable()
    return str(refused.value)


PLAIN = "load,temp\n1.5,20\n2.5,-3.25\n1234.5,0\n"
SAME = {
    "commas": PLAIN,
    "no line break at the end": PLAIN.rstrip(),
    "carriage returns": PLAIN.replace("\n", "\r\n"),
    "old Mac line ends": PLAIN.replace("\n", "\r"),
    "blank lines": PLAIN.replace("\n", "\n\n"),
    "columns in another order": "temp,load\n20,1.5\n-3.25,2.5\n0,1234.5\n",
    "a further column": "load,station,temp\n1.5,a,20\n2.5,a,-3.25\n1234.5,a,0\n",
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", " | "),
    "decimal commas": "load;temp\n1,5;20\n2,5;-3,25\n1.234,5;0\n",
    "decimal commas and tabs": "load\ttemp\n1,5\t20,0\n2,5\t-3,25\n1234,5\t0\n",
    "quotes": '"load","temp"\n"1.5","20"\n"2.5","-3.25"\n"1,234.5","0"\n',
    "a comment": "# measured by hand\nload,temp\n1.5,20\n# a break\n2.5,-3.25\n1234.5,0\n",
    "names in another case": PLAIN.replace("load,temp", "LOAD,Temp"),
    "units in the names": PLAIN.replace("load,temp", "load (MW),temp [°C]"),
    "units below the names": PLAIN.replace("load,temp\n", "load,temp\nMW,°C\n"),
    "blanks around cells": PLAIN.replace(",", " , "),
    "no names": PLAIN.removeprefix("load,temp\n"),
    "thousands in quotes": PLAIN.replace("1234.5", '"1,234.5"'),
    "exponents": PLAIN.replace("1234.5", "1.2345e3"),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_numbers_are_read_however_they_are_written(kind):
    found = sequences(SAME[kind])
    assert found.columns == ("load", "temp")
    assert np.array_equal(found.inputs[0], VALUES)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_found(encoding):
    found = sequences("load (MW),temp (°C)\n1.5,20\n2.5,-3.25\n1234.5,0\n", encoding=encoding)
    assert np.array_equal(found.inputs[0], VALUES)


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".arrow"])
def test_columnar_files_are_read_by_name(suffix):
    frame, file = pd.DataFrame({"temp": VALUES[:, 1], "load": VALUES[:, 0]}), io.BytesIO()
    frame.to_parquet(file) if suffix == ".parquet" else frame.to_feather(file)
    found = interpret(read_table(file.getvalue(), f"t{suffix}"), WANTED)
    assert np.array_equal(found.inputs[0], VALUES)


def test_netcdf_is_read_by_name(tmp_path):
    frame = pd.DataFrame({"load": VALUES[:, 0], "temp": VALUES[:, 1]}, index=pd.DatetimeIndex(HOURS, name="time"))
    frame.to_xarray().to_netcdf(tmp_path / "t.nc", engine="h5netcdf")
    found = interpret(read_table(tmp_path / "t.nc"), WANTED)
    assert np.array_equal(found.inputs[0], VALUES)
    assert found.timestamps[0][1] == "2024-03-30T01:00:00"


def test_a_data_frame_with_its_times_as_index_is_read():
    frame = pd.DataFrame({"load": VALUES[:, 0], "temp": VALUES[:, 1]}, index=pd.DatetimeIndex(HOURS, name="when"))
    found = interpret(of_frame(frame[::-1]), WANTED)
    assert np.array_equal(found.inputs[0], VALUES)
    assert "sorted" in " ".join(found.notes)


class TestNames:
    def test_a_missing_column_is_told_with_the_nearest_and_what_maps_it(self):
        said = refusal("demand_load,temp\n1,2\n")
        assert "'load', which the table lacks" in said
        assert "--map load=demand_load" in said

    def test_a_mapped_column_is_read(self):
        found = sequences(PLAIN.replace("load", "demand_mw"), mapping={"load": "demand_mw"})
        assert np.array_equal(found.inputs[0], VALUES)

    def test_a_mapping_to_what_is_not_there_is_refused(self):
        assert "did you mean 'temp'" in refusal(PLAIN, mapping={"load": "temps"})

    def test_a_name_that_stands_there_twice_is_refused(self):
        assert "'load' stands there twice" in refusal("load,load,temp\n1,2,3\n")

    def test_another_number_of_columns_without_names_is_refused(self):
        assert "3 columns without names" in refusal("1,2,3\n4,5,6\n")

    @pytest.mark.parametrize(("column", "is_it"), [("TEMP (°C)", True), ("temp", True), ("temp [°F]", False)])
    def test_another_unit_is_another_column(self, column, is_it):
        wanted, text = Wanted("m", ("temp [°C]",)), f"{column},x\n1.5,2\n2.5,3\n"
        if is_it:
            assert sequences(text, wanted).inputs[0].tolist() == [[1.5], [2.5]]
        else:
            assert "--map temp [°C]=temp [°F]" in refusal(text, wanted)

    def test_two_columns_that_differ_in_case_alone_are_not_guessed(self):
        assert "'load', which the table lacks" in refusal("Load,LOAD,temp\n1,2,3\n")


class TestCells:
    def test_what_is_no_number_is_told_with_its_place(self):
        assert "line 3, column 'temp': 'abc' is not a number" in refusal("load,temp\n1,2\n1,abc\n3,4\n")

    def test_a_gap_is_told_with_its_place(self):
        assert "line 3, column 'temp': there is no value" in refusal("load,temp\n1,2\n2,\n3,4\n")

    @pytest.mark.parametrize("cell", ["", "NA", "NaN", "null", "-", "#N/A"])
    def test_every_way_to_write_nothing_is_a_gap(self, cell):
        assert "there is no value" in refusal(f"load,temp\n1,2\n2,{cell}\n3,4\n")

    def test_a_line_with_more_cells_is_refused(self):
        assert "line 3: there are 3 cells" in refusal("load,temp\n1,2\n1,2,3\n")

    def test_thousands_that_could_be_decimals_are_refused(self):
        assert "decimals or thousands" in refusal("load;temp\n1,234;2,345\n5,678;1,111\n")

    def test_an_empty_file_is_refused(self):
        assert "has no lines" in refusal("")

    def test_names_alone_are_refused(self):
        with pytest.raises(InvalidInput):
            sequences("load,temp\n")

    def test_a_file_that_is_no_text_is_refused(self):
        assert "is no text" in refusal(b"\x00\x01\x02\x03load")

    def test_infinity_is_no_number(self):
        assert "'inf' is not a number" in refusal("load,temp\n1,inf\n")


class TestTimes:
    def test_newest_first_is_sorted_and_told(self):
        rows = [f"{time},{load},{temp}" for time, (load, temp) in zip(HOURS, VALUES, strict=True)]
        found = sequences("\n".join(["time,load,temp", *rows[::-1]]))
        assert np.array_equal(found.inputs[0], VALUES)
        assert found.timestamps == [["2024-03-30T00:00:00", "2024-03-30T01:00:00", "2024-03-30T02:00:00"]]
        assert "Its rows are not in the order of time; they are sorted." in found.notes

    def test_a_time_that_stands_there_twice_is_refused_with_its_place(self):
        said = refusal("date,load,temp\n2020-01-01,1,2\n2020-01-02,1,2\n2020-01-01,1,2\n")
        assert "line 4, column 'date'" in said
        assert "--id COLUMN" in said

    def test_two_series_below_each_other_are_two_sequences(self):
        found = sequences(
            "date,site,load,temp\n2020-01-01,a,1,2\n2020-01-02,a,3,4\n2020-01-01,b,5,6\n2020-01-02,b,7,8\n"
        )
        assert found.ids == ("a", "b")
        assert [each.tolist() for each in found.inputs] == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]

    def test_an_id_column_is_named(self):
        found = sequences("site,load,temp\na,1,2\nb,5,6\na,3,4\n", id="site")
        assert found.ids == ("a", "b")
        assert [each.tolist() for each in found.inputs] == [[[1, 2], [3, 4]], [[5, 6]]]

    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            (("31.01.2020", "01.02.2020", "02.02.2020"), "2020-01-31"),
            (("01/31/2020", "02/01/2020", "02/02/2020"), "2020-01-31"),
            (("2020-01-31", "2020-02-01", "2020-02-02"), "2020-01-31"),
            (("31/01/2020 00:00", "01/02/2020 00:00", "02/02/2020 00:00"), "2020-01-31"),
            (("2020-01-31T00:00Z", "2020-02-01T00:00Z", "2020-02-02T00:00Z"), "2020-01-31T00:00:00+00:00"),
            (("20200131", "20200201", "20200202"), "2020-01-31"),
        ],
    )
    def test_dates_are_read_as_they_are_written(self, cells, expected):
        rows = "\n".join(f"{cell},{index},0" for index, cell in enumerate(cells))
        found = sequences(f"date,load,temp\n{rows}\n")
        assert found.timestamps[0][0] == expected
        assert found.inputs[0][:, 0].tolist() == [0, 1, 2]

    def test_dates_in_an_unknown_order_are_refused_with_the_remedy(self):
        text = "date,load,temp\n01/02/2020,1,2\n02/02/2020,3,4\n"
        assert "--day-first or --month-first" in refusal(text)
        assert sequences(text, day_first=True).timestamps[0] == ["2020-02-01", "2020-02-02"]
        assert sequences(text, day_first=False).timestamps[0] == ["2020-01-02", "2020-02-02"]

    def test_zoned_and_naive_times_are_refused(self):
        text = "time,load,temp\n2020-01-01T00:00Z,1,2\n2020-01-01T01:00,3,4\n"
        assert "line 3, column 'time': '2020-01-01T01:00' has no time zone" in refusal(text)

    def test_an_hour_that_comes_twice_in_autumn_is_refused(self):
        text = (
            "time,load,temp\n2024-10-27T01:00,1,2\n2024-10-27T02:00,1,2\n2024-10-27T02:00,1,2\n2024-10-27T03:00,1,2\n"
        )
        assert "stands there twice" in refusal(text)

    def test_zoned_times_of_that_hour_are_two_hours(self):
        text = "time,load,temp\n2024-10-27T02:00+02:00,1,2\n2024-10-27T02:00+01:00,3,4\n2024-10-27T03:00+01:00,5,6\n"
        found = sequences(text)
        assert found.timestamps[0][0] == "2024-10-27T00:00:00+00:00"
        assert not any("irregular" in note for note in found.notes)

    def test_irregular_steps_are_told_with_their_place(self):
        text = "date,load,temp\n2020-01-01,1,2\n2020-01-02,1,2\n2020-01-03,1,2\n2020-01-05,1,2\n"
        (told,) = [note for note in sequences(text).notes if "irregular" in note]
        assert "line 5" in told

    def test_months_are_regular(self):
        text = "date,load,temp\n2020-01-01,1,2\n2020-02-01,1,2\n2020-03-01,1,2\n2020-04-01,1,2\n"
        assert not any("irregular" in note for note in sequences(text).notes)

    def test_a_time_that_is_none_is_told_with_its_place(self):
        assert "line 3, column 'date'" in refusal("date,load,temp\n2020-01-01,1,2\nsoon,3,4\n")


class TestFuture:
    def test_rows_without_a_target_at_the_end_are_the_future(self):
        found = sequences("date,load,temp\n2020-01-01,1,2\n2020-01-02,3,4\n2020-01-03,,6\n2020-01-04,,8\n")
        assert found.horizon == 2
        assert found.inputs[0].tolist() == [[1, 2], [3, 4]]
        assert found.request()["future_inputs"] == [[[None, 6.0], [None, 8.0]]]
        assert found.future_timestamps == [["2020-01-03", "2020-01-04"]]

    def test_a_known_feature_of_the_future_may_not_be_missing(self):
        assert "line 4, column 'temp': there is no value" in refusal("load,temp\n1,2\n3,4\n,\n")

    def test_a_target_that_is_no_input_is_observed(self):
        found = sequences("date,rain,temp,discharge\n2020-01-01,1,2,9\n2020-01-02,3,4,\n2020-01-03,5,6,7\n", RIVER)
        assert found.horizon == 0
        observed = found.observed["discharge"][0]
        assert observed[[0, 2]].tolist() == [9, 7]
        assert np.isnan(observed[1])

    def test_weather_of_days_to_come_is_the_future(self):
        found = sequences("date,rain,temp,discharge\n2020-01-01,1,2,9\n2020-01-02,3,4,8\n2020-01-03,5,6,\n", RIVER)
        assert found.horizon == 1
        assert found.future_inputs[0].tolist() == [[5, 6]]

    def test_sequences_with_unequal_futures_are_refused_with_their_ids(self):
        text = "id,date,load,temp\na,1,1,2\na,2,,3\nb,1,1,2\nb,2,3,4\n"
        assert "line 5: 'a' has 1 rows without a target at its end, 'b' has 0" in refusal(text)

    def test_without_any_measurement_every_row_is_an_input(self):
        found = sequences("date,rain,temp,discharge\n2020-01-01,1,2,\n2020-01-02,3,4,\n", RIVER)
        assert found.horizon == 0
        assert len(found.inputs[0]) == 2


def days(frame):
    return [time.date().isoformat() for time in frame["time"]]


class TestAnswers:
    def test_predictions_of_the_same_step_have_its_time_and_what_was_observed(self):
        found = sequences("date,rain,temp,discharge\n2020-01-01,1,2,9\n2020-01-02,3,4,8\n", RIVER)
        frame = prediction_frame({"prediction": {"values": [[[0.5], [0.25]]]}}, found, RIVER)
        assert frame.assign(time=days(frame)).to_dict("list") == {
            "time": ["2020-01-01", "2020-01-02"],
            "discharge": [0.5, 0.25],
            "discharge_observed": [9.0, 8.0],
        }

    def test_predictions_of_the_next_step_have_the_next_time(self):
        found = sequences("date,load,temp\n2020-01-01,1,2\n2020-01-02,3,4\n")
        frame = prediction_frame({"prediction": {"values": [[[5.0], [6.0]]]}}, found, WANTED)
        assert days(frame) == ["2020-01-02", "2020-01-03"]
        assert frame["load"].tolist() == [5.0, 6.0]

    def test_a_forecast_has_the_times_of_the_future(self):
        found = sequences("date,load,temp\n2020-01-01,1,2\n2020-01-02,3,4\n2020-01-03,,6\n2020-01-04,,8\n")
        frame = prediction_frame({"prediction": {"values": [[[5.0], [6.0]]]}}, found, WANTED)
        assert days(frame) == ["2020-01-03", "2020-01-04"]

    def test_a_horizon_behind_the_table_carries_its_times_on(self):
        found = sequences("date,load,temp\n2020-01-01,1,2\n2020-01-03,3,4\n")
        frame = prediction_frame({"prediction": {"values": [[[5.0], [6.0], [7.0]]]}}, found, WANTED, horizon=3)
        assert days(frame) == ["2020-01-05", "2020-01-07", "2020-01-09"]

    def test_padding_is_cut_off(self):
        found = sequences("site,rain,temp\na,1,2\na,3,4\nb,5,6\n", RIVER, id="site")
        values = np.float32([[[1.5], [2]], [[3], [np.nan]]])
        frame = prediction_frame({"prediction": {"values": values}}, found, RIVER)
        assert frame["discharge"].tolist() == [1.5, 2.0, 3.0]
        assert frame["discharge"].dtype == np.float32

    def test_predictions_of_unknown_steps_are_refused(self):
        found = sequences("rain,temp\n1,2\n3,4\n5,6\n", RIVER)
        with pytest.raises(InvalidInput, match="3 steps has 2 predictions"):
            prediction_frame({"prediction": {"values": [[[1.0], [2.0]]]}}, found, RIVER)

    def test_ids_stand_beside_their_rows(self):
        found = sequences("site,rain,temp\na,1,2\na,3,4\nb,5,6\n", RIVER, id="site")
        frame = prediction_frame({"prediction": {"values": [[[1.0], [2.0]], [[3.0]]]}}, found, RIVER)
        assert frame["id"].tolist() == ["a", "a", "b"]
        assert frame["step"].tolist() == [0, 1, 0]


class TestGaps:
    TEXT = "date,rain,temp,discharge\n2020-01-01,1,2,5\n2020-01-02,,4,\n2020-01-03,3,,7\n2020-01-04,2,1,6\n"

    def test_gaps_are_filled_as_it_is_asked_and_told(self):
        found = sequences(self.TEXT, RIVER, fill=fill_of("rain=0,temp=interpolate"))
        assert found.inputs[0].tolist() == [[1, 2], [0, 4], [3, 2.5], [2, 1]]
        assert "1 missing in 'rain': each is 0.0." in found.notes
        assert sum("missing in" in note for note in found.notes) == 2

    def test_one_rule_is_for_all_and_of_each_sequence_alone(self):
        text = "id,rain,temp\na,1,2\na,,3\nb,5,\n"
        assert "line 4, column 'temp': 'temp' is missing, and there is no value before it" in refusal(
            text, RIVER, id="id", fill=fill_of("hold")
        )
        found = sequences(text.replace("5,", "5,9"), RIVER, id="id", fill=fill_of("hold"))
        assert [each.tolist() for each in found.inputs] == [[[1, 2], [1, 3]], [[5, 9]]]

    def test_what_is_fed_back_is_not_filled_in_further_steps(self):
        found = sequences("load,temp\n1,2\n,4\n3,\n,5\n,\n", fill=fill_of("hold"))
        assert found.inputs[0].tolist() == [[1, 2], [1, 4], [3, 4]]
        np.testing.assert_array_equal(found.future_inputs[0], [[np.nan, 5], [np.nan, 5]])

    def test_what_the_model_takes_is_left_to_it(self):
        wanted = Wanted("river", ("rain", "temp"), ("discharge",), may_miss=frozenset({"rain", "temp"}))
        assert sequences(self.TEXT, wanted).request()["inputs"][0] == [[1, 2], [None, 4], [3, None], [2, 1]]
        filled = sequences(self.TEXT, wanted, fill=fill_of("rain=9")).request()
        assert filled["inputs"][0][1] == [9, 4]

    def test_a_gap_without_a_rule_is_refused_with_the_remedy(self):
        assert "--fill rain=hold" in refusal(self.TEXT, RIVER)
        assert "line 4, column 'temp'" in refusal(self.TEXT, RIVER, fill=fill_of("rain=0"))

    def test_a_feature_that_is_none_is_refused(self):
        assert "no feature 'snow' to fill" in refusal(self.TEXT, RIVER, fill=fill_of("snow=0"))

    @pytest.mark.parametrize("text", ["rain", "rain=", "=0", "rain=nan", "rain=inf", "rain=most,temp=0", "rain=0,"])
    def test_a_rule_that_is_none_is_refused(self, text):
        with pytest.raises(ValueError, match=r"must be|filled by"):
            fill_of(text)


def test_parts_hold_all_sequences_with_what_belongs_to_them():
    text = "id,date,load,temp\n" + "".join(
        f"{name},2020-01-0{day},{day},{row}\n"
        for row, (name, days) in enumerate({"a": 3, "b": 5, "c": 2, "d": 2}.items())
        for day in range(1, days + 1)
    )
    whole = sequences(text, id="id", timestamps="date")
    parts = list(whole.parts(5))
    assert [part.ids for part in parts] == [("a",), ("b",), ("c", "d")]
    assert [len(each) for part in parts for each in part.inputs] == [3, 5, 2, 2]
    assert [row for part in parts for row in part.timestamps] == whole.timestamps
    assert [row for part in parts for row in part.request()["inputs"]] == whole.request()["inputs"]


def test_quantiles_are_columns_beside_what_was_measured():
    wanted = Wanted("river", ("rain", "temp"), ("discharge",), quantiles=(0.1, 0.5, 0.9))
    asked = interpret(table("date,rain,temp,discharge\n2001-01-01,1,2,3\n2001-01-02,4,5,6\n"), wanted)
    reply = {"prediction": {"values": [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]}}
    frame = prediction_frame(reply, asked, wanted)
    assert list(frame.columns) == ["time", "discharge_0.1", "discharge_0.5", "discharge_0.9", "discharge_observed"]
    assert frame["discharge_0.9"].tolist() == [3, 6]
    assert frame["discharge_observed"].tolist() == [3, 6]
