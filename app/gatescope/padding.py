"""Ragged batches: how their rows are padded, read in either direction, and where each row ends.

Forward layers read a row as it is; reverse layers read it from its own last step back to its first. In both cases the
padding comes last, so it changes no row and nothing need be packed.

Batches lie in memory time first, so that a (time, batch) place is one block of units. Places are numbered
`step * batch + row`, and whole blocks are moved by these numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from gatescope.backends.chunk import Chunk
from gatescope.state import State

_UNBATCHED = 2  # axes of values without a batch: (time, feature)


class BatchLayout:
    """Where the steps of each row of one padded batch lie.

    Args:
        lengths: how many steps each row has.
        time: how many steps the padded batch has.
        device: of the values.
    """

    def __init__(self, lengths: Sequence[int], time: int, device: torch.device) -> None:
        self.lengths, self.time, self.batch = lengths, time, len(lengths)
        self.is_ragged = min(lengths) < time
        self._device = device

    def with_zero_padding(self, inputs: Tensor) -> Tensor:
        """(time, batch, feature), contiguous, with zeros in the padding."""
        if not self.is_ragged:
            return inputs.contiguous()
        zeroed = inputs.clone(memory_format=torch.contiguous_format)
        zeroed.flatten(0, 1).index_fill_(0, self._padding, 0)
        return zeroed

    def fill_padding(self, values: Tensor) -> None:
        """Write NaN into the padding of (…, time, batch, unit)."""
        if self.is_ragged:
            places = values.view(*values.shape[:-3], self.time * self.batch, values.shape[-1])
            places.index_fill_(-2, self._padding, torch.nan)

    def reversed(self, values: Tensor) -> Tensor:
        """(time, batch, …) with each row reversed within its own length; applied twice it changes nothing."""
        return values.flatten(0, 1).index_select(0, self._reversed_places).view(values.shape)

    def place(self, values: Tensor, into: Tensor, direction: str, start: int) -> None:
        """Write steps from `start` on, in the order of a direction, to their input time: (time, batch, unit) both."""
        if direction == "forward":
            into[start : start + len(values)] = values
            return
        blocks, places = (
            values.flatten(0, 1),
            self._reversed_places[start * self.batch : (start + len(values)) * self.batch],
        )
        if len(values) == self.time and into.is_contiguous():
            # reversal is its own inverse, so reading from the places does what writing to them would, and is faster
            torch.index_select(blocks, 0, places, out=into.view(blocks.shape))
        else:
            into.view(-1, blocks.shape[-1]).index_copy_(0, places, blocks)

    def last_state(self, chunk: Chunk, before: State | None) -> State:
        """The state (1, batch, size) at each row's last step up to this chunk; `before` is that of the chunk before."""
        if not self.is_ragged:
            return chunk.final
        steps = self._last_steps - chunk.start  # (batch,): below 0 where a row ended before
        places = steps.clamp(0, chunk.stop - chunk.start - 1) * self.batch + self._rows
        ended = State(*(values.flatten(0, 1).index_select(0, places)[None] for values in chunk.states))
        if before is None:
            return ended
        is_new = (steps >= 0)[:, None]
        return State(*(torch.where(is_new, new, old) for new, old in zip(ended, before, strict=True)))

    def mask_padding(self, chunk: Chunk, values: Tensor) -> Tensor:
        """(time, batch) values of a chunk with zeros in the padding."""
        if not self.is_ragged:
            return values
        return values.masked_fill(~self._is_valid[chunk.start : chunk.stop].to(self._device), 0)

    def moves(self, chunk: Chunk, direction: str, steps: range) -> tuple[Tensor, Tensor]:
        """The places of a chunk of this direction that belong to these steps, and their places in (steps, batch)."""
        targets = torch.full((self.time,), -1)
        targets[list(steps)] = torch.arange(len(steps))
        span = slice(chunk.start, chunk.stop)
        step = torch.where(self._is_valid[span], targets[self._input_time(direction)[span]], -1)  # (time, batch)
        source = (step >= 0).flatten().nonzero()[:, 0]
        target = (step * self.batch + torch.arange(self.batch)).flatten()[source]
        return source.to(self._device), target.to(self._device)

    # these are made on the CPU, where the lengths are known, so that nothing waits for a GPU

    @cached_property
    def _is_valid(self) -> Tensor:
        """(time, batch), false in the padding."""
        return torch.arange(self.time)[:, None] < torch.tensor(self.lengths)

    @cached_property
    def _last_steps(self) -> Tensor:
        """(batch,) each row's last step."""
        return torch.tensor(self.lengths, device=self._device) - 1

    @cached_property
    def _rows(self) -> Tensor:
        """(batch,) the number of each row."""
        return torch.arange(self.batch, device=self._device)

    @cached_property
    def _padding(self) -> Tensor:
        """The places of the padding."""
        return (~self._is_valid).flatten().nonzero()[:, 0].to(self._device)

    @cached_property
    def _reversed_places(self) -> Tensor:
        """(time · batch,) the place whose block comes to each place when every row is reversed."""
        return (self._input_time("reverse") * self.batch + torch.arange(self.batch)).flatten().to(self._device)

    def _input_time(self, direction: str) -> Tensor:
        """(time, batch) the input step that a direction reads at each of its steps; padding keeps its own."""
        steps = torch.arange(self.time)[:, None].expand(self.time, self.batch)
        if direction == "forward":
            return steps
        return torch.where(self._is_valid, torch.tensor(self.lengths) - 1 - steps, steps)


def pad(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack sequences of (time, …) into zero-padded (batch, longest time, …) and their lengths (batch,)."""
    lengths = torch.tensor([sequence.shape[0] for sequence in sequences])
    if len(sequences) == 1:
        return sequences[0][None], lengths
    return pad_sequence(list(sequences), batch_first=True), lengths


def batch_first(values: Tensor | PackedSequence, *, is_batch_first: bool) -> tuple[Tensor, Tensor | None]:
    """What a recurrent module takes or returns, as (batch, time, …) with the rows in their own order.

    Args:
        values: packed, or with the module's axes: (batch, time, …), (time, batch, …), or (time, …) without a batch.
        is_batch_first: the module's `batch_first`.

    Returns:
        The values, and the lengths (batch,) of packed ones on the CPU; None for a tensor.
    """
    if isinstance(values, PackedSequence):
        return pad_packed_sequence(values, batch_first=True)
    if values.dim() == _UNBATCHED:
        return values[None], None
    return (values if is_batch_first else values.transpose(0, 1)), None


def append(inputs: Tensor, lengths: Tensor, rows: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Put rows, (step, …) of each sequence, behind its own last step: padded (batch, time, …) and lengths (batch,)."""
    sequences = [torch.cat((inputs[b, :length], rows[b])) for b, length in enumerate(lengths.tolist())]
    padded, longer = pad(sequences)
    return padded, longer.to(lengths.device)


def is_valid(lengths: Tensor, time: int) -> Tensor:
    """(batch, time), true where a row's sequence has a step, false in its padding."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def at_last_step(values: Tensor, lengths: Tensor) -> Tensor:
    """Each row's values at its own last step: (batch, time, unit) -> (batch, unit)."""
    rows = torch.arange(values.shape[0], device=values.device)
    return values[rows, lengths - 1]
