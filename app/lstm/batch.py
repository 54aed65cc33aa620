"""Ragged sequences as one padded batch: padding stands on the right, and every row knows its length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack sequences of (time, …) into zero-padded (batch, longest time, …) and their lengths (batch,)."""
    lengths = torch.tensor([sequence.shape[0] for sequence in sequences])
    if len(sequences) == 1:
        return sequences[0][None], lengths
    return torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True), lengths


def is_valid(lengths: Tensor, time: int) -> Tensor:
    """(batch, time), true where a row's sequence has a step, false in its padding."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def at_last_step(values: Tensor, lengths: Tensor) -> Tensor:
    """Each row's values at its own last step: (batch, time, unit) -> (batch, unit)."""
    rows = torch.arange(values.shape[0], device=values.device)
    return values[rows, lengths - 1]
