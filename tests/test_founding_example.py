"""The article that the project starts from: `nn.LSTM(5, 6, 2)`, one step, a batch of three."""

import pytest
import torch

from gatescope.backends import reference
from gatescope.state import State
from gatescope.tracing import trace

HN = torch.tensor(
    [
        [
            [0.4647, -0.2364, 0.0645, -0.3996, -0.0500, -0.0152],
            [0.3852, 0.0704, 0.2103, -0.2524, 0.0243, 0.0477],
            [0.2571, 0.0608, 0.2322, 0.1815, -0.0513, -0.0291],
        ],
        [
            [0.0447, -0.0335, 0.1454, 0.0438, 0.0865, 0.0416],
            [0.0105, 0.1923, 0.5507, -0.1742, 0.1569, -0.0548],
            [-0.1186, 0.1835, -0.0022, -0.1388, -0.0877, -0.4007],
        ],
    ],
    dtype=torch.float64,
)
CN = torch.tensor(
    [
        [
            [0.8083, -0.5500, 0.1009, -0.5806, -0.0668, -0.1161],
            [0.7438, 0.0957, 0.5509, -0.7725, 0.0824, 0.0626],
            [0.3131, 0.0920, 0.8359, 0.9187, -0.4826, -0.0717],
        ],
        [
            [0.1240, -0.0526, 0.3035, 0.1099, 0.5915, 0.0828],
            [0.0203, 0.8367, 0.9832, -0.4454, 0.3917, -0.1983],
            [-0.2976, 0.7764, -0.0074, -0.1965, -0.1343, -0.6683],
        ],
    ],
    dtype=torch.float64,
)
OUTPUT = torch.tensor(
    [
        [
            [0.0447, -0.0335, 0.1454, 0.0438, 0.0865, 0.0416],
            [0.0105, 0.1923, 0.5507, -0.1742, 0.1569, -0.0548],
            [-0.1186, 0.1835, -0.0022, -0.1388, -0.0877, -0.4007],
        ]
    ],
    dtype=torch.float64,
)
ROUNDING = 5e-5  # the listing has four digits


@pytest.fixture
def example(seeded_lstm, random):
    """The module, its input (1, 3, 5), h0 and c0 (2, 3, 6)."""
    shapes = ((1, 3, 5), (2, 3, 6), (2, 3, 6))
    return seeded_lstm(5, 6, 2), *(torch.randn(shape, generator=random) for shape in shapes)


def test_the_trace_equals_torch_in_the_articles_shapes(example):
    rnn, inputs, h0, c0 = example
    output, (hn, cn) = rnn(inputs, (h0, c0))
    traced = trace(rnn, inputs, initial_state=(h0, c0))
    mine = traced.output.transpose(0, 1)
    assert mine.shape == output.shape == (1, 3, 6)
    assert traced.final_state.hidden_state.shape == traced.final_state.cell_state.shape == (2, 3, 6)
    torch.testing.assert_close(mine, output, rtol=0, atol=1e-5)
    torch.testing.assert_close(traced.final_state.hidden_state, hn, rtol=0, atol=1e-5)
    torch.testing.assert_close(traced.final_state.cell_state, cn, rtol=0, atol=1e-5)


def test_the_output_gate_follows_from_the_states(example):
    rnn, inputs, h0, c0 = example
    _, (hn, cn) = rnn(inputs, (h0, c0))
    traced = trace(rnn, inputs, initial_state=(h0, c0))
    read_back = (hn / cn.tanh()).transpose(0, 1)  # (batch, layer, unit)
    torch.testing.assert_close(traced.output_gate[:, :, 0, 0], read_back, rtol=0, atol=1e-5)


def test_the_equations_equal_torch_in_the_example(example):
    rnn, inputs, h0, c0 = example
    output, _ = rnn(inputs, (h0, c0))
    for row in range(3):
        state = State(h0[:, row : row + 1].double(), c0[:, row : row + 1].double())
        alone = reference.run(rnn, inputs[:, row].double(), state)
        torch.testing.assert_close(alone["output"], output[:, row].double(), rtol=0, atol=1e-5)


def test_the_articles_output_is_the_last_layers_hidden_state():
    assert OUTPUT.shape == (1, 3, 6)
    assert HN.shape == CN.shape == (2, 3, 6)
    assert torch.equal(OUTPUT[0], HN[1])


def test_every_output_gate_of_the_article_lies_between_zero_and_one():
    gate = HN / CN.tanh()
    assert bool((gate > 0).all())
    assert bool((gate < 1).all())
    # and rounding cannot be the reason: so it is for every value that is printed like this
    least = (HN.abs() - ROUNDING) / (CN.abs() + ROUNDING).tanh()
    most = (HN.abs() + ROUNDING) / (CN.abs() - ROUNDING).tanh()
    assert bool((least > 0).all())
    assert bool((most < 1).all())
    assert torch.equal(HN.sign(), CN.sign())
