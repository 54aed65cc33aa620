"""The networks that every server serves: plain torch, for the peers' environments hold nothing of this project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Sizes(NamedTuple):
    """An `nn.LSTM`, and how long its sequences are."""

    input_size: int
    hidden_size: int
    num_layers: int
    steps: int


NETWORKS = {"small": Sizes(16, 64, 1, 50), "larger": Sizes(32, 128, 2, 100), "wide": Sizes(64, 512, 2, 100)}


class Network(nn.Module):
    """One number from a sequence: `nn.LSTM`, and a linear layer on its last step."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.lstm = nn.LSTM(sizes.input_size, sizes.hidden_size, sizes.num_layers, batch_first=True)
        self.head = nn.Sequential(nn.Linear(sizes.hidden_size, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, time, feature) -> (batch, 1)."""
        output, _ = self.lstm(inputs)
        last: Tensor = self.head(output[:, -1])
        return last


def served() -> tuple[str, Network]:
    """What a peer's server serves: the network that its environment names, and that network's weights."""
    name = os.environ["NETWORK"]
    return name, read(Path(os.environ["WEIGHTS"]) / name, name)


def read(folder: Path, name: str) -> Network:
    """A network with the weights in this folder."""
    network = Network(NETWORKS[name])
    network.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    return network.eval()
