"""`correlation`, `periodicity`, `selectivity` and `similarity`: against NumPy, and with planted answers."""

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import analyse, trace
from gatescope.analysis import correlation
from gatescope.analysis.registry import analysis_named, read_parameters
from gatescope.analysis.subject import Chunk, Subject
from gatescope.errors import InvalidInput


@pytest.fixture
def random_trace():
    torch.manual_seed(7)
    return trace(nn.LSTM(2, 4, 2, bidirectional=True), [torch.randn(40, 2), torch.randn(25, 2)])


def states(traced):
    """(step, layer, direction, unit) of all sequences."""
    rows = zip(traced.cell_state.double().numpy(), traced.sequence_lengths.tolist(), strict=True)
    return np.concatenate([np.moveaxis(row[:, :, :length], 2, 0) for row, length in rows])


def series_of(*values):
    return [{"name": f"s{index}", "values": each} for index, each in enumerate(values)]


def test_r_is_that_of_numpy(random_trace):
    generator = np.random.default_rng(0)
    values = [generator.standard_normal(40).tolist(), generator.standard_normal(25).tolist()]
    found = analyse(random_trace, "correlation", series=series_of(values))
    flat = states(random_trace).reshape(65, -1)
    expected = [np.corrcoef(unit, np.concatenate(values))[0, 1] for unit in flat.T]
    np.testing.assert_allclose(found["r"].ravel(), expected, atol=1e-6)
    assert (found["lag"] == 0).all()


def test_missing_values_are_left_out(random_trace):
    generator = np.random.default_rng(1)
    values = generator.standard_normal(65)
    values[[3, 17, 50]] = np.nan
    rows = [[None if np.isnan(v) else v for v in part] for part in (values[:40], values[40:])]
    found = analyse(random_trace, "correlation", series=series_of(rows))
    known = ~np.isnan(values)
    flat = states(random_trace).reshape(65, -1)[known]
    expected = [np.corrcoef(unit, values[known])[0, 1] for unit in flat.T]
    np.testing.assert_allclose(found["r"].ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("lag", [-3, 4])
def test_the_lag_of_a_planted_series_is_found(lag):
    torch.manual_seed(2)
    traced = trace(nn.LSTM(1, 3), torch.randn(200, 1))
    unit = states(traced)[:, 0, 0, 1]
    series = np.full(200, np.nan)
    for step in range(200):  # the unit at t is the series at t − lag
        if 0 <= step + lag < 200:
            series[step] = unit[step + lag]
    values = [None if np.isnan(each) else each for each in series]
    found = analyse(traced, "correlation", series=series_of(values), max_lag=6)
    assert found["r"][0, 0, 0, 1] == pytest.approx(1, abs=1e-9)
    assert found["lag"][0, 0, 0, 1] == lag
    assert found.check.value < 0.9


def test_unrelated_series_stay_below_the_control():
    below = 0
    for seed in range(20):
        torch.manual_seed(seed)
        traced = trace(nn.LSTM(1, 8), torch.randn(150, 1))
        walk = np.random.default_rng(seed).standard_normal(150).cumsum()
        found = analyse(traced, "correlation", series=series_of(walk.tolist()))
        below += np.abs(found["r"]).max() <= found.check.value
    assert below >= 18


@pytest.mark.parametrize(("period", "steps"), [(24.0, 240), (365.25, 1500)])
def test_a_series_is_not_shifted_by_whole_periods(period, steps):
    torch.manual_seed(4)
    season = np.exp(1.5 * np.sin(2 * np.pi * np.arange(steps) / period))  # a short season of each year
    noisy = season + 0.5 * np.random.default_rng(5).standard_normal(steps)
    traced = trace(nn.LSTM(1, 3), torch.tensor(season, dtype=torch.float32)[:, None])
    found = analyse(traced, "correlation", series=series_of(noisy.tolist()))
    (note,) = [note for note in found.notes if "repeats itself" in note]
    assert float(note.split("after ")[1].split(" steps")[0]) == pytest.approx(period, rel=0.02)
    offsets = correlation._offsets_of(steps, period)
    for moved in (offsets, steps - offsets):
        assert (np.abs(moved / period - np.round(moved / period)) >= 1 / 8).all()
    assert len(offsets) > steps / 4
    everything = correlation._offsets_of(steps, None)
    assert (everything[0], everything[-1]) == (steps // 10, steps - steps // 10 - 1)
    flat = states(traced).reshape(steps, -1)
    by_hand = [[abs(np.corrcoef(unit, np.roll(noisy, offset))[0, 1]) for unit in flat.T] for offset in offsets.tolist()]
    assert (found["control"].ravel() <= np.max(by_hand, axis=0) + 1e-9).all()


def test_slow_noise_has_no_season():
    seasons = 0
    for seed in range(10):
        torch.manual_seed(seed)
        traced = trace(nn.LSTM(1, 2), torch.randn(200, 1))
        walk = np.random.default_rng(seed).standard_normal(200).cumsum()
        found = analyse(traced, "correlation", series=series_of(walk.tolist()))
        seasons += any("repeats itself" in note for note in found.notes)
    assert seasons <= 1


def test_series_that_do_not_fit_are_refused(random_trace):
    with pytest.raises(InvalidInput, match=r"series\.0\.values\.1: has 24 steps; the sequence has 25"):
        analyse(random_trace, "correlation", series=series_of([[0.0] * 40, [0.0] * 24]))
    with pytest.raises(InvalidInput, match="has 1 sequences; 2 were given"):
        analyse(random_trace, "correlation", series=series_of([0.0] * 40))
    with pytest.raises(InvalidInput, match="nothing can follow it"):
        analyse(random_trace, "correlation", series=series_of([[1.0] * 40, [1.0] * 25]))
    with pytest.raises(InvalidInput, match="series: Field required"):
        analyse(random_trace, "correlation")


def test_the_period_of_the_input_is_found():
    module = nn.LSTM(1, 2)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        module.weight_ih_l0[4] = 1.0  # the candidate of unit 0; unit 1 stands still
    inputs = torch.sin(2 * torch.pi * torch.arange(240) / 24)[:, None]
    found = analyse(trace(module, inputs), "periodicity")
    assert found["period"][0, 0, 0] == pytest.approx(24)
    assert found["share"][0, 0, 0] > 0.95
    assert np.isnan(found["period"][0, 0, 1])
    assert found["share"][0, 0, 0] > found.check.value


def test_noise_has_no_period():
    periods = 0
    for seed in range(10):
        torch.manual_seed(seed)
        found = analyse(trace(nn.LSTM(1, 4), torch.randn(200, 1)), "periodicity")
        periods += (found["share"] > found.check.value).any()
    assert periods <= 1


def test_auc_counts_pairs(random_trace):
    generator = np.random.default_rng(5)
    classes = [["a" if each else "b" for each in generator.random(length) < 0.4] for length in (40, 25)]
    found = analyse(random_trace, "selectivity", classes=classes)
    labels, flat = np.array(classes[0] + classes[1]), states(random_trace).reshape(65, -1)
    for index, name in enumerate(found.coordinates["class"]):
        for unit, auc in enumerate(found["auc"][index].ravel()):
            inside, outside = flat[labels == name, unit], flat[labels != name, unit]
            pairs = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
            assert auc == pytest.approx(pairs)


def test_a_planted_class_is_found_and_noise_is_not():
    torch.manual_seed(3)
    traced = trace(nn.LSTM(1, 6), torch.randn(300, 1))
    unit = states(traced)[:, 0, 0, 2]
    planted = ["high" if value > np.median(unit) else None for value in unit]
    planted = [each or "low" for each in planted]
    found = analyse(traced, "selectivity", classes=planted)
    assert found["auc"][found.coordinates["class"].index("high"), 0, 0, 2] == 1
    assert found["q"][:, 0, 0, 2].max() < 0.05
    noise = np.random.default_rng(0).integers(0, 2, 300).tolist()
    assert analyse(traced, "selectivity", classes=noise)["q"].min() > 0.01


def test_steps_without_a_class_are_left_out(random_trace):
    classes = [["a", "b", None, "a"] * 10, ["b", "a", "a", None, "b"] * 5]
    found = analyse(random_trace, "selectivity", classes=classes)
    known = [step for step, name in enumerate(classes[0] + classes[1]) if name is not None]
    labels = np.array([name for name in classes[0] + classes[1] if name is not None])
    flat = states(random_trace).reshape(65, -1)[known]
    inside, outside = flat[labels == "a", 0], flat[labels != "a", 0]
    index = found.coordinates["class"].index("a")
    assert found["auc"][index].ravel()[0] == pytest.approx((inside[:, None] > outside).mean())


def test_classes_that_cannot_be_told_apart_are_refused(random_trace):
    with pytest.raises(InvalidInput, match="reads no tokens"):
        analyse(random_trace, "selectivity")
    with pytest.raises(InvalidInput, match="nothing can be told apart"):
        analyse(random_trace, "selectivity", classes=[["a"] * 40, ["a"] * 25])


def test_units_that_do_the_same_stand_together():
    torch.manual_seed(1)
    module = nn.LSTM(1, 6)
    with torch.no_grad():
        for weight in module.parameters():
            rows = weight.view(4, 6, -1)
            rows[:, 3] = rows[:, 0]  # unit 3 does what unit 0 does
            rows[:, 5] = rows[:, 1]
        module.weight_hh_l0[:, :] = 0
    found = analyse(trace(module, torch.randn(80, 1)), "similarity")
    group, order = found["group"][0, 0], found["order"][0, 0]
    assert sorted(order) == list(range(6))
    assert group[0] == group[3]
    assert group[1] == group[5]
    r = np.abs(np.corrcoef(states(trace(module, torch.randn(80, 1)))[:, 0, 0].T))
    assert r[0, 3] == pytest.approx(1)


def test_similarity_of_chunks_is_that_of_the_whole(random_trace):
    analysis = analysis_named("similarity")
    statistic = analysis.statistic(Subject.of(random_trace).scope, read_parameters(analysis, {}))
    for start in range(0, 40, 9):
        stop = min(start + 9, 40)
        rows = [row for row, length in enumerate((40, 25)) if length > start]
        values = random_trace.cell_state[rows, :, :, start:stop]
        valid = ~values[:, 0, 0, :, 0].isnan()
        statistic.update(Chunk(rows, start, {"cell_state": values}, None if valid.all() else valid))
    found = statistic.finish().arrays
    whole = analyse(random_trace, "similarity")
    np.testing.assert_array_equal(found["group"], whole["group"])
