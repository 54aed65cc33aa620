"""Time cut into bins: each number is NumPy's own of the same steps."""

import numpy as np
import pytest

from gatescope.server.serving.bins import REDUCTIONS, Bins

ORACLES = {"mean": np.mean, "min": np.min, "max": np.max}


@pytest.fixture
def values():
    """(batch, layer, direction, time, unit)"""
    return np.random.default_rng(0).normal(size=(3, 2, 2, 50, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("steps", "count"), [(range(10), 4), (range(7, 50), 6), (range(3), 3), (range(100), 1), (range(5, 1005), 999)]
)
def test_bins_cover_the_time_are_as_many_as_asked_for_and_differ_by_one_step(steps, count):
    bins = Bins.cut(steps, count)
    lengths = np.diff(bins.edges)
    assert (len(bins), bins.edges[0], bins.edges[-1]) == (count, steps.start, steps.stop)
    assert lengths.max() - lengths.min() <= 1
    assert lengths[-1] == lengths.min()
    assert bins.time_steps == bins.edges[:-1].tolist()


def test_equal_bins_are_equal_and_no_bin_is_empty():
    assert Bins.cut(range(4, 16), 4).edges.tolist() == [4, 7, 10, 13, 16]
    assert Bins.cut(range(4, 16), 50).edges.tolist() == list(range(4, 17))


@pytest.mark.parametrize("how", REDUCTIONS)
@pytest.mark.parametrize(("steps", "count"), [(range(50), 7), (range(50), 1), (range(3, 41), 5), (range(20, 50), 30)])
def test_each_bin_of_each_row_is_reduced_over_its_own_steps(values, how, steps, count):
    lengths, bins = (50, 33, 5), Bins.cut(steps, count)
    reduced = bins.reduce(values, lengths, how)
    assert (reduced.shape, reduced.dtype) == ((3, 2, 2, count, 4), np.float32)
    for row, length in enumerate(lengths):
        for index, (start, stop) in enumerate(zip(bins.edges[:-1], bins.edges[1:], strict=True)):
            own = values[row, :, :, start : min(stop, length)]
            if own.shape[2]:
                expected = ORACLES[how](own.astype(np.float64), axis=2)
                np.testing.assert_allclose(reduced[row, :, :, index], expected, atol=1e-6)
            else:
                assert np.isnan(reduced[row, :, :, index]).all()


def test_what_stands_in_the_padding_does_not_matter(values):
    spoilt = values.copy()
    spoilt[1, :, :, 33:] = np.nan
    bins = Bins.cut(range(50), 8)
    for how in REDUCTIONS:
        np.testing.assert_array_equal(bins.reduce(values, (50, 33, 5), how), bins.reduce(spoilt, (50, 33, 5), how))


def test_the_mean_of_very_many_steps_keeps_its_digits():
    values = np.full((1, 1, 1, 100_000, 1), 0.1, dtype=np.float32)
    assert Bins.cut(range(100_000), 1).reduce(values, (100_000,), "mean").item() == np.float32(0.1)


def test_a_part_of_the_bins_has_their_numbers(values):
    bins = Bins.cut(range(2, 50), 9)
    whole = bins.reduce(values, (50, 33, 5), "max")
    np.testing.assert_array_equal(bins.part(3, 7).reduce(values, (50, 33, 5), "max"), whole[:, :, :, 3:7])
    assert bins.part(3, 7).time_steps == bins.time_steps[3:7]


def test_steps_themselves_are_not_copied(values):
    assert np.shares_memory(Bins.cut(range(3, 9), 6).of(values), values)
