"""Searches of patterns, and what drives a unit, against loops over all steps."""

from importlib import import_module

import numpy as np
import pytest

from gatescope.corpus import build, pattern_units, responses_of, search
from gatescope.records import About, Record
from gatescope.zarr_store import Reader, Writer

UNITS = 70  # more than one word of bits
ABOUT = About(layers=(0, 1), directions=("forward",), units=tuple(range(UNITS)), features=("rain", "flat"))


def written(path, sequences, *, tokens=False):
    values = np.random.default_rng(5)
    with Writer(path, ABOUT) as store:
        for number, steps in enumerate(sequences):
            cells = values.normal(size=(2, 1, steps, UNITS)).astype(np.float32)
            rain = values.normal(size=(steps, 2))
            rain[:, 1] = 3.0
            rain[0, 0] = np.nan
            store.append(
                Record(
                    steps,
                    {"cell_state": cells},
                    None if tokens else rain,
                    list(values.choice(list("abc"), steps)) if tokens else None,
                    id=f"s{number}",
                )
            )
    return Reader(path)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return written(tmp_path_factory.mktemp("corpus") / "trace.zarr", [20, 1, 12, 25, 2])


@pytest.fixture
def small_blocks(monkeypatch):
    """Runs, spans and sequences go on over the ends of blocks."""
    building = import_module("gatescope.corpus.index")
    monkeypatch.setattr(building, "_ROWS", 7)
    monkeypatch.setattr(building, "_TRANSPOSED", 3)
    monkeypatch.setattr(import_module("gatescope.corpus.search"), "_VALUES_AT_ONCE", 4 * UNITS)


def brute_force(sequences, units, threshold):
    """Every span of every sequence, looked at step by step."""
    found = []
    for number, values in enumerate(sequences):
        on = values >= threshold
        for start in range(len(on)):
            for stop in range(start + 1, len(on) + 1):
                belong = {
                    unit
                    for unit in range(UNITS)
                    if on[start:stop, unit].all()
                    and (start == 0 or not on[start - 1, unit])
                    and (stop == len(on) or not on[stop, unit])
                }
                if agree := belong & set(units):
                    found.append((number, start, stop, tuple(sorted(agree)), len(belong | set(units))))
    return sorted(found, key=lambda each: (-len(each[3]), each[4], each[1] - each[2], each[0], each[1]))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threshold", [-9.0, -0.5, 0.7, 9.0])
@pytest.mark.parametrize("units", [[3], [0, 5, 63, 64, 69], range(UNITS)])
def test_a_search_finds_what_a_loop_over_all_spans_finds(reader, tmp_path, threshold, units):
    index = build(reader, ("cell_state", 1, 0), threshold, tmp_path)
    sequences = [reader.record(each).signals["cell_state"][1, 0] for each in range(len(reader))]
    expected = brute_force(sequences, list(units), threshold)
    for most in (1, 20, 10_000):
        found = search(index, list(units), most)
        assert found.total == len(expected)
        assert [tuple(place) for place in found.places] == expected[:most]


def test_the_units_of_a_pattern_are_off_on_off(reader):
    values = reader.record(3).signals["cell_state"][0, 0]
    expected = {each[:3]: each[3] for each in brute_force([values], range(UNITS), 0.4)}
    for start, stop in [(0, 1), (0, 2), (10, 11), (10, 13), (24, 25), (0, 25)]:
        assert tuple(pattern_units(values, start, stop, 0.4)) == expected.get((0, start, stop), ())


def test_an_index_is_made_once(reader, tmp_path):
    first = build(reader, ("cell_state", 0, 0), 0.1, tmp_path)
    again = build(reader, ("cell_state", 0, 0), 0.1, tmp_path, lambda: True)  # it would be cancelled if it were made
    for name in ("ending", "lengths", "sizes", "units"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    with pytest.raises(InterruptedError):
        build(reader, ("cell_state", 0, 0), 0.2, tmp_path, lambda: True)


def test_an_index_that_is_cancelled_is_not_kept(reader, tmp_path):
    with pytest.raises(InterruptedError):
        build(reader, ("cell_state", 0, 0), 0.1, tmp_path, lambda: True)
    assert not list(tmp_path.iterdir())


def test_peaks_are_the_highest_steps_among_their_neighbours(reader):
    found = responses_of(reader, ("cell_state", 1, 0, 4), 7)
    for peaks, sign in ((found.highest, 1), (found.lowest, -1)):
        expected = []
        for number in range(len(reader)):
            values = sign * reader.record(number).signals["cell_state"][1, 0, :, 4]
            around = np.concatenate(([-np.inf], values, [-np.inf]))
            expected += [
                (number, step, sign * values[step])
                for step in range(len(values))
                if around[step] < around[step + 1] >= around[step + 2]
            ]
        expected.sort(key=lambda each: -sign * each[2])
        assert [tuple(peak) for peak in peaks] == expected[:7]


def test_means_are_those_of_each_bin_of_a_feature(reader):
    rain, flat = responses_of(reader, ("cell_state", 0, 0, 2), 1, ["rain", "flat"]).features
    records = list(reader)
    inputs = np.concatenate([each.inputs[:, 0] for each in records])
    values = np.concatenate([each.signals["cell_state"][0, 0, :, 2] for each in records])
    np.testing.assert_allclose(rain.edges, np.linspace(np.nanmin(inputs), np.nanmax(inputs), 11))
    which = np.clip(np.searchsorted(rain.edges, inputs, side="right") - 1, 0, 9)
    for each in range(10):
        chosen = values[(which == each) & ~np.isnan(inputs)]
        assert rain.counts[each] == len(chosen)
        np.testing.assert_allclose(rain.means[each], chosen.mean() if len(chosen) else np.nan, rtol=1e-5)
    assert flat.counts == [len(values)] + [0] * 9
    assert flat.means[0] == pytest.approx(values.mean(dtype=np.float64))


def test_means_are_those_of_each_token(tmp_path):
    reader = written(tmp_path / "trace.zarr", [30, 50], tokens=True)
    found = responses_of(reader, ("cell_state", 0, 0, 2), 1)
    assert found.features is None
    tokens = np.concatenate([each.tokens for each in reader])
    values = np.concatenate([each.signals["cell_state"][0, 0, :, 2] for each in reader])
    expected = {token: values[tokens == token] for token in "abc"}
    assert {each.token: each.count for each in found.tokens} == {token: len(each) for token, each in expected.items()}
    for each in found.tokens:
        assert each.mean == pytest.approx(expected[each.token].mean(dtype=np.float64), rel=1e-5)
    assert [each.mean for each in found.tokens] == sorted((each.mean for each in found.tokens), reverse=True)
