"""`Recorder`: the selected part of the signals, filled chunk by chunk, in input time."""

from __future__ import annotations

import torch
from torch import Tensor

from app.lstm.chunk import Chunk
from app.lstm.order import Order
from app.lstm.selection import SIGNALS, Selection
from app.lstm.spec import GATES, LSTMSpec


class Recorder:
    """Copies out of each chunk what is selected, and nothing else.

    Signals are kept as (layer, direction, batch, time, unit), so that what one layer and direction writes is one block
    of memory.

    Args:
        selection: what to keep, resolved.
        spec: of the LSTM.
        order: of the batch.
        like: a tensor whose type and device the signals get.
    """

    def __init__(self, selection: Selection, spec: LSTMSpec, order: Order, like: Tensor) -> None:
        self._order = order
        self._layers, self._directions = selection.layers or (), selection.directions or ()
        self._steps = range(order.time)[selection.time]
        self._is_whole = self._steps == range(order.time)
        self._columns = _columns(selection.units or (), spec.hidden_size)
        self._hidden_columns = _columns(selection.units or (), spec.hidden_state_size)
        self._kept = self._allocate(selection.signals, like)
        self._has_packed_gates = selection.signals[:GATES] == SIGNALS[:GATES] and self._columns[1] == slice(
            0, spec.hidden_size
        )
        everything = selection.units == tuple(range(spec.hidden_size)) and not spec.proj_size
        self.holds_all = (
            self._is_whole and everything and {"output_gate", "cell_state", "hidden_state"} <= self._kept.keys()
        )
        """Whether what is kept is enough to compute the residual of the whole trace."""
        self._indices: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    @property
    def signals(self) -> dict[str, Tensor]:
        """Each selected signal, (batch, layer, direction, time, unit)."""
        return {signal: values.permute(2, 0, 1, 3, 4) for signal, values in self._kept.items()}

    def finish(self) -> None:
        """Write NaN into the padding, over whatever the kernel computed there."""
        if not self._order.is_ragged:
            return
        for row, length in enumerate(self._order.lengths.tolist()):
            ended = _from(self._steps, length)
            for values in self._kept.values():
                values[:, :, row, ended] = torch.nan

    def wants(self, layer: int, direction: str) -> bool:
        """Whether anything of this layer and direction is selected."""
        return bool(self._kept) and layer in self._layers and direction in self._directions

    def record(self, layer: int, direction: str, chunk: Chunk) -> None:
        """Keep what is selected of this chunk."""
        at = self._layers.index(layer), self._directions.index(direction)
        in_blocks = self._is_whole and (direction == "forward" or not self._order.is_ragged)
        copy = self._copy_whole if in_blocks else self._copy_selected
        signals, rest = chunk.signals, dict(self._kept)
        if in_blocks and self._has_packed_gates:
            self._copy_gates(at, direction, chunk)
            rest = {signal: kept for signal, kept in rest.items() if signal not in SIGNALS[:GATES]}
        for signal, kept in rest.items():
            _, columns = self._hidden_columns if signal == "hidden_state" else self._columns
            copy(getattr(signals, signal)[..., columns], kept[at], direction, chunk)

    def _allocate(self, signals: tuple[str, ...], like: Tensor) -> dict[str, Tensor]:
        axes = len(self._layers), len(self._directions), len(self._order.lengths), len(self._steps)
        cells = [signal for signal in signals if signal != "hidden_state"]
        together = like.new_empty(len(cells), *axes, self._columns[0])  # the gates side by side
        kept = dict(zip(cells, together.unbind(), strict=True))
        self._gates = together[:GATES]
        if "hidden_state" in signals:
            kept["hidden_state"] = like.new_empty(*axes, self._hidden_columns[0])
        return {signal: kept[signal] for signal in signals}

    def _copy_gates(self, at: tuple[int, int], direction: str, chunk: Chunk) -> None:
        """All four at once: (time, batch, 4H) -> (4, batch, time, H)."""
        gates = chunk.gates if direction == "forward" else chunk.gates.flip(0)
        start = chunk.start if direction == "forward" else self._order.time - chunk.stop
        kept = self._gates[:, at[0], at[1], :, start : start + len(gates)]
        kept.copy_(torch.unflatten(gates, -1, (GATES, -1)).permute(2, 1, 0, 3))

    def _copy_whole(self, values: Tensor, kept: Tensor, direction: str, chunk: Chunk) -> None:
        if direction == "forward":
            kept[:, chunk.start : chunk.stop] = values.transpose(0, 1)
        else:
            time = self._order.time
            kept[:, time - chunk.stop : time - chunk.start] = values.flip(0).transpose(0, 1)

    def _copy_selected(self, values: Tensor, kept: Tensor, direction: str, chunk: Chunk) -> None:
        source, target = self._index(direction, chunk)
        if len(source):
            kept.flatten(0, 1).index_copy_(0, target, values.flatten(0, 1).index_select(0, source))

    def _index(self, direction: str, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Rows of a chunk's (time · batch) and rows of what is kept, (batch · time), that belong together."""
        key = direction, chunk.start
        if key not in self._indices:
            steps, valid = self._order.input_steps(chunk, direction)
            place = torch.full((self._order.time,), -1, device=steps.device)
            place[list(self._steps)] = torch.arange(len(self._steps), device=steps.device)
            target = place[steps.clamp(min=0)]  # (time, batch): which kept step, −1 for none
            source = (valid & (target >= 0)).flatten().nonzero()[:, 0]
            row = torch.arange(valid.shape[1], device=steps.device) * len(self._steps)
            self._indices[key] = source, (row + target).flatten()[source]
        return self._indices[key]


def _from(steps: range, length: int) -> slice:
    """Where those of the steps stand that a row of this length does not have: last, or first if they run backwards."""
    if steps.step > 0:
        return slice(len(range(steps.start, min(steps.stop, length), steps.step)), None)
    return slice(0, len(range(steps.start, max(steps.stop, length - 1), steps.step)))


def _columns(units: tuple[int, ...], width: int) -> tuple[int, slice | list[int]]:
    """How many of these units a signal of so many has, and how to index them: a slice where they stand side by side."""
    there = [unit for unit in units if unit < width]
    if there and there == list(range(there[0], there[0] + len(there))):
        return len(there), slice(there[0], there[0] + len(there))
    return len(there), there
