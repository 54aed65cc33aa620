"""`Order`: how the rows of a padded batch are read, and where their own steps end.

Forward layers read a row as it stands; reverse layers read it from its own last step back to its first. Either way the
padding comes last, so no row ever sees it and nothing need be packed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from app.lstm import batch
from app.lstm.chunk import Chunk


class Order:
    """The order of one batch.

    Args:
        lengths: (batch,) how many steps each row has.
        time: steps of the padded batch.
        device: where the values lie.
    """

    def __init__(self, lengths: Tensor, time: int, device: torch.device) -> None:
        self.lengths, self.time = lengths.to(device), time
        self._last_steps = [length - 1 for length in lengths.tolist()]
        self.is_ragged = min(self._last_steps) < time - 1

    def clean(self, inputs: Tensor) -> Tensor:
        """(time, batch, feature), contiguous, with zeros in the padding whatever stood there."""
        if self.is_ragged:
            inputs = inputs.masked_fill(~self._valid().T[..., None], 0)
        return inputs.contiguous()

    def mask(self, values: Tensor) -> Tensor:
        """(batch, time, unit) with NaN in the padding."""
        return values.masked_fill(~self._valid()[..., None], torch.nan) if self.is_ragged else values

    def reversed(self, values: Tensor) -> Tensor:
        """(time, batch, …) with each row turned around within its own length; applied twice it changes nothing."""
        if not self.is_ragged:
            return values.flip(0)
        return batch.reverse(values.transpose(0, 1), self.lengths).transpose(0, 1).contiguous()

    def take_last(self, chunk: Chunk, hidden: Tensor, cell: Tensor) -> None:
        """Copy the states of the rows whose last step lies in this chunk into hidden and cell (batch, unit)."""
        if not self.is_ragged:
            if chunk.stop == self.time:
                hidden.copy_(chunk.hidden_state[-1])
                cell.copy_(chunk.cell_state[-1])
            return
        rows = [row for row, step in enumerate(self._last_steps) if chunk.start <= step < chunk.stop]
        steps = [self._last_steps[row] - chunk.start for row in rows]
        hidden[rows] = chunk.hidden_state[steps, rows]
        cell[rows] = chunk.cell_state[steps, rows]

    def valid(self, chunk: Chunk, values: Tensor) -> Tensor:
        """(time, batch) values of a chunk with zeros in the padding."""
        return values.masked_fill(~self._steps(chunk)[1], 0) if self.is_ragged else values

    def input_steps(self, chunk: Chunk, direction: str) -> tuple[Tensor, Tensor]:
        """The input time of each (time, batch) of this chunk, and whether its row has such a step at all."""
        step, valid = self._steps(chunk)
        steps = step.expand_as(valid) if direction == "forward" else self.lengths - 1 - step
        return steps, valid

    def _steps(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """(time, 1) steps of a chunk as it reads, and (time, batch) whether a row has them."""
        step = torch.arange(chunk.start, chunk.stop, device=self.lengths.device)[:, None]
        return step, step < self.lengths

    def _valid(self) -> Tensor:
        return batch.is_valid(self.lengths, self.time)
