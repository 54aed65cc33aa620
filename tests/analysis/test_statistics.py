"""Saturation, timescales and variance against NumPy in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import Selection, analyse, trace
from gatescope.analysis import subject as subjects
from gatescope.analysis.registry import analysis_named, read_parameters
from gatescope.analysis.subject import Chunk, Subject

STATISTICS = ("saturation", "timescales", "variance")
LSTM_SIGNALS = ("input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state")


def steps_of(trace, name):
    """All valid steps of a signal, (step, layer, direction, unit) in float64."""
    rows = trace.signals[name].double().numpy()
    lengths = trace.sequence_lengths.tolist()
    return np.concatenate([np.moveaxis(row[:, :, :length], 2, 0) for row, length in zip(rows, lengths, strict=True)])


def found_in(name, subject, chunks, **parameters):
    """The arrays of a statistic over these chunks."""
    analysis = analysis_named(name)
    statistic = analysis.statistic(subject.scope, read_parameters(analysis, parameters))
    for chunk in chunks:
        statistic.update(chunk)
    return statistic.finish().arrays


def chunks_of_one_unit(values, *ends):
    """Chunks up to these steps of one sequence of an LSTM of one unit; every signal has these values."""
    parts = torch.tensor_split(values.view(1, 1, 1, -1, 1), ends, dim=3)
    return [
        Chunk([0], start, dict.fromkeys(LSTM_SIGNALS, part), None)
        for start, part in zip((0, *ends), parts, strict=True)
    ]


@pytest.fixture
def one_unit():
    return Subject.of(trace(nn.LSTM(1, 1), torch.zeros(2, 1)))


def test_saturation_is_the_share_of_steps(module, make_trace):
    trace = make_trace(module)
    found = analyse(trace, "saturation", left=0.45, right=0.55)
    counted = found.coordinates["signal"]
    for index, name in enumerate(counted):
        values = steps_of(trace, name)
        values = np.tanh(values) if name == "cell_state" else values
        if name.endswith("_gate"):
            np.testing.assert_allclose(found["left"][index], (values < 0.45).mean(axis=0))
            np.testing.assert_allclose(found["right"][index], (values > 0.55).mean(axis=0))
        else:
            assert np.isnan(found["left"][index]).all()
            np.testing.assert_allclose(found["right"][index], (np.abs(values) > 0.55).mean(axis=0))


@pytest.mark.parametrize("right", [0.3, 0.55, 0.9, 0.999])
def test_saturation_of_cell_states_is_exact_at_the_edge(right, one_unit):
    edge = np.arctanh(right).astype(np.float32)
    steps = (edge.view(np.int32) + np.delete(np.arange(-400, 400), 400)).astype(np.int32).view(np.float32)
    values = np.concatenate([steps, -steps])  # the 799 nearest numbers in float32, but for the edge itself
    found = found_in("saturation", one_unit, chunks_of_one_unit(torch.from_numpy(values)), right=right)
    assert found["right"][4].item() == (np.abs(np.tanh(values.astype(np.float64))) > right).mean()


def test_nothing_is_beyond_a_bound_of_one(one_unit):
    chunks = chunks_of_one_unit(torch.tensor([-100.0, 0, 1, 100]))
    assert found_in("saturation", one_unit, chunks, right=1)["right"][4].item() == 0
    assert found_in("saturation", one_unit, chunks, right=0)["right"][4].item() == 0.75


def test_saturation_leaves_out_what_has_no_bounds(make_trace):
    projected = analyse(make_trace(nn.LSTM(3, 5, proj_size=2)), "saturation")
    assert "hidden_state" not in projected.coordinates["signal"]
    assert projected.notes == ["hidden_state is left out: a projected state has no bounds"]
    for lengths in ((9, 4), (9,)):
        plain = make_trace(nn.RNN(3, 5, nonlinearity="relu"), lengths)
        assert analyse(plain, "saturation").coordinates["signal"] == []


def test_timescale_is_of_the_geometric_mean(make_trace):
    for module, gate in ((nn.LSTM(3, 5, 2, bidirectional=True), "forget_gate"), (nn.GRU(3, 5), "update_gate")):
        trace = make_trace(module)
        mean = np.exp(np.log(steps_of(trace, gate)).mean(axis=0))
        found = analyse(trace, "timescales")
        np.testing.assert_allclose(found["timescale"], -1 / np.log(mean), rtol=1e-6)
        np.testing.assert_allclose(mean ** found["half_life"], 0.5, rtol=1e-6)


def test_timescale_of_the_bias_needs_no_sequence(make_trace):
    module = nn.LSTM(3, 2, 2)
    with torch.no_grad():
        module.bias_ih_l1[2:4] = torch.tensor([1.0, 3.0])
        module.bias_hh_l1[2:4] = torch.tensor([0.5, -1.0])
    found = analyse(make_trace(module), "timescales")
    gates = 1 / (1 + np.exp(-np.array([1.5, 2.0])))
    np.testing.assert_allclose(found["from_bias"][1, 0], -1 / np.log(gates), rtol=1e-6)
    without = analyse(make_trace(nn.LSTM(3, 2, bias=False)), "timescales")
    np.testing.assert_allclose(without["from_bias"], 1 / np.log(2), rtol=1e-6)


def test_timescale_of_a_leak_is_the_leak(make_trace):
    module = nn.LSTM(1, 1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        module.bias_ih_l0[1] = np.log(0.8 / 0.2)  # f = 0.8 at every step
    found = analyse(make_trace(module, lengths=[50]), "timescales")
    assert found["timescale"].item() == pytest.approx(-1 / np.log(0.8), rel=1e-6)


def test_a_gate_that_never_shuts_has_an_infinite_timescale(make_trace):
    module = nn.LSTM(1, 1)
    with torch.no_grad():
        module.bias_ih_l0[1] = 100
    found = analyse(make_trace(module), "timescales")
    assert np.isinf(found["timescale"]).all()
    assert "infinite" in found.notes[0]


def test_variance_is_that_of_all_steps(module, make_trace):
    trace = make_trace(module)
    found = analyse(trace, "variance")
    for index, name in enumerate(found.coordinates["signal"]):
        expected = steps_of(trace, name).var(axis=0)
        width = expected.shape[-1]
        np.testing.assert_allclose(found["variance"][index, :, :, :width], expected, rtol=1e-5, atol=1e-12)
        assert np.isnan(found["variance"][index, :, :, width:]).all()


@pytest.mark.parametrize(("mean", "deviation"), [(1e4, 1), (-3, 1e-5), (1e6, 0.5), (0, 1e-18), (0.2, 0)])
def test_variance_of_a_far_mean_keeps_its_digits(mean, deviation, one_unit):
    generator = torch.Generator().manual_seed(0)
    values = (mean + deviation * torch.randn(5000, dtype=torch.float64, generator=generator)).float()
    found = found_in("variance", one_unit, chunks_of_one_unit(values, 1, 8, 4000))
    assert found["variance"][4].item() == pytest.approx(values.double().numpy().var(), rel=1e-5, abs=0)


def test_variance_of_a_drift_is_that_of_all_steps(one_unit):
    values = torch.linspace(0, 1000, 5000) + torch.rand(5000)
    values[:700] = 1e-3
    found = found_in("variance", one_unit, chunks_of_one_unit(values, 700, 701, 4000))
    assert found["variance"][4].item() == pytest.approx(values.double().numpy().var(), rel=1e-5)


def test_what_is_no_number_is_not_left_out():
    traced = trace(nn.LSTM(1, 2), torch.tensor([[1.0], [torch.nan], [1.0]]))
    assert np.isnan(analyse(traced, "variance")["variance"]).all()
    assert np.isnan(analyse(traced, "timescales")["timescale"]).all()


@pytest.mark.parametrize("name", STATISTICS)
def test_chunks_give_what_the_whole_gives(name, make_trace):
    trace = make_trace(nn.LSTM(3, 5, 2), lengths=(11, 4))
    whole, chunks = analyse(trace, name), []
    for start, rows in ((0, [0, 1]), (3, [0, 1]), (6, [0])):
        stop = {0: 3, 3: 6, 6: 11}[start]
        signals = {each: values[rows, :, :, start:stop] for each, values in trace.signals.items()}
        valid = ~trace.cell_state[rows, 0, 0, start:stop, 0].isnan()
        chunks.append(Chunk(rows, start, signals, None if valid.all() else valid))
    for each, values in found_in(name, Subject.of(trace), chunks).items():
        np.testing.assert_allclose(values, whole[each], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_signals_side_by_side_are_read_as_those_apart(name):
    for lengths in ([50, 50], [50, 20], [1]):
        traced = trace(nn.LSTM(2, 4), [torch.randn(length, 2) for length in lengths])
        (chunk,) = Subject.of(traced).chunks(tuple(traced.signals))
        apart = {each: values.contiguous().clone() for each, values in chunk.signals.items()}
        found = found_in(name, Subject.of(traced), [chunk])
        for each, values in found_in(name, Subject.of(traced), [replace(chunk, signals=apart)]).items():
            np.testing.assert_array_equal(found[each], values)


@pytest.mark.parametrize("floats", [1, 300])
@pytest.mark.parametrize("name", [*STATISTICS, "similarity"])
def test_blocks_of_any_size_give_the_same(name, floats, make_trace, monkeypatch):
    trace = make_trace(nn.LSTM(3, 5, 2, bidirectional=True, proj_size=2), lengths=(11, 4))
    whole = analyse(trace, name)
    monkeypatch.setattr(subjects, "BLOCK_FLOATS", floats)
    found = analyse(trace, name)
    for each in whole.arrays:
        np.testing.assert_allclose(found[each], whole[each], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_statistics_of_other_types_are_right(dtype, make_trace):
    trace = make_trace(nn.LSTM(3, 5).to(dtype), [400, 300])
    expected = steps_of(trace, "cell_state").var(axis=0)
    np.testing.assert_allclose(analyse(trace, "variance")["variance"][4], expected, rtol=1e-5)
    counted = (np.abs(np.tanh(steps_of(trace, "cell_state"))) > 0.1).mean(axis=0)
    np.testing.assert_allclose(analyse(trace, "saturation", right=0.1)["right"][4], counted, rtol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_selection_gives_a_part_of_the_whole(name, make_trace):
    module = nn.LSTM(3, 5, 2, bidirectional=True)
    part = make_trace(module, selection=Selection(layers=(1,), directions=("reverse",), units=(3, 0)))
    found, whole = analyse(part, name), analyse(make_trace(module), name)
    assert found.coordinates["unit"] == [3, 0]
    for each in found.arrays:
        np.testing.assert_allclose(found[each], whole[each][..., 1:, 1:, [3, 0]], rtol=1e-5)
