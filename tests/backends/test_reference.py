import itertools
import math

import pytest
import torch
from torch import nn

from gatescope.backends import reference
from gatescope.cells import LSTM
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.weights import Weights

GRID = list(itertools.product((1, 2, 3), (False, True), (False, True), (0, 3), (False, True)))


@pytest.mark.parametrize(("num_layers", "bidirectional", "bias", "proj_size", "given_state"), GRID)
def test_the_equations_equal_torch_in_float64(
    seeded_lstm, random, num_layers, bidirectional, bias, proj_size, given_state
):
    module = seeded_lstm(3, 5, num_layers, bias=bias, bidirectional=bidirectional, proj_size=proj_size).double()
    sequence = torch.randn(7, 3, generator=random, dtype=torch.float64)
    shapes = Spec.from_module(module).state_shapes(1)
    h0, c0 = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes.values())
    state = State(h0, c0) if given_state else None
    output, (hn, cn) = module(sequence[:, None], (h0, c0) if given_state else None)

    signals = reference.run(module, sequence, state)

    torch.testing.assert_close(signals["output"], output[:, 0], rtol=0, atol=1e-13)
    last = torch.stack([signals["hidden_state"][:, 0, -1], signals["hidden_state"][:, -1, 0]], dim=1)
    cells = torch.stack([signals["cell_state"][:, 0, -1], signals["cell_state"][:, -1, 0]], dim=1)
    directions = 2 if bidirectional else 1
    torch.testing.assert_close(last[:, :directions].flatten(0, 1), hn[:, 0], rtol=0, atol=1e-13)
    torch.testing.assert_close(cells[:, :directions].flatten(0, 1), cn[:, 0], rtol=0, atol=1e-13)


def test_every_state_equals_torchs_after_that_step(seeded_lstm, random):
    module = seeded_lstm(3, 5, 2).double()
    sequence = torch.randn(6, 3, generator=random, dtype=torch.float64)
    signals = reference.run(module, sequence)
    for t in range(6):
        _, (hn, cn) = module(sequence[: t + 1, None])
        torch.testing.assert_close(signals["cell_state"][:, 0, t], cn[:, 0], rtol=0, atol=1e-13)
        torch.testing.assert_close(signals["hidden_state"][:, 0, t], hn[:, 0], rtol=0, atol=1e-13)


def test_one_step_equals_a_calculation_by_hand():
    weights = Weights(
        weight_ih=torch.tensor([[0.1], [0.2], [0.3], [0.4]], dtype=torch.float64),
        weight_hh=torch.tensor([[-0.5], [0.6], [-0.7], [0.8]], dtype=torch.float64),
        bias_ih=torch.tensor([0.01, 0.02, 0.03, 0.04], dtype=torch.float64),
        bias_hh=torch.tensor([0.1, -0.1, 0.2, -0.2], dtype=torch.float64),
        weight_hr=None,
    )
    x, h, c = 1.5, -0.4, 0.9
    x_t, h_t, c_t = (torch.tensor([[value]], dtype=torch.float64) for value in (x, h, c))
    step = LSTM.step(x_t, (h_t, c_t), weights)

    i = 1 / (1 + math.exp(-(0.1 * x - 0.5 * h + 0.11)))
    f = 1 / (1 + math.exp(-(0.2 * x + 0.6 * h - 0.08)))
    g = math.tanh(0.3 * x - 0.7 * h + 0.23)
    o = 1 / (1 + math.exp(-(0.4 * x + 0.8 * h - 0.16)))
    after = f * c + i * g
    expected = (i, f, g, o, after, o * math.tanh(after))
    assert list(step) == list(LSTM.signal_names)
    assert [signal.item() for signal in step.values()] == pytest.approx(expected, abs=1e-15)


def test_weights_take_the_precision_of_the_sequence(seeded_lstm, random):
    module = seeded_lstm(3, 5)
    sequence = torch.randn(6, 3, generator=random, dtype=torch.float64)
    signals = reference.run(module, sequence)
    double = nn.LSTM(3, 5).double()
    double.load_state_dict(module.state_dict())
    assert {value.dtype for value in signals.values()} == {torch.float64}
    assert module.weight_ih_l0.dtype == torch.float32
    torch.testing.assert_close(signals["output"], double(sequence[:, None])[0][:, 0], rtol=0, atol=1e-13)
