"""Rolling predictions and their errors, against formulae by hand and a model that is a formula."""

import numpy as np
import pytest

from gatescope.errors import InvalidInput
from gatescope.tables import measures
from gatescope.tables.backtest import Plan, backtest, finite, flat
from gatescope.tables.sequences import Sequences, Wanted

PREDICTED = np.array([2.0, 4.0, 5.0, np.nan, 8.0])
OBSERVED = np.array([1.0, 5.0, 5.0, 7.0, np.nan])


class TestMeasures:
    def test_they_are_their_formulae_over_the_known_pairs(self):
        found = measures.of_pairs(PREDICTED, OBSERVED, scale=2.0)
        given, actual = PREDICTED[:3], OBSERVED[:3]
        error = given - actual
        assert found["mae"] == pytest.approx(2 / 3)
        assert found["rmse"] == pytest.approx(np.sqrt(2 / 3))
        assert found["bias"] == pytest.approx(0)
        assert found["mape"] == pytest.approx(100 * (1 + 0.2 + 0) / 3)
        assert found["smape"] == pytest.approx(100 * (2 / 3 + 2 / 9) / 3)
        assert found["mase"] == pytest.approx(1 / 3)
        assert found["nse"] == pytest.approx(1 - (error**2).sum() / ((actual - actual.mean()) ** 2).sum())
        r = np.corrcoef(given, actual)[0, 1]
        parts = (r - 1, given.std() / actual.std() - 1, given.mean() / actual.mean() - 1)
        assert found["kge"] == pytest.approx(1 - np.sqrt(sum(part**2 for part in parts)))

    def test_a_perfect_prediction_has_the_best_of_each(self):
        found = measures.of_pairs(OBSERVED, OBSERVED)
        assert (found["mae"], found["nse"], found["kge"]) == (0, 1, pytest.approx(1))

    def test_what_is_not_defined_is_none(self):
        found = measures.of_pairs(np.array([1.0, 2.0]), np.array([0.0, 0.0]))
        assert (found["mape"], found["nse"], found["kge"], found["mase"]) == (None, None, None, None)
        assert measures.of_pairs(np.array([np.nan]), np.array([1.0]))["mae"] is None


class TestQuantiles:
    QUANTILES = (0.1, 0.5, 0.9)
    OBSERVED = np.array([3.0, 0.0, 10.0, np.nan])
    GIVEN = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0]])

    def test_the_pinball_loss_weighs_what_lies_above_by_the_quantile(self):
        found = measures.of_quantiles(self.GIVEN, self.OBSERVED, self.QUANTILES)
        low, middle, high = (0.1 * 2 + 0.9 * 1 + 0.1 * 9) / 3, (0.5 * 1 + 0.5 * 2 + 0.5 * 8) / 3, (0.1 + 0.4 + 5.4) / 3
        assert [found[f"pinball_{quantile}"] for quantile in self.QUANTILES] == pytest.approx([low, middle, high])
        assert found["pinball"] == pytest.approx((low + middle + high) / 3)

    def test_coverage_is_the_share_between_both_bounds_or_on_one(self):
        assert measures.of_quantiles(self.GIVEN, self.OBSERVED, self.QUANTILES)["coverage_0.8"] == pytest.approx(1 / 3)
        on = measures.of_quantiles(self.GIVEN, np.array([1.0, 4.0, 4.1, 0.9]), self.QUANTILES)
        assert on["coverage_0.8"] == 0.5

    def test_only_central_intervals_have_a_coverage(self):
        quantiles = (0.025, 0.1, 0.4, 0.9, 0.975)
        found = measures.of_quantiles(np.arange(5.0)[:, None], np.array([0.5]), quantiles)
        assert {name: value for name, value in found.items() if "coverage" in name} == {
            "coverage_0.95": 1,
            "coverage_0.8": 0,
        }

    def test_a_point_forecast_is_each_quantile_and_covers_nothing(self):
        found = measures.of_quantiles(np.array([[2.0, 2.0]]), np.array([5.0, 1.0]), self.QUANTILES)
        assert found["pinball_0.9"] == pytest.approx((0.9 * 3 + 0.1 * 1) / 2)
        assert found["coverage_0.8"] is None

    def test_half_the_absolute_error_is_the_loss_of_the_median(self):
        median = measures.of_quantiles(PREDICTED[None], OBSERVED, [0.5])["pinball"]
        assert median == pytest.approx(measures.of_pairs(PREDICTED, OBSERVED)["mae"] / 2)

    def test_without_a_pair_all_are_none(self):
        found = measures.of_quantiles(np.full((3, 1), np.nan), np.array([1.0]), self.QUANTILES)
        assert set(found.values()) == {None}


NEXT = Wanted("it", ("y", "x"), ("y",), feeds_back=True)
SAME = Wanted("it", ("x",), ("y",))


def series(count=20):
    x = np.arange(count, dtype=float)
    y = 10 + np.sin(x) + 0.1 * x
    return x, y


def doubling(body):
    """A model of the next step whose prediction of a further step is twice its known feature."""
    return {"prediction": {"values": [[[2 * row[1]] for row in future] for future in body["future_inputs"]]}}


class TestNextStep:
    def test_each_origin_reads_what_came_before_it_and_known_features(self):
        x, y = series()
        asked = []

        def ask(body):
            asked.append(body)
            return doubling(body)

        found = backtest(Sequences(("y", "x"), [np.stack([y, x], axis=1)]), NEXT, "y", Plan(3, window=5), ask)
        (body,) = asked
        assert [len(each) for each in body["inputs"]] == [5] * found.origins == [5] * 5
        assert body["inputs"][1] == np.stack([y, x], axis=1)[3:8].tolist()
        assert body["future_inputs"][0] == [[None, 5.0], [None, 6.0], [None, 7.0]]
        assert body["horizon"] == 3

    def test_errors_are_those_of_the_pairs(self):
        x, y = series()
        sequences = Sequences(("y", "x"), [np.stack([y, x], axis=1)])
        found = backtest(sequences, NEXT, "y", Plan(3, window=5, season=4), doubling)
        steps = [step for origin in range(5, 18, 3) for step in range(origin, origin + 3)]
        assert found.pairs == len(steps)
        assert found.model["mae"] == pytest.approx(np.abs(2 * x[steps] - y[steps]).mean())
        origins = np.repeat(np.arange(5, 18, 3), 3)
        assert found.baselines["naive"]["mae"] == pytest.approx(np.abs(y[origins - 1] - y[steps]).mean())
        season = [origin - 4 + step for origin in range(5, 18, 3) for step in range(3)]
        assert found.baselines["seasonal_naive"]["mae"] == pytest.approx(np.abs(y[season] - y[steps]).mean())
        means = [y[:origin].mean() for origin in range(5, 18, 3) for _ in range(3)]
        assert found.baselines["mean"]["rmse"] == pytest.approx(np.sqrt(((means - y[steps]) ** 2).mean()))
        assert found.by_step[0] == pytest.approx(np.abs(2 * x[5:18:3] - y[5:18:3]).mean())
        scale = np.abs(y[4:5] - y[:1]).mean()
        assert found.model["mase"] == pytest.approx(found.model["mae"] / scale)


class TestSameStep:
    def test_the_last_steps_of_a_window_are_compared(self):
        x, y = series()
        sequences = Sequences(("x",), [x[:, None]], observed={"y": [y]}, ids=("a",), timestamps=[list(x)])

        def ask(body):
            assert "horizon" not in body
            return {"prediction": {"values": [[[3 * row[0]] for row in each] for each in body["inputs"]]}}

        found = backtest(sequences, SAME, "y", Plan(2, window=6), ask)
        steps = list(range(6, 20))
        assert found.model["mae"] == pytest.approx(np.abs(3 * x[steps] - y[steps]).mean())
        assert (found.rows[0]["id"], found.rows[0]["time"]) == ("a", 6.0)

    def test_a_step_that_was_not_measured_is_left_out(self):
        x, y = series()
        y[7] = np.nan
        sequences = Sequences(("x",), [x[:, None]], observed={"y": [y]})
        ask = lambda body: {"prediction": {"values": [[[0.0]] * len(each) for each in body["inputs"]]}}  # noqa: E731
        found = backtest(sequences, SAME, "y", Plan(2, window=6), ask)
        assert found.pairs == 13
        assert found.model["mae"] == pytest.approx(np.nanmean(np.abs(y[6:])))


class TestQuantilesOfAModel:
    """Of the second output of two, with three quantiles or two each."""

    x, y = series()
    sequences = Sequences(("x",), [x[:, None]], observed={"y": [y]})

    def spread(self, body):
        rows = [[[0.0] * 3 + [9.0, 9.5 + 0.1 * row[0], 11.0] for row in each] for each in body["inputs"]]
        return {"prediction": {"values": rows}}

    def test_point_measures_are_of_the_median_and_naive_ones_have_a_pinball_loss(self):
        wanted = Wanted("it", ("x",), ("z", "y"), quantiles=(0.1, 0.5, 0.9))
        found = backtest(self.sequences, wanted, "y", Plan(2, window=6), self.spread)
        y, median = self.y[6:], 9.5 + 0.1 * self.x[6:]
        assert (found.point, found.quantiles) == ("median", [0.1, 0.5, 0.9])
        assert found.model["mae"] == pytest.approx(np.abs(median - y).mean())
        assert found.model["pinball_0.9"] == pytest.approx(np.maximum(0.9 * (y - 11), -0.1 * (y - 11)).mean())
        assert found.model["coverage_0.8"] == pytest.approx(((y >= 9) & (y <= 11)).mean())
        naive = y - np.repeat(self.y[5:19:2], 2)
        assert found.baselines["naive"]["pinball_0.1"] == pytest.approx(np.maximum(0.1 * naive, -0.9 * naive).mean())
        assert found.baselines["naive"]["coverage_0.8"] is None
        row = flat(found.rows, found.quantiles)[0]
        assert (row["predicted_0.1"], row["predicted_0.5"], row["predicted"]) == (9.0, 10.1, 10.1)
        assert "quantiles" not in row

    def test_without_a_median_there_are_no_point_measures(self):
        wanted = Wanted("it", ("x",), ("z", "y"), quantiles=(0.1, 0.4, 0.9))
        found = backtest(self.sequences, wanted, "y", Plan(2, window=6), self.spread)
        assert (found.point, found.model["mae"], found.by_step, found.pairs) == (None, None, [None, None], 14)
        assert found.baselines["naive"]["mae"] > 0
        assert found.model["coverage_0.8"] > 0
        assert finite(found.rows)[0]["predicted"] is None

    def test_of_the_next_step_one_is_predicted_without_a_horizon(self):
        wanted = Wanted("it", ("x",), ("y",), feeds_back=True, quantiles=(0.5,))

        def ask(body):
            assert "horizon" not in body
            return {"prediction": {"values": [[[row[0] + 1] for row in each] for each in body["inputs"]]}}

        found = backtest(self.sequences, wanted, "y", Plan(window=6), ask)
        assert [row["predicted"] for row in found.rows] == list(self.x[6:])
        with pytest.raises(InvalidInput, match="not fed back"):
            backtest(self.sequences, wanted, "y", Plan(2, window=6), ask)


class TestSeveralSequences:
    def nothing(self, body):
        return {"prediction": {"values": [[[0.0]] * len(each) for each in body["inputs"]]}}

    def sequences(self, *observed):
        return Sequences(("x",), [np.zeros((len(y), 1)) for y in observed], observed={"y": list(observed)})

    def test_one_that_is_shorter_than_the_first_origin_counts_for_the_scale_alone(self):
        long, short = np.arange(20.0) ** 2, np.array([0.0, 5.0, 4.0])
        found = backtest(self.sequences(long, short), SAME, "y", Plan(start=10), self.nothing)
        scale = np.concatenate([np.diff(long[:10]), [5.0, 1.0]]).mean()
        assert found.pairs == 10
        assert found.model["mase"] == pytest.approx(long[10:].mean() / scale)

    def test_all_measures_are_of_the_same_pairs(self):
        y = np.arange(1.0, 21.0)
        y[8] = np.nan  # so that there is no seasonal forecast of step 12
        found = backtest(self.sequences(y), SAME, "y", Plan(season=4, window=10), self.nothing)
        steps = [10, 11, 13, 14, 15, 16, 17, 18, 19]
        assert found.pairs == len(steps)
        assert found.model["mae"] == pytest.approx(y[steps].mean())
        assert found.baselines["naive"]["mae"] == pytest.approx(1)
        assert found.baselines["seasonal_naive"]["mae"] == pytest.approx(4)
        assert len(found.rows) == 10

    def test_a_season_comes_before_the_first_origin(self):
        y = np.arange(20.0)
        found = backtest(self.sequences(y), SAME, "y", Plan(season=12, window=3), self.nothing)
        assert found.rows[0]["origin"] == 12
        with pytest.raises(InvalidInput, match="so take 12 at least"):
            backtest(self.sequences(y), SAME, "y", Plan(season=12, start=11), self.nothing)


def test_a_target_that_is_not_measured_is_refused():
    with pytest.raises(InvalidInput, match="is not measured"):
        backtest(Sequences(("x",), [np.zeros((9, 1))]), SAME, "y", Plan(), doubling)


def test_an_output_that_the_model_lacks_is_refused():
    with pytest.raises(InvalidInput, match="no output 'z'"):
        backtest(Sequences(("x",), [np.zeros((9, 1))]), SAME, "z", Plan(), doubling)


def test_too_short_a_sequence_is_refused():
    with pytest.raises(InvalidInput, match="no sequence has 52 steps"):
        backtest(Sequences(("x",), [np.zeros((9, 1))], observed={"y": [np.zeros(9)]}), SAME, "y", Plan(2, 50), doubling)
