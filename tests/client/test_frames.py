"""Data frames in place of arrays: features are matched by name, whatever the order of the columns."""

import numpy as np
import pandas as pd
import pytest

from gatescope.errors import InvalidInput


@pytest.fixture(scope="module")
def week(shipped):
    """A week of `demand` as a data frame."""
    info = shipped.get("/v1/models/demand").json()
    values = np.array(info["examples"][1]["request"]["inputs"][0][:60], dtype=float)
    return pd.DataFrame(values, columns=info["input"]["feature_names"])


def test_columns_in_another_order_give_the_same_prediction(client, week):
    expected = client.predict("demand", week.to_numpy()).values
    for names in (week.columns, week.columns[::-1]):
        np.testing.assert_array_equal(client.predict("demand", week[list(names)]).values, expected)


def test_frames_of_unequal_lengths_and_orders_are_a_batch(client, week):
    expected = client.predict("demand", [week.to_numpy(), week.to_numpy()[:5]]).values
    found = client.predict("demand", [week, week[week.columns[::-1]].head(5)]).values
    np.testing.assert_array_equal(found, expected)


def test_a_column_that_the_model_lacks_is_refused_by_name(client, week):
    first = week.columns[0]
    with pytest.raises(InvalidInput, match=f"did you mean '{first}'"):
        client.predict("demand", week.rename(columns={first: f"{first}s"}))


def test_frames_with_other_columns_are_refused(client, week):
    first = week.columns[0]
    with pytest.raises(InvalidInput, match=f"'{first}' differs"):
        client.predict("demand", [week, week.rename(columns={first: "zzz"})])


def test_a_column_of_texts_is_refused_with_the_remedy(client, week):
    with pytest.raises(InvalidInput, match="drop columns that are no features"):
        client.predict("demand", week.assign(date="2020-01-01"))


def test_future_inputs_are_matched_by_name_too(client, week):
    known, future = week.head(50), week.iloc[50:52].copy()
    future["demand_mw" if "demand_mw" in future else future.columns[0]] = np.nan
    given = {"horizon": 2, "future_inputs": future.to_numpy()}
    expected = client.predict("demand", known.to_numpy(), **given).values
    reordered = future[future.columns[::-1]]
    found = client.predict("demand", known, horizon=2, future_inputs=reordered).values
    np.testing.assert_array_equal(found, expected)


def test_times_and_ids_come_back(client, week):
    hours = [f"2000-06-05T{hour:02}:00:00" for hour in range(20)]
    found = client.predict("demand", [week.head(20)], timestamps=[hours], ids=["England"])
    assert (found.ids, found.timestamps) == (["England"], [hours])
    assert found.prediction_timestamps[0][-1] == "2000-06-05T20:00:00"
