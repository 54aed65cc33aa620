"""The founding article's example over HTTP: nn.LSTM(5, 6, 2), input (1, 3, 5), h0 and c0 (2, 3, 6)."""

import numpy as np
import pytest
import torch

from gatescope.backends.reference import run
from gatescope.cells import LSTM
from gatescope.state import State


@pytest.fixture(scope="module")
def example():
    torch.manual_seed(5)
    return torch.randn(1, 3, 5), torch.randn(2, 3, 6), torch.randn(2, 3, 6)


@pytest.fixture(scope="module")
def body(example):
    inputs, h0, c0 = (value.tolist() for value in example)
    return {
        "inputs": inputs,
        "layout": "time_batch_feature",
        "initial_state": {"hidden_state": h0, "cell_state": c0},
        "outputs": ["output", "final_state"],
    }


def test_output_and_states_are_what_torch_computes(call, networks, example, body):
    inputs, h0, c0 = example
    with torch.no_grad():
        output, (hn, cn) = networks["founding"].lstm(inputs, (h0, c0))
    reply = call("founding/predict", body)
    assert np.shape(reply.output) == (3, 1, 6)  # batch first, as every reply
    np.testing.assert_allclose(reply.output, output.transpose(0, 1), atol=1e-5)
    np.testing.assert_allclose(reply.final_state["hidden_state"], hn, atol=1e-5)
    np.testing.assert_allclose(reply.final_state["cell_state"], cn, atol=1e-5)
    np.testing.assert_allclose(np.array(reply.output)[:, 0], reply.final_state["hidden_state"][1], atol=1e-7)


def test_every_signal_is_what_the_equations_give_in_float64(call, networks, example, body):
    inputs, h0, c0 = (value.double() for value in example)
    reply = call("founding/trace", body)
    for row in range(3):
        oracle = run(networks["founding"].lstm, inputs[:, row], State(h0[:, row : row + 1], c0[:, row : row + 1]))
        for signal in LSTM.signal_names:
            np.testing.assert_allclose(reply.signals[signal][row], oracle[signal], atol=1e-5)
    assert reply.residual < 1e-6
    assert (reply.axes, reply.layers, reply.directions, reply.units) == (
        ["batch", "layer", "direction", "time", "unit"],
        [0, 1],
        ["forward"],
        [0, 1, 2, 3, 4, 5],
    )
    np.testing.assert_allclose(reply.initial_state["cell_state"], c0, atol=1e-6)
