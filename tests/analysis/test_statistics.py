"""Saturation, timescales and variance against NumPy in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import Selection, analyse, trace
from gatescope.analysis.registry import analysis_named, read_parameters
from gatescope.analysis.subject import Chunk, Subject

STATISTICS = ("saturation", "timescales", "variance")


def steps_of(trace, name):
    """All valid steps of a signal, (step, layer, direction, unit) in float64."""
    rows = trace.signals[name].double().numpy()
    lengths = trace.sequence_lengths.tolist()
    return np.concatenate([np.moveaxis(row[:, :, :length], 2, 0) for row, length in zip(rows, lengths, strict=True)])


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


def test_saturation_leaves_out_what_has_no_bounds(make_trace):
    projected = analyse(make_trace(nn.LSTM(3, 5, proj_size=2)), "saturation")
    assert "hidden_state" not in projected.coordinates["signal"]
    assert projected.notes == ["hidden_state is left out: a projected state has no bounds"]
    assert analyse(make_trace(nn.RNN(3, 5, nonlinearity="relu")), "saturation").coordinates["signal"] == []


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


def test_variance_of_a_far_mean_keeps_its_digits():
    statistic = analysis_named("variance").statistic
    module = nn.LSTM(1, 1)
    trace_values = 1e4 + torch.randn(40, dtype=torch.float64).float()
    subject = Subject.of(trace(module, torch.zeros(2, 1)))
    found = statistic(subject.scope, None)
    for start in range(0, 40, 7):
        part = trace_values[start : start + 7].view(1, 1, 1, -1, 1)
        found.update(Chunk([0], start, {"cell_state": part}, None))
    expected = trace_values.double().numpy().var()
    assert found.finish().arrays["variance"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", STATISTICS)
def test_chunks_give_what_the_whole_gives(name, make_trace):
    trace = make_trace(nn.LSTM(3, 5, 2), lengths=(11, 4))
    whole, analysis = analyse(trace, name), analysis_named(name)
    subject = Subject.of(trace)
    statistic = analysis.statistic(subject.scope, read_parameters(analysis, {}))
    for start, rows in ((0, [0, 1]), (3, [0, 1]), (6, [0])):
        stop = {0: 3, 3: 6, 6: 11}[start]
        signals = {
            each: trace.signals[each][rows, :, :, start:stop] for each in analysis.statistic.signals(trace.spec.cell)
        }
        valid = ~next(iter(signals.values()))[:, 0, 0, :, 0].isnan()
        statistic.update(Chunk(rows, start, signals, None if valid.all() else valid))
    for each, values in statistic.finish().arrays.items():
        np.testing.assert_allclose(values, whole[each], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_selection_gives_a_part_of_the_whole(name, make_trace):
    module = nn.LSTM(3, 5, 2, bidirectional=True)
    part = make_trace(module, selection=Selection(layers=(1,), directions=("reverse",), units=(3, 0)))
    found, whole = analyse(part, name), analyse(make_trace(module), name)
    assert found.coordinates["unit"] == [3, 0]
    for each in found.arrays:
        np.testing.assert_allclose(found[each], whole[each][..., 1:, 1:, [3, 0]], rtol=1e-5)
