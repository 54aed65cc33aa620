"""Networks with the same typical weights and nothing learned: the control of what a network does without a series.

Of each gate's block of each matrix and bias, outliers are drawn in to `SPREADS` robust deviations around the median,
and what is left is shuffled. Of a network whose weights are random the result is another one from the same
distribution; of a trained one it has the usual size of weights and biases, and no structure.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gatescope.analysis.subject import Subject

NETWORKS = 40
MOST_STEPS = 4_000
SPREADS = 3.0
FEW = 8
"""The spread of so few numbers, or fewer, is not known well: outliers must lie further out."""

FEWEST = 4
"""A block with fewer numbers says nothing about the usual ones: it is drawn as PyTorch draws it."""

_TO_DEVIATION = 1.4826  # of the median absolute deviation of normal numbers
_EULER = 0.5772156649


def redrawn(module: nn.RNNBase, seed: int) -> nn.RNNBase:
    """A network with the same typical weights in no order."""
    made, generator = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    size = made.hidden_size
    with torch.no_grad():
        for parameter in made.parameters():
            blocks = torch.split(parameter, size) if len(parameter) % size == 0 else (parameter,)
            for block in blocks:
                block.copy_(_shuffled(block.detach().cpu(), size, generator).to(block))
    return made


def _shuffled(block: Tensor, size: int, generator: torch.Generator) -> Tensor:
    flat = block.flatten()
    if len(flat) < FEWEST:
        return (torch.rand(block.shape, generator=generator) * 2 - 1) / math.sqrt(size)
    middle = flat.median()
    spread = _TO_DEVIATION * (flat - middle).abs().median()
    reach = SPREADS * spread * (1 + FEW / len(flat))
    clipped = flat.clamp(middle - reach, middle + reach)
    return clipped[torch.randperm(len(flat), generator=generator)].view(block.shape)


def subjects(subject: Subject) -> Iterator[Subject]:
    """The same sequences through such networks."""
    for seed in subject.parts(range(NETWORKS)):
        yield replace(subject, module=redrawn(subject.module, seed), known=None, head=None)


def shortened(subject: Subject) -> Subject:
    """The same with no more than `MOST_STEPS` steps: fewer sequences, then shorter ones."""
    batch, time, _ = subject.inputs.shape
    if batch * time <= MOST_STEPS:
        return subject
    rows = max(1, min(batch, MOST_STEPS // min(time, MOST_STEPS)))
    steps = min(time, MOST_STEPS)
    return replace(
        subject,
        inputs=subject.inputs[:rows, :steps],
        sequence_lengths=subject.sequence_lengths[:rows].clamp(max=steps),
        initial_state=type(subject.initial_state)(*(state[:, :rows] for state in subject.initial_state)),
        head=None,
        tokens=None if subject.tokens is None else [row[:steps] for row in subject.tokens[:rows]],
        known=None,
    )


class Largest:
    """How often the largest value of any unit of such networks exceeds a value: Gumbel's distribution of maxima.

    Args:
        values: the largest of each network.
        least: the smallest scale of the distribution, so that networks that all do the same are not a proof.
    """

    def __init__(self, values: np.ndarray, least: float) -> None:
        self.scale = max(least, float(values.std()) * math.sqrt(6) / math.pi)
        self.mode = float(values.mean()) - _EULER * self.scale
        self.usual = float(np.median(values))

    def p(self, value: float) -> float:
        """Of a value or a larger one."""
        return (
            -math.expm1(-math.exp(-(value - self.mode) / self.scale)) if value > self.mode - 700 * self.scale else 1.0
        )


def largest(subject: Subject, statistic: Callable[[Subject], np.ndarray]) -> np.ndarray:
    """(network, …) the statistic of each network."""
    return np.stack([statistic(each) for each in subjects(subject)])
