import math

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import compare
from benchmarks.checkout import HERE
from benchmarks.compare import process
from benchmarks.compare.interval import Interval


def test_an_interval_is_the_t_interval_of_the_logarithms():
    interval = Interval.of([math.exp(-0.1), 1.0, math.exp(0.1)])
    assert interval.ratio == pytest.approx(1)
    assert interval.high == pytest.approx(math.exp(4.303 * 0.1 / math.sqrt(3)))
    assert interval.low == pytest.approx(1 / interval.high)


@pytest.mark.parametrize(
    ("speeds", "problems"),
    [([1.0, 1.01, 0.99], 0), ([0.96, 0.961, 0.962], 1), ([0.9, 0.901, 0.902], 2), ([0.5, 1.0, 2.0], 0)],
)
def test_a_slow_mean_and_a_row_that_is_surely_slow_fail(speeds, problems):
    result = compare.summary({"row": [(10.0, 10 * speed) for speed in speeds]})
    assert len(list(compare.failures(result))) == problems


def test_both_sides_have_their_turn_first(monkeypatch):
    asked = []

    class Side:
        def __init__(self, checkout, _):
            self._name = "new" if checkout is HERE else "base"

        def __enter__(self):
            return {row: lambda: asked.append(self._name) or 1.0 for row in ("a", "b")}

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(compare.TABLES, "steps", Side)
    pairs = compare.measure("steps", None, rounds=2, seconds=1)
    assert asked == ["base", "new", "new", "base", "new", "base", "base", "new"]
    assert pairs == {"a": [(1.0, 1.0)] * 2, "b": [(1.0, 1.0)] * 2}


@pytest.mark.examples
def test_a_row_is_measured_in_a_process_of_its_checkout():
    with process.speeds("steps", HERE, seconds=0.1) as rows:
        assert "1 × 1 × 64" in rows
        assert rows["1 × 1 × 64"]() > 0


@pytest.mark.examples
def test_a_process_that_ends_is_noticed():
    with pytest.raises(process.Broken, match="ended"), process.speeds("no such table", HERE, seconds=0.1):
        pass


def test_a_folder_without_a_package_cannot_be_compared(tmp_path):
    app = typer.Typer()
    app.command()(compare.main)
    told = CliRunner().invoke(app, ["--base", str(tmp_path)])
    assert told.exit_code == compare.IMPOSSIBLE
    assert "neither the package" in told.output
