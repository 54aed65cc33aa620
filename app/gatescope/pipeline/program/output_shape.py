"""`OutputShape`: what a program's prediction looks like, found out when it is loaded and held to ever after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gatescope import padding
from gatescope.errors import ModuleFailed
from gatescope.pipeline.heads import Task

_PER_SEQUENCE, _PER_STEP = 2, 3  # axes
_WANTED = {
    "regression": "(batch, value), or (batch, time, value) with a prediction per time step",
    "quantile": "(batch, value), or (batch, time, value) with a prediction per time step",
    "binary": "(batch, 1), or (batch, time, 1) with a prediction per time step",
    "multi_label": "(batch, label), or (batch, time, label) with a prediction per time step",
    "classification": "(batch, label)",
    "tagging": "(batch, time, label)",
    "next_token": "(batch, time, token)",
}


@dataclass(frozen=True)
class OutputShape:
    """A prediction per time step, per sequence, or for a number of steps that is the program's own."""

    subject: str  # what runs, as messages call it
    values: int
    per_step: bool
    own_steps: int | None = None

    @classmethod
    def of(cls, subject: str, output: Any, sequences: int, steps: int, task: Task) -> OutputShape:
        """The shape of what a program returned for so many sequences of so many steps.

        Raises:
            ModuleFailed: it is no prediction of this task.
        """
        shape = _checked(subject, output).shape
        per_step = output.dim() == _PER_STEP and shape[1] == steps
        fits = {
            "regression": output.dim() in {_PER_SEQUENCE, _PER_STEP},
            "classification": output.dim() == _PER_SEQUENCE,
            "tagging": per_step,
            "next_token": per_step,
        }.get(task, output.dim() == _PER_SEQUENCE or per_step)
        if not fits or shape[0] != sequences or 0 in shape:
            raise ModuleFailed(
                f"{subject} gives shape {tuple(shape)} for a batch of {sequences} × {steps} steps; "
                f"for {task} it must be {_WANTED[task]}"
            )
        own_steps = shape[1] if output.dim() == _PER_STEP and not per_step else None
        return cls(subject, shape[-1], per_step, own_steps)

    def shape(self, steps: int) -> tuple[int, ...]:
        """Of the prediction of one sequence of so many steps: (step, value) or (value,)."""
        if self.per_step:
            return steps, self.values
        return (self.values,) if self.own_steps is None else (self.own_steps, self.values)

    def steps(self, lengths: Tensor) -> Tensor | None:
        """(batch,) how many predictions each sequence gets; None for one without a time axis."""
        if self.per_step:
            return lengths
        return None if self.own_steps is None else torch.full_like(lengths, self.own_steps)

    def gathered(self, parts: Sequence[tuple[Tensor | None, Tensor]], steps: int) -> Tensor:
        """The values of a batch of so many padded steps, from rows (row,) and the values of these rows; NaN between.

        The rows are None where they are all rows of the batch.
        """
        first = parts[0][1]
        if parts[0][0] is None and first.shape[1:] == self.shape(steps):
            return first
        sequences = sum(len(part) for _, part in parts)
        values = first.new_full((sequences, *self.shape(steps)), torch.nan)
        for numbers, part in parts:
            rows = torch.arange(sequences) if numbers is None else numbers
            values[(rows, slice(part.shape[1])) if self.per_step else rows] = part
        return values

    def read(self, output: Any, lengths: Tensor, steps: int) -> Tensor:
        """What the program returned for a batch, with NaN where a sequence of a prediction per step has ended.

        Args:
            output: what it returned.
            lengths: (batch,) of the sequences.
            steps: of the padded batch.

        Raises:
            ModuleFailed: it has another shape than it had before, or is not finite.
        """
        values, shape = _checked(self.subject, output), (len(lengths), *self.shape(steps))
        if values.shape != shape:
            raise ModuleFailed(
                f"{self.subject} gives shape {tuple(values.shape)} for a batch of {len(lengths)} × {steps} "
                f"steps, but {shape} follows from what it gave when it was loaded"
            )
        if math.isfinite(values.sum().item()):  # then each of them is
            if self.per_step and int(lengths.min()) < steps:
                values = values.where(padding.is_valid(lengths.to(values.device), steps)[..., None], torch.nan)
            return values
        if self.per_step:
            valid = padding.is_valid(lengths.to(values.device), steps)[..., None]  # (batch, time, 1)
            finite, values = values.isfinite() | ~valid, values.where(valid, torch.nan)
        else:
            finite = values.isfinite()
        if not bool(finite.all()):
            place = (~finite).nonzero()[0].tolist()
            raise ModuleFailed(f"{self.subject} gives NaN or Infinity at {place} of a prediction of shape {shape}")
        return values


def _checked(subject: str, output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        hint = "; return the prediction alone" if isinstance(output, tuple | list | dict) else ""
        raise ModuleFailed(f"{subject} gives {type(output).__name__}, not a tensor{hint}")
    if not output.is_floating_point():
        raise ModuleFailed(f"{subject} gives {output.dtype}, not floating-point numbers")
    return output.float()
