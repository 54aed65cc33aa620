"""`crf`: the labels of a sequence are its best path, not the best label of each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from gatescope.pipeline.layers.layer import Layer, LayerConfig, Shape, Steps, Weights, parameter


class CRFConfig(LayerConfig):
    """A linear-chain conditional random field as the package pytorch-crf stores it.

    `transitions` [from, to], `start_transitions` and `end_transitions`; it passes the scores of each step on, and the
    head behind it answers the labels of the best path.
    """

    type: Literal["crf"]
    """`crf`."""

    def build(self, weights: Weights, given: Sequence[Shape]) -> Layer:
        """The layer, which is as wide as there are labels."""
        shape = self.only(given, sequence=True)
        return CRF(
            weights.take("transitions", shape.width, shape.width),
            weights.take("start_transitions", shape.width),
            weights.take("end_transitions", shape.width),
            replace(shape, sums_up=True, is_probability=False),
        )


class CRF(Layer):
    """Passes on the scores of each label at each step, (batch, time, label); `decode` finds the best path."""

    def __init__(self, transitions: Tensor, start: Tensor, end: Tensor, shape: Shape) -> None:
        super().__init__()
        self.transitions, self.start, self.end = parameter(transitions), parameter(start), parameter(end)
        self.shape = shape

    def forward(self, *values: Tensor, steps: Steps) -> Tensor:  # noqa: ARG002 - scores of single steps
        """The scores as they are."""
        return values[0]

    def decode(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Viterbi's algorithm: the label at each step (batch, time) of the path with the largest sum.

        The sum is start[y_0] + Σ scores[t, y_t] + Σ transitions[y_{t−1}, y_t] + end[y_T] over a sequence's own steps.

        Args:
            scores: (batch, time, label); the padding may hold anything.
            lengths: (batch,).
        """
        rows, time, labels = scores.shape
        best = self.start + scores[:, 0]  # (batch, label): of paths that end in each label
        stay = torch.arange(labels, device=scores.device).expand(rows, labels)
        origins = [stay]
        for step in range(1, time):
            into, origin = (best[:, :, None] + self.transitions).max(dim=1)  # (batch, to)
            goes_on = (lengths > step)[:, None]
            best = torch.where(goes_on, into + scores[:, step], best)
            origins.append(torch.where(goes_on, origin, stay))
        label = (best + self.end).argmax(dim=1)  # (batch,)
        path = [label]
        for origin in reversed(origins[1:]):
            label = origin.gather(1, label[:, None])[:, 0]
            path.append(label)
        return torch.stack(path[::-1], dim=1)
