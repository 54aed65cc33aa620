"""`gradient_flow` and `memory`: what reaches back, and what is forgotten."""

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import Selection, analyse, trace


def jacobians(module, inputs, state_name):
    """∂h_T/∂(each state) by distance, through torch's own autograd over a loop of cells; (distance, unit, unit)."""
    kind = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}[type(module)]
    cell = kind(module.input_size, module.hidden_size).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in module.state_dict().items()})
    zeros = torch.zeros(1, module.hidden_size, dtype=torch.float64)
    state, kept = (zeros, zeros) if kind is nn.LSTMCell else zeros, []
    for x in inputs:
        state = cell(x[None], state)
        kept.append(state if isinstance(state, tuple) else (state,))
    index = {"hidden_state": 0, "cell_state": 1}[state_name]
    last = kept[-1][0][0]
    rows = []
    for states in reversed(kept):
        target = states[index]
        found = [torch.autograd.grad(unit, target, retain_graph=True, allow_unused=True)[0] for unit in last]
        rows.append(torch.stack([torch.zeros_like(target[0]) if each is None else each[0] for each in found]))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_norms_are_those_of_autograd(kind):
    torch.manual_seed(3)
    module = kind(2, 4).double()
    inputs = torch.randn(7, 2, dtype=torch.float64)
    found = analyse(trace(module, inputs), "gradient_flow")
    for name in [name for name in ("hidden_state", "cell_state") if name in found.arrays]:
        expected = np.linalg.norm(jacobians(module, inputs, name), axis=(1, 2)) / 2
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-6)
    assert ("cell_state" in found.arrays) == (kind is nn.LSTM)


def test_the_direct_path_is_the_product_of_the_gates():
    torch.manual_seed(3)
    traced = trace(nn.LSTM(2, 4, 2, bidirectional=True), torch.randn(6, 2))
    found = analyse(traced, "gradient_flow", time_step=4)
    gates = traced.forget_gate[0, 1, 0].double().numpy()
    expected = [np.sqrt((gates[4 - distance + 1 : 5].prod(0) ** 2).mean()) for distance in range(5)]
    np.testing.assert_allclose(found["direct_path"][1], expected, rtol=1e-6)


def test_an_open_forget_gate_carries_the_gradient():
    module = nn.LSTM(1, 3)
    with torch.no_grad():
        module.weight_hh_l0.zero_()
        module.bias_ih_l0[3:6] = 20
    found = analyse(trace(module, torch.randn(300, 1)), "gradient_flow")
    assert found["direct_path"][0, -1] == pytest.approx(1, abs=1e-3)
    assert found["elman_baseline"][0, -1] < 1e-20


def test_many_units_are_estimated():
    torch.manual_seed(0)
    module = nn.GRU(2, 80)
    inputs = torch.randn(5, 2)
    found = analyse(trace(module, inputs), "gradient_flow")
    exact = np.linalg.norm(jacobians(module.double(), inputs.double(), "hidden_state"), axis=(1, 2)) / 80**0.5
    np.testing.assert_allclose(found["hidden_state"][0], exact, rtol=0.1)
    assert "estimated" in found.notes[0]


def test_projected_and_reverse_directions_run():
    traced = trace(nn.LSTM(2, 5, 2, proj_size=3, bidirectional=True), torch.randn(6, 2))
    assert analyse(traced, "gradient_flow")["hidden_state"].shape == (2, 6)
    reverse = trace(traced.module, traced.inputs[0], selection=Selection(directions=("reverse",)))
    assert analyse(reverse, "gradient_flow", time_step=2)["hidden_state"].shape == (2, 4)


def test_distances_are_those_of_two_runs(module):
    torch.manual_seed(1)
    inputs = torch.randn(1, 20, 3)
    given = inputs if module.batch_first else inputs.transpose(0, 1)
    found = analyse(trace(module, given), "memory", changed_step=4)
    changed = inputs.clone()
    changed[0, 4] = inputs[0].mean(0)
    outputs = [
        module(each if module.batch_first else each.transpose(0, 1))[0].reshape(20, -1) for each in (inputs, changed)
    ]
    width = module.proj_size or module.hidden_size
    norms = (outputs[0] - outputs[1])[:, :width].norm(dim=-1).detach().numpy()
    np.testing.assert_allclose(found["distance"][1, 4:], norms[4:] / norms[4], atol=1e-4)
    assert (found["distance"][1, :4] == 0).all()
    assert found["distance"][0, 0] == 1


def test_a_leak_forgets_after_its_timescale():
    module = nn.LSTM(1, 1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        module.bias_ih_l0[1] = float(np.log(0.9 / 0.1))
        module.weight_ih_l0[2] = 1
    inputs = torch.zeros(100, 1)
    inputs[10] = 0.02  # tanh is linear there
    found = analyse(trace(module, inputs), "memory", changed_step=10)
    assert found["forgotten_after"][1] == np.ceil(np.log(0.01) / np.log(0.9))


def test_what_is_kept_to_the_end_is_not_forgotten():
    module = nn.LSTM(1, 2)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        module.bias_ih_l0[2:4] = 20
        module.weight_ih_l0[4:6] = 0.1
    found = analyse(trace(module, torch.randn(30, 1)), "memory")
    assert np.isnan(found["forgotten_after"]).all()
    assert "not forgotten" in found.notes[0]
