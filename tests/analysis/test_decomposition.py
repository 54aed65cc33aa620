import numpy as np
import pytest
import torch
from torch import nn

from gatescope import analyse, trace
from gatescope.errors import InvalidInput


def parts_of(gate, written, initial):
    """What is left of each step's writing after the last one, by a loop in float64: (time, unit), (unit,)."""
    left = []
    for f, w in zip(gate, written, strict=True):
        left = [f * each for each in left] + [w]
        initial = f * initial
    return np.array(left), initial


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_parts_are_those_of_a_loop(kind, direction):
    torch.manual_seed(1)
    module = kind(3, 4, 2, bidirectional=True)
    inputs = torch.randn(12, 3)
    state = [torch.randn(4, 4) for _ in range(2 if kind is nn.LSTM else 1)]
    traced = trace(module, inputs, initial_state=state)
    found = analyse(traced, "decomposition", layer=1, direction=direction, time_step=5)
    index = ["forward", "reverse"].index(direction)
    steps = range(6) if direction == "forward" else range(5, 12)
    signals = {name: values[0, 1, index].double().numpy() for name, values in traced.signals.items()}
    order = list(steps) if direction == "forward" else list(steps)[::-1]
    if kind is nn.LSTM:
        gate, written = signals["forget_gate"], signals["input_gate"] * signals["cell_candidate"]
    else:
        gate, written = signals["update_gate"], (1 - signals["update_gate"]) * signals["candidate"]
    expected, initial = parts_of(gate[order], written[order], state[-1][2 + index].double().numpy())
    expected = expected if direction == "forward" else expected[::-1]
    assert found.coordinates["time_step"] == list(steps)
    np.testing.assert_allclose(found["contribution"], expected.T, rtol=1e-9)
    np.testing.assert_allclose(found["initial"], initial, rtol=1e-9)
    np.testing.assert_allclose(found["contribution"].sum(1) + found["initial"], found["state"], atol=1e-5)
    assert found.check.kind == "residual"
    assert found.check.value < 1e-5


def test_a_long_sequence_does_not_underflow():
    torch.manual_seed(2)
    module = nn.LSTM(1, 3)
    with torch.no_grad():
        module.bias_ih_l0[3:6] = 12  # f is 0.99999: a memory of 80,000 steps
    found = analyse(trace(module, torch.randn(100_000, 1)), "decomposition")
    assert found.check.value < 1e-3 * np.abs(found["state"]).max()
    assert (np.abs(found["contribution"][:, :1000]).max(axis=1) > 1e-12).all()


def test_a_gate_that_shuts_forgets_all_before():
    module = nn.LSTM(1, 1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        module.weight_ih_l0[1] = 200  # f shuts where x is −1
        module.weight_ih_l0[2] = 1
    found = analyse(trace(module, torch.tensor([[1.0], [1.0], [-1.0], [1.0]])), "decomposition")
    assert found["contribution"][0, :2].tolist() == pytest.approx([0, 0], abs=1e-30)
    assert found["contribution"][0, 2:] == pytest.approx([-0.3808, 0.3808], abs=1e-3)


def test_an_integrator_with_a_leak_keeps_powers_of_it():
    module = nn.LSTM(1, 1)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        module.bias_ih_l0[1] = float(np.log(0.9 / 0.1))
        module.weight_ih_l0[2] = 1
    found = analyse(trace(module, torch.ones(8, 1)), "decomposition")
    np.testing.assert_allclose(found["contribution"][0], 0.5 * np.tanh(1) * 0.9 ** np.arange(7, -1, -1), rtol=1e-5)


def test_what_it_cannot_look_at_is_refused():
    traced = trace(nn.LSTM(1, 2), [torch.zeros(3, 1), torch.zeros(2, 1)])
    with pytest.raises(InvalidInput, match="there are 2 sequences, and this analysis looks at one"):
        analyse(traced, "decomposition")
    with pytest.raises(InvalidInput, match="there is no layer 1; there are 0 to 0"):
        analyse(traced, "decomposition", sequence=0, layer=1)
    with pytest.raises(InvalidInput, match="there is no 'reverse'"):
        analyse(traced, "decomposition", sequence=0, direction="reverse")
    with pytest.raises(InvalidInput, match="the sequence has 0 to 1"):
        analyse(traced, "decomposition", sequence=1, time_step=2)
