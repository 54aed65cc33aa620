"""A recurrent network that tells at each symbol whether the string may end there, and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from studies.counting.tasks import SYMBOLS, Batch, Symbols, batch, brackets, counted

Cell = Literal["lstm", "gru"]
Language = Literal["counted", "brackets"]

DEEPEST = 10
"""No training string counts further."""

MODULES = {"lstm": nn.LSTM, "gru": nn.GRU}
STRINGS, RATE = 32, 1e-2


@dataclass(frozen=True)
class Settings:
    """What a run costs."""

    hidden: int = 4
    steps: int = 800


class Network(nn.Module):
    """One recurrent layer and a linear head."""

    def __init__(self, cell: Cell, hidden: int) -> None:
        super().__init__()
        self.recurrent: nn.LSTM | nn.GRU = MODULES[cell](SYMBOLS, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(string, step, symbol) -> (string, step) the score of "it may end here"."""
        return self.head(self.recurrent(inputs)[0])[..., 0]  # type: ignore[no-any-return]


def drawn(language: Language, generator: np.random.Generator, low: int, high: int) -> Symbols:
    """A random string that counts to a number between `low` and `high`."""
    if language == "counted":
        return counted(int(generator.integers(low, high + 1)))
    return brackets(generator, low, high)


def train(cell: Cell, language: Language, seed: int, settings: Settings) -> Network:
    """Adam on the cross entropy, summed over the steps of a string."""
    torch.manual_seed(seed)
    network, generator = Network(cell, settings.hidden), np.random.default_rng(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=settings.steps)
    for _ in range(settings.steps):
        given = batch([drawn(language, generator, 1, DEEPEST) for _ in range(STRINGS)])
        loss = _loss(network(given.inputs), given)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def _loss(scores: Tensor, given: Batch) -> Tensor:
    each = nn.functional.binary_cross_entropy_with_logits(scores, given.may_end.float(), reduction="none")
    return each[given.valid].sum() / len(scores)


def right(scores: Tensor, given: Batch) -> Tensor:
    """(string,) whether every step is told right: the criterion of Gers and Schmidhuber 2001."""
    return (((scores > 0) == given.may_end) | ~given.valid).all(dim=1)
