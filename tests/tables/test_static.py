"""Static features: one value in each sequence, from a second table or from columns of the table itself."""

import numpy as np
import pandas as pd
import pytest

from gatescope.errors import InvalidInput
from gatescope.tables.backtest import Plan, backtest
from gatescope.tables.files import of_frame, read_table
from gatescope.tables.sequences import Reading, Wanted, interpret

WANTED = Wanted("basin", ("rain",), ("level",), static=("area", "soil"))
ROWS = "gauge_id,day,rain\nb,1,0.5\nb,2,1.5\na,1,2.5\na,2,3.5\n07,1,4.5\n07,2,5.5\n"
ATTRIBUTES = "gauge_id;Area (km²);soil;name\na;1,5;2;upper\n07;70;1;lower\nb;30,25;1;\nc;;;\n"
EXPECTED = [[30.25, 1], [1.5, 2], [70, 1]]


def table(text):
    return read_table(text.encode(), "t.csv")


def found(text=ROWS, attributes=None, wanted=WANTED, **reading):
    second = None if attributes is None else read_table(attributes.encode(), "basins.csv")
    return interpret(table(text), wanted, Reading(static=second, **reading))


def refusal(*arguments, **reading):
    with pytest.raises(InvalidInput) as refused:
        found(*arguments, **reading)
    return str(refused.value)


def test_a_second_table_is_joined_by_id_and_name():
    made = found(attributes=ATTRIBUTES)
    assert (made.ids, made.static_columns) == (("b", "a", "07"), ("area", "soil"))
    np.testing.assert_array_equal(made.static_inputs, EXPECTED)
    assert made.request()["static_inputs"] == EXPECTED
    assert made.request()["static_columns"] == ["area", "soil"]
    assert "Static features are read from basins.csv." in made.notes
    assert "The column 'Area (km²)' is read as 'area'." in made.notes


def test_columns_of_a_second_table_are_mapped():
    renamed = ATTRIBUTES.replace("Area (km²)", "size")
    assert "basins.csv: the model needs 'area'" in refusal(attributes=renamed)
    np.testing.assert_array_equal(found(attributes=renamed, mapping={"area": "size"}).static_inputs, EXPECTED)


def test_ids_may_be_called_otherwise_in_a_second_table():
    other = ATTRIBUTES.replace("gauge_id", "Basin ID")
    np.testing.assert_array_equal(found(attributes=other).static_inputs, EXPECTED)
    unknown = ATTRIBUTES.replace("gauge_id", "where")
    assert "there is no column 'gauge_id' of ids" in refusal(attributes=unknown)


def test_whole_numbers_of_one_table_are_the_texts_of_the_other():
    frame = pd.DataFrame({"gauge_id": [8, 7], "area": [1.5, 2.5], "soil": [1, 2]})
    made = interpret(table("gauge_id,rain\n7,1\n7,2\n8,1\n8,2\n"), WANTED, Reading(static=of_frame(frame)))
    np.testing.assert_array_equal(made.static_inputs, [[2.5, 2], [1.5, 1]])


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (ATTRIBUTES.replace("\na;", "\nx;"), "column 'gauge_id': there is no row for 'a'"),
        (ATTRIBUTES.replace("\n07;", "\n007;"), "there is no row for '07'; '07' is much like '007'"),
        (ATTRIBUTES + "b;1;1;\n", "line 6, column 'gauge_id': the id 'b' stands there twice"),
        (ATTRIBUTES.replace("b;30,25", "b;"), "line 4, column 'Area (km²)': there is no value"),
        (ATTRIBUTES.replace("b;30,25", "b;-9999"), "line 4, column 'Area (km²)': there is no value"),
        (ATTRIBUTES.replace("b;30,25;1", "b;30,25;x"), "line 4, column 'soil': 'x' is not a number"),
        ("a,1.5,2\nb,1,1\n", "name them in a first line"),
    ],
)
def test_a_second_table_that_does_not_fit_is_refused(attributes, said):
    message = refusal(attributes=attributes)
    assert message.startswith("basins.csv")
    assert said in message


def test_one_sequence_takes_a_second_table_of_one_row():
    one = "rain\n0.5\n1.5\n"
    np.testing.assert_array_equal(found(one, "area,soil\n1.5,2\n").static_inputs, [[1.5, 2]])
    assert "4 rows for one sequence; name the column of ids" in refusal(one, ATTRIBUTES)


def test_a_second_table_for_a_model_without_static_features_is_refused():
    assert "takes no static features" in refusal(ROWS, ATTRIBUTES, Wanted("it", ("rain",)))


COLUMNS = "id,rain,soil,area\nb,0.5,1,30.25\nb,1.5,1,\na,2.5,2,1.5\na,3.5,2,1.5\n"


def test_columns_of_the_table_itself_are_one_value_each():
    made = found(COLUMNS)
    np.testing.assert_array_equal(made.static_inputs, [[30.25, 1], [1.5, 2]])
    assert made.mapping["area"] == "area"
    assert [len(part.static_inputs) for part in made.parts(2)] == [1, 1]
    assert made.arrays()["static_columns"] == ["area", "soil"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (COLUMNS.replace("3.5,2,1.5", "3.5,2,1.75"), "line 5, column 'area': 'a' has 1.5 and 1.75"),
        (COLUMNS.replace(",30.25", ","), "line 2, column 'area': there is no value for 'b'"),
        (COLUMNS.replace("area", "size"), "model 'basin' needs 'area', which the table lacks"),
        (ROWS, "model 'basin' needs 'area', 'soil'"),
    ],
)
def test_columns_that_are_no_one_value_are_refused(text, said):
    assert said in refusal(text)


def test_a_backtest_asks_each_origin_with_its_static_features():
    asked = []

    def ask(body):
        asked.extend(zip(body["inputs"], body["static_inputs"], strict=True))
        return {"prediction": {"values": [[[0.0]] * len(each) for each in body["inputs"]]}}

    text = "id,rain,soil,area,level\n" + "".join(
        f"{each},{step},{soil},{area},{step}\n"
        for each, soil, area in (("b", 1, 3.5), ("a", 2, 4.5))
        for step in range(6)
    )
    backtest(found(text), WANTED, "level", Plan(horizon=1, window=2, start=4), ask)
    assert asked == [([[3], [4]], [3.5, 1]), ([[4], [5]], [3.5, 1]), ([[3], [4]], [4.5, 2]), ([[4], [5]], [4.5, 2])]
