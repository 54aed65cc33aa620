"""Time cut into spans: each number is NumPy's own of the same steps."""

import numpy as np
import pytest

from gatescope.server.serving.bins import REDUCTIONS, Spans

ORACLES = {"mean": np.mean, "min": np.min, "max": np.max}


@pytest.fixture
def values():
    """(batch, layer, direction, time, unit)"""
    return np.random.default_rng(0).normal(size=(3, 2, 2, 50, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("steps", "count"), [(range(10), 4), (range(7, 50), 6), (range(3), 3), (range(100), 1), (range(5, 1005), 999)]
)
def test_spans_cover_the_time_are_as_many_as_asked_for_and_differ_by_one_step(steps, count):
    spans = Spans.cut(steps, count)
    lengths = np.diff(spans.edges)
    assert (len(spans), spans.edges[0], spans.edges[-1]) == (count, steps.start, steps.stop)
    assert lengths.max() - lengths.min() <= 1
    assert lengths[-1] == lengths.min()
    assert spans.time_steps == spans.edges[:-1].tolist()


def test_equal_spans_are_equal_and_no_span_is_empty():
    assert Spans.cut(range(4, 16), 4).edges.tolist() == [4, 7, 10, 13, 16]
    assert Spans.cut(range(4, 16), 50).edges.tolist() == list(range(4, 17))


@pytest.mark.parametrize("how", REDUCTIONS)
@pytest.mark.parametrize(("steps", "count"), [(range(50), 7), (range(50), 1), (range(3, 41), 5), (range(20, 50), 30)])
def test_each_span_of_each_row_is_reduced_over_its_own_steps(values, how, steps, count):
    lengths, spans = (50, 33, 5), Spans.cut(steps, count)
    reduced = spans.reduce(values, lengths, how)
    assert (reduced.shape, reduced.dtype) == ((3, 2, 2, count, 4), np.float32)
    for row, length in enumerate(lengths):
        for index, (start, stop) in enumerate(zip(spans.edges[:-1], spans.edges[1:], strict=True)):
            own = values[row, :, :, start : min(stop, length)]
            if own.shape[2]:
                expected = ORACLES[how](own.astype(np.float64), axis=2)
                np.testing.assert_allclose(reduced[row, :, :, index], expected, atol=1e-6)
            else:
                assert np.isnan(reduced[row, :, :, index]).all()


def test_what_stands_in_the_padding_does_not_matter(values):
    spoilt = values.copy()
    spoilt[1, :, :, 33:] = np.nan
    spans = Spans.cut(range(50), 8)
    for how in REDUCTIONS:
        np.testing.assert_array_equal(spans.reduce(values, (50, 33, 5), how), spans.reduce(spoilt, (50, 33, 5), how))


def test_the_mean_of_very_many_steps_keeps_its_digits():
    values = np.full((1, 1, 1, 100_000, 1), 0.1, dtype=np.float32)
    assert Spans.cut(range(100_000), 1).reduce(values, (100_000,), "mean").item() == np.float32(0.1)


def test_a_part_of_the_spans_has_their_numbers(values):
    spans = Spans.cut(range(2, 50), 9)
    whole = spans.reduce(values, (50, 33, 5), "max")
    np.testing.assert_array_equal(spans.part(3, 7).reduce(values, (50, 33, 5), "max"), whole[:, :, :, 3:7])
    assert spans.part(3, 7).time_steps == spans.time_steps[3:7]


def test_steps_themselves_are_not_copied(values):
    assert np.shares_memory(Spans.cut(range(3, 9), 6).of(values), values)
