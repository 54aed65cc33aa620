"""A picture of a forecast holds the numbers: what was measured, predictions, further steps, warm-up and quantiles."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.dates import num2date

from gatescope import forecast_plot
from gatescope.client.prediction import Prediction
from gatescope.records import About, Record, moments

DAYS = [f"2001-02-{day:02}" for day in range(1, 8)]
ABOUT = About(model="it", features=("level", "rain"), outputs=("level",), output_units=("m",), targets=("level",))
INFO = {"output": {"names": ["level"], "predicts": "same_step"}, "warmup_steps": 3}


def record(**changed):
    made = Record(
        steps=7,
        observed={"level": np.arange(7.0)},
        prediction=10 + np.arange(7.0)[:, None],
        prediction_steps=np.arange(7),
        timestamps=moments(DAYS),
        prediction_timestamps=moments(DAYS),
        id="north",
    )
    return replace(made, **changed)


def drawn(*records, info=INFO, about=ABOUT, has_horizon=False, warms_up=False, **options):
    panels = forecast_plot.of_records(records, about, info, has_horizon=has_horizon, warms_up=warms_up)
    return forecast_plot.draw(panels, "it", warmup_steps=3, **options)


def lines(axes):
    """Label -> dates or numbers, and values."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.get_lines()}


def days(values):
    return [str(day) for day in np.asarray(values).astype("datetime64[D]")]


def test_measured_and_predicted_values_stand_at_their_dates():
    (axes,) = drawn(record()).axes
    found = lines(axes)
    assert set(found) == {"observed", "predicted"}
    assert days(found["predicted"][0]) == DAYS
    assert found["observed"][1].tolist() == list(range(7))
    assert found["predicted"][1].tolist() == list(range(10, 17))
    assert num2date(axes.dataLim.x0).strftime("%Y-%m-%d") == DAYS[0]
    assert (axes.get_ylabel(), axes.get_title(loc="left")) == ("level [m]", "north")


def test_further_steps_are_another_line_and_so_are_fed_back_ones():
    ahead = {
        "prediction": np.array([[20.0], [21.0]]),
        "prediction_steps": np.array([5, 6]),
        "prediction_timestamps": moments(DAYS[5:]),
        "observed": {},
        "inputs": np.arange(14.0).reshape(7, 2),
    }
    info = {"output": {"names": ["level"], "predicts": "next_step"}}
    (axes,) = drawn(record(**ahead), info=info, has_horizon=True).axes
    found = lines(axes)
    times, values = found.pop("further steps, predictions fed back")
    assert (days(times), values.tolist()) == (DAYS[5:], [20, 21])
    assert found["observed"][1].tolist() == [0, 2, 4, 6, 8]  # what was fed back was not measured
    assert "predicted" not in found


def test_the_prediction_behind_the_last_step_is_a_further_one():
    days_ahead = {"prediction_steps": np.arange(1, 8), "prediction_timestamps": moments([*DAYS[1:], "2001-02-08"])}
    info = {"output": {"names": ["level"], "predicts": "next_step"}}
    (axes,) = drawn(record(**days_ahead), info=info).axes
    found = lines(axes)
    assert days(found["predicted"][0]) == DAYS[1:]
    assert (days(found["further steps"][0]), found["further steps"][1].tolist()) == (["2001-02-08"], [16])


def test_the_warm_up_is_shaded_with_a_word_why():
    (axes,) = drawn(record(), warms_up=True).axes
    (span,) = axes.patches
    assert [num2date(day).day for day in (span.get_x(), span.get_x() + span.get_width())] == [1, 3]
    assert [text.get_text() for text in axes.texts] == ["warm-up: fewer than 3 steps read"]
    assert not drawn(record()).axes[0].patches


def test_quantiles_are_bands_around_the_median():
    values = np.arange(7.0)[:, None] + np.array([-2.0, -1, 0, 1, 2])
    output = {"names": ["level"], "quantiles": [0.05, 0.25, 0.5, 0.75, 0.95]}
    (axes,) = drawn(record(prediction=values), info={"output": output}).axes
    assert lines(axes)["predicted (median)"][1].tolist() == list(range(7))
    outer, inner = axes.collections
    assert (outer.get_label(), inner.get_label()) == ("quantiles 0.05 to 0.95", "quantiles 0.25 to 0.75")
    heights = outer.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (-2, 8)


def test_many_sequences_are_bounded_and_it_is_said():
    figure = drawn(*(record(id=str(number)) for number in range(9)), count=30)
    assert len(figure.axes) == forecast_plot.MOST_PANELS == 8
    assert figure.get_suptitle() == "it\nthe first 8 of 30"


def test_steps_without_times_are_numbered():
    (axes,) = drawn(record(timestamps=None, prediction_timestamps=None), x_label="time step").axes
    assert lines(axes)["predicted"][0].tolist() == list(range(7))
    assert axes.get_xlabel() == "time step"


def test_a_backtest_begins_a_line_at_each_origin():
    rows = [
        {"id": None, "origin": origin, "step": step, "time": DAYS[origin + step], "predicted": 10.0 * origin + step}
        | {"observed": float(origin + step), "naive": 1.0, "quantiles": None}
        for origin in (2, 3)
        for step in (0, 1)
    ]
    (axes,) = forecast_plot.draw(forecast_plot.of_backtest(rows, "level", (), "naive"), "it").axes
    found = lines(axes)
    assert days(found["observed"][0]) == DAYS[2:5]
    assert found["observed"][1].tolist() == [2, 3, 4]
    np.testing.assert_array_equal(found["predicted"][1], [20, 21, np.nan, 30, 31, np.nan])
    assert found["naive"][1].tolist()[:2] == [1, 1]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_it_is_written_in_each_format(tmp_path, suffix):
    drawn(record(id="$x$")).savefig(tmp_path / f"it.{suffix}")
    assert (tmp_path / f"it.{suffix}").stat().st_size > 1000


def test_what_the_client_was_told_is_drawn_without_its_padding():
    values = np.array([[[1.0], [2.0], [3.0]], [[4.0], [np.nan], [np.nan]]], dtype=np.float32)
    told = Prediction("it", "1", np.array([3, 1]), values, ids=["a", "b"], prediction_timestamps=[DAYS[:3], DAYS[:1]])
    first, second = told.plot(["level"]).axes
    assert days(lines(first)["predicted"][0]) == DAYS[:3]
    assert lines(second)["predicted"][1].tolist() == [4]
    assert (first.get_ylabel(), second.get_title(loc="left")) == ("level", "b")
