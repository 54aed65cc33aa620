"""An LSTM that makes discharge of weather, and its training."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from studies.snow.data import WEATHER, Basin, Floats

FORGET_BIAS = 3.0  # the forget gates start open
WINDOW, WARM_UP = 730, 365  # days of a training sequence, and those of them that the loss leaves out
BATCH, RATE, DECAY = 8, 1e-2, 0.05
NOISE, DROPOUT = 0.1, 0.4  # on the scaled weather; of the LSTM's output, while it is trained


@dataclass(frozen=True)
class Settings:
    """What a run costs."""

    hidden: int = 32
    steps: int = 240


class Network(nn.Module):
    """One LSTM and a linear head."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(WEATHER), hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)
        with torch.no_grad():
            self.lstm.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = FORGET_BIAS
            self.lstm.get_parameter("bias_hh_l0")[hidden : 2 * hidden] = 0.0

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, day, 3) -> (batch, day) discharge in deviations of the training years."""
        output, _ = self.lstm(inputs)
        return self.head(nn.functional.dropout(output, DROPOUT, self.training))[..., 0]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Scale:
    """Of the discharge in the training years."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, basin: Basin) -> Scale:
        """Over the days that were measured."""
        known = basin.discharge[basin.trained]
        return cls(float(np.nanmean(known)), float(np.nanstd(known)))

    def discharge(self, network: Network, output: Tensor) -> Floats:
        """(…, day, unit) of the LSTM -> (…, day) mm per day, not below zero."""
        with torch.no_grad():
            scaled = network.head(output)[..., 0].double().numpy()
        return np.asarray(np.maximum(scaled * self.deviation + self.mean, 0))


def train(basin: Basin, seed: int, settings: Settings) -> tuple[Network, Network]:
    """The untrained network of this seed, and the same one trained on random two-year stretches."""
    torch.manual_seed(seed)
    untrained = Network(settings.hidden)
    network = copy.deepcopy(untrained)
    last = np.flatnonzero(basin.trained)[-1] + 1
    inputs, scale = torch.tensor(basin.scaled[:last], dtype=torch.float32), Scale.of(basin)
    target = torch.tensor((basin.discharge[:last] - scale.mean) / scale.deviation, dtype=torch.float32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=settings.steps, pct_start=0.1)
    for _ in range(settings.steps):
        starts = torch.randint(0, last - WINDOW + 1, (BATCH,)).tolist()
        given = torch.stack([inputs[start : start + WINDOW] for start in starts])
        measured = torch.stack([target[start + WARM_UP : start + WINDOW] for start in starts])
        predicted = network(given + NOISE * torch.randn_like(given))[:, WARM_UP:]
        loss = (predicted - measured).square().nanmean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return untrained.eval(), network.eval()
