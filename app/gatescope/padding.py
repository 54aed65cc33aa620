"""`Order`: how the rows of a padded batch are read, and where their own steps end.

Forward layers read a row as it stands; reverse layers read it from its own last step back to its first. Either way the
padding comes last, so no row ever sees it and nothing need be packed.

Batches lie in memory time first, so that a (time, batch) place is one block of units. Places are numbered through,
`step * batch + row`, and whole blocks are moved by such numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from gatescope.backends.chunk import Chunk
from gatescope.state import State


class Order:
    """The order of one batch.

    Args:
        lengths: how many steps each row has.
        time: steps of the padded batch.
        device: where the values lie.
    """

    def __init__(self, lengths: Sequence[int], time: int, device: torch.device) -> None:
        self.lengths, self.time, self.batch = lengths, time, len(lengths)
        self.is_ragged = min(lengths) < time
        self._device = device

    def clean(self, inputs: Tensor) -> Tensor:
        """(time, batch, feature), contiguous, with zeros in the padding whatever stood there."""
        if not self.is_ragged:
            return inputs.contiguous()
        cleaned = inputs.clone(memory_format=torch.contiguous_format)
        cleaned.flatten(0, 1).index_fill_(0, self._padding, 0)
        return cleaned

    def blank(self, values: Tensor) -> None:
        """Write NaN into the padding of (…, time, batch, unit)."""
        if self.is_ragged:
            places = values.view(*values.shape[:-3], self.time * self.batch, values.shape[-1])
            places.index_fill_(-2, self._padding, torch.nan)

    def reversed(self, values: Tensor) -> Tensor:
        """(time, batch, …) with each row turned around within its own length; applied twice it changes nothing."""
        turned = torch.empty_like(values)
        self.place(values, turned, "reverse", 0)
        return turned

    def place(self, values: Tensor, into: Tensor, direction: str, start: int) -> None:
        """Write the steps from `start`, as a direction reads them, to their own time: (time, batch, unit) both."""
        if direction == "forward":
            into[start : start + len(values)] = values
            return
        blocks, places = values.flatten(0, 1), self._turned[start * self.batch : (start + len(values)) * self.batch]
        if len(values) == self.time and into.is_contiguous():
            torch.index_select(
                blocks, 0, places, out=into.view(blocks.shape)
            )  # turning undoes itself, and this is faster
        else:
            into.view(-1, blocks.shape[-1]).index_copy_(0, places, blocks)

    def take_last(self, chunk: Chunk, final: State | None) -> State:
        """The states (1, batch, unit) at each row's last step, once its chunk was seen; `final` is of those before."""
        if not self.is_ragged:
            return chunk.final
        steps = self._last - chunk.start  # (batch,): below 0 where a row ended before
        places = steps.clamp(0, chunk.stop - chunk.start - 1) * self.batch + self._rows
        ended = State(*(x.flatten(0, 1).index_select(0, places)[None] for x in (chunk.hidden_state, chunk.cell_state)))
        if final is None:
            return ended
        is_new = (steps >= 0)[:, None]
        return State(*(torch.where(is_new, new, old) for new, old in zip(ended, final, strict=True)))

    def valid(self, chunk: Chunk, values: Tensor) -> Tensor:
        """(time, batch) values of a chunk with zeros in the padding."""
        if not self.is_ragged:
            return values
        return values.masked_fill(~self._valid[chunk.start : chunk.stop].to(self._device), 0)

    def moves(self, chunk: Chunk, direction: str, steps: range) -> tuple[Tensor, Tensor]:
        """Places of a chunk, as its direction reads it, that are of these steps, and their places in (steps, batch)."""
        kept = torch.full((self.time,), -1)
        kept[list(steps)] = torch.arange(len(steps))
        read = slice(chunk.start, chunk.stop)
        step = torch.where(self._valid[read], kept[self._own_time(direction)[read]], -1)  # (time, batch)
        source = (step >= 0).flatten().nonzero()[:, 0]
        target = (step * self.batch + torch.arange(self.batch)).flatten()[source]
        return source.to(self._device), target.to(self._device)

    # all of these are made on the CPU, where the lengths are known, so that a GPU need not be waited for

    @cached_property
    def _valid(self) -> Tensor:
        """(time, batch), false in the padding."""
        return torch.arange(self.time)[:, None] < torch.tensor(self.lengths)

    @cached_property
    def _last(self) -> Tensor:
        """(batch,) each row's last step."""
        return torch.tensor(self.lengths, device=self._device) - 1

    @cached_property
    def _rows(self) -> Tensor:
        """(batch,) the rows' numbers."""
        return torch.arange(self.batch, device=self._device)

    @cached_property
    def _padding(self) -> Tensor:
        """The places of the padding, numbered through."""
        return (~self._valid).flatten().nonzero()[:, 0].to(self._device)

    @cached_property
    def _turned(self) -> Tensor:
        """(time · batch,) the place whose block stands at each place when every row is turned around."""
        return (self._own_time("reverse") * self.batch + torch.arange(self.batch)).flatten().to(self._device)

    def _own_time(self, direction: str) -> Tensor:
        """(time, batch) the time of what a direction reads at each of its steps; padding keeps its own."""
        steps = torch.arange(self.time)[:, None].expand(self.time, self.batch)
        return (
            steps if direction == "forward" else torch.where(self._valid, torch.tensor(self.lengths) - 1 - steps, steps)
        )


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
