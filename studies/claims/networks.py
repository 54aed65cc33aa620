"""The networks that are compared: one recurrent layer and a linear head."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

OPEN_BIAS = 3.0
"""Of an open forget gate, which then begins at σ(3) = 0.95."""

Make = Callable[..., nn.RNNBase]
Start = Callable[[nn.RNNBase], None]


class Kind(NamedTuple):
    """A recurrent module and how its weights begin."""

    name: str
    title: str
    module: Make
    start: Start | None = None  # None: as PyTorch does
    is_wide: bool = False  # as many parameters as the LSTM of the others' size


class Network(nn.Module):
    """A recurrent layer, and a linear head at every step."""

    def __init__(self, recurrent: nn.RNNBase, outputs: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.hidden_size, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (batch, time, feature) to outputs (batch, time, output)."""
        output: Tensor = self.head(self.recurrent(inputs)[0])
        return output


def build(kind: Kind, inputs: int, outputs: int, units: int, seed: int) -> Network:
    """The network with its first weights."""
    torch.manual_seed(seed)
    size = units_like_lstm(nn.RNN, inputs, units) if kind.is_wide else units
    recurrent = kind.module(inputs, size, batch_first=True)
    if kind.start:
        with torch.no_grad():
            kind.start(recurrent)
    return Network(recurrent, outputs)


def parameters_of(module: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def units_like_lstm(module: Make, inputs: int, units: int) -> int:
    """The hidden size at which a module has about as many parameters as an LSTM of `units`.

    With g gates it has g·(n² + n·inputs + 2·n) parameters.
    """
    gates = parameters_of(module(1, 1)) // 4
    wanted, linear = 4 / gates * units * (units + inputs + 2), inputs + 2
    return round((math.sqrt(linear**2 + 4 * wanted) - linear) / 2)


def _orthogonal(module: nn.RNNBase) -> None:
    """Recurrent weights that keep every norm, and no biases (Saxe, McClelland, Ganguli: arXiv:1312.6120)."""
    weights = dict(module.named_parameters())
    nn.init.orthogonal_(weights["weight_hh_l0"])
    nn.init.zeros_(weights["bias_ih_l0"])
    nn.init.zeros_(weights["bias_hh_l0"])


def _open(module: nn.RNNBase) -> None:
    """Forget gates that begin nearly open (Gers, Schmidhuber, Cummins 2000)."""
    weights, forget = dict(module.named_parameters()), slice(module.hidden_size, 2 * module.hidden_size)
    weights["bias_ih_l0"][forget] = OPEN_BIAS
    weights["bias_hh_l0"][forget] = 0


RNN = Kind("rnn", "RNN", nn.RNN)
RNN_WIDE = Kind("rnn_wide", "RNN, wide", nn.RNN, is_wide=True)
RNN_ORTHOGONAL = Kind("rnn_orthogonal", "RNN, orthogonal", nn.RNN, _orthogonal)
GRU = Kind("gru", "GRU", nn.GRU)
LSTM = Kind("lstm", "LSTM", nn.LSTM)
LSTM_OPEN = Kind("lstm_open", "LSTM, open", nn.LSTM, _open)
KINDS = {kind.name: kind for kind in (RNN, RNN_WIDE, RNN_ORTHOGONAL, GRU, LSTM, LSTM_OPEN)}
UNGATED = {kind.name: kind for kind in (RNN, RNN_WIDE, RNN_ORTHOGONAL)}
