import pytest
import torch
from torch import nn

from gatescope import trace


@pytest.fixture
def make_trace():
    """Traces a random ragged batch of any module."""

    def make(module, lengths=(9, 4, 1), **options):
        generator = torch.Generator().manual_seed(3)
        inputs = [torch.randn(length, module.input_size, generator=generator) for length in lengths]
        return trace(module, inputs, **options)

    return make


@pytest.fixture(params=["lstm", "two directions", "projected", "gru", "rnn", "relu"])
def module(request):
    """A random module of each cell, of several layers and directions."""
    torch.manual_seed(5)
    return {
        "lstm": lambda: nn.LSTM(3, 5, 2),
        "two directions": lambda: nn.LSTM(3, 4, 2, bidirectional=True),
        "projected": lambda: nn.LSTM(3, 5, proj_size=2),
        "gru": lambda: nn.GRU(3, 5, 2, bidirectional=True, batch_first=True),
        "rnn": lambda: nn.RNN(3, 5, 2),
        "relu": lambda: nn.RNN(3, 5, nonlinearity="relu", bias=False),
    }[request.param]()
