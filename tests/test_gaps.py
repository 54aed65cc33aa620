"""`filled`, beside pandas and NumPy."""

import numpy as np
import pandas as pd
import pytest

from gatescope.gaps import GapRefused, filled

NAN = np.nan
VALUES = np.array([[1.0, NAN], [NAN, 4.0], [NAN, NAN], [8.0, 2.0]])


def of(column, rule, before=None):
    return filled(np.array(column)[:, None], [rule], ["rain"], before)[:, 0]


@pytest.mark.parametrize("seed", range(20))
def test_hold_and_interpolate_equal_pandas(seed):
    generator = np.random.default_rng(seed)
    column = generator.normal(size=30)
    column[generator.random(30) < 0.4] = NAN
    column[[0, -1]] = 1.0, 2.0
    np.testing.assert_array_equal(of(column, "hold"), pd.Series(column).ffill())
    np.testing.assert_allclose(of(column, "interpolate"), pd.Series(column).interpolate(), rtol=1e-12)


def test_each_feature_has_a_rule_of_its_own_and_the_request_is_left_as_it_is():
    before = VALUES.copy()
    made = filled(VALUES, ["hold", -1.5], ["rain", "snow"])
    assert made.tolist() == [[1, -1.5], [1, 4], [1, -1.5], [8, 2]]
    np.testing.assert_array_equal(VALUES, before)


def test_what_comes_before_is_held_and_interpolated_from():
    assert of([NAN, NAN, 4.0], "hold", np.array([1.0])).tolist() == [1, 1, 4]
    assert of([NAN, NAN, 4.0], "interpolate", np.array([1.0])).tolist() == [2, 3, 4]


def test_nan_is_passed_on():
    np.testing.assert_array_equal(of([1.0, NAN], "nan"), [1, NAN])


def test_a_sequence_without_gaps_is_not_copied():
    values = np.ones((2, 1))
    assert filled(values, ["refuse"], ["rain"]) is values


@pytest.mark.parametrize(
    ("column", "rule", "place", "said"),
    [
        ([1.0, NAN], "refuse", (1, 0), "the model's manifest does not say"),
        ([NAN, 1.0, NAN], "hold", (0, 0), "no value before it"),
        ([1.0, NAN, NAN], "interpolate", (1, 0), "on both sides"),
        ([NAN, 1.0], "interpolate", (0, 0), "on both sides"),
        ([NAN, NAN], "interpolate", (0, 0), "on both sides"),
    ],
)
def test_a_gap_that_cannot_be_filled_is_refused_with_its_place(column, rule, place, said):
    with pytest.raises(GapRefused, match=said) as refused:
        of(column, rule)
    assert refused.value.place.loc == place
