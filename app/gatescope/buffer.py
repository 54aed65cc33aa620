"""`Recorder`: the selected part of the signals, filled chunk by chunk, in input time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.backends.chunk import Chunk
from gatescope.padding import Order
from gatescope.selection import SIGNALS, Selection
from gatescope.spec import GATES, Spec

_RESIDUAL = {"output_gate", "cell_state", "hidden_state"}


class Recorder:
    """Keeps of each chunk what is selected, and nothing else.

    Signals lie in memory as (layer, direction, time, batch, unit), the four gates side by side where all are wanted, as
    the kernels write them: what is copied is long blocks, and a chunk that is all there is is kept as it stands.

    Args:
        selection: what to keep, resolved.
        spec: of the LSTM.
        order: of the batch.
    """

    def __init__(self, selection: Selection, spec: Spec, order: Order) -> None:
        self._order, self._selection = order, selection
        self._plan = _plan(selection, spec)
        self._steps = range(order.time)[selection.time]
        self._has_every_step = self._steps == range(order.time)
        self._values: list[Tensor] = []  # (layer, direction, time, batch, column) of each part
        self._moves: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self.holds_all = self._has_every_step and self._plan.holds_all
        """Whether what is kept is enough to compute the residual of the whole trace."""
        self.whole: Chunk | None = None
        """The chunk that is all there is, which is kept as it stands."""

    def wants(self, layer: int, direction: str) -> bool:
        """Whether anything of this layer and direction is selected."""
        selection = self._selection
        return (
            bool(self._plan.parts) and layer in (selection.layers or ()) and direction in (selection.directions or ())
        )

    def record(self, layer: int, direction: str, chunk: Chunk) -> None:
        """Keep what is selected of this chunk."""
        if self._plan.is_one_run and self._has_every_step and chunk.cell_state.shape[0] == self._order.time:
            self.whole = chunk
            return
        layers, directions = self._selection.layers or (), self._selection.directions or ()
        at = layers.index(layer), directions.index(direction)
        sources = [part.of(chunk) for part in self._plan.parts]  # (time, batch, column) each
        self._values = self._values or [self._memory(values, len(layers), len(directions)) for values in sources]
        for values, kept in zip(sources, self._values, strict=True):
            self._copy(values, kept[at], direction, chunk)

    def finish(self) -> dict[str, Tensor]:
        """Each selected signal, (batch, layer, direction, time, unit), with NaN in the padding."""
        parts, whole = self._plan.parts, self.whole
        values = self._values if whole is None else [part.of(whole) for part in parts]
        if self._has_every_step:
            for kept in values:
                self._order.blank(kept)  # over whatever the kernel computed there
        signals: dict[str, Tensor] = {}
        for part, kept in zip(parts, values, strict=True):
            signals.update(part.apart(kept.permute(3, 0, 1, 2, 4) if whole is None else _as_it_stands(kept)))
        return {signal: signals[signal] for signal in self._selection.signals}

    def _memory(self, values: Tensor, layers: int, directions: int) -> Tensor:
        shape = layers, directions, len(self._steps), self._order.batch, values.shape[-1]
        if self._has_every_step or not self._order.is_ragged:
            return values.new_empty(shape)
        return values.new_full(shape, torch.nan)  # nothing is copied of the padding

    def _copy(self, values: Tensor, into: Tensor, direction: str, chunk: Chunk) -> None:
        """(time, batch, column) of a chunk into its places among those that are kept."""
        if self._has_every_step:
            self._order.place(values, into, direction, chunk.start)
            return
        key = direction, chunk.start
        if key not in self._moves:
            self._moves[key] = self._order.moves(chunk, direction, self._steps)
        source, target = self._moves[key]
        into.flatten(0, 1).index_copy_(0, target, values.flatten(0, 1).index_select(0, source))


class _Part(NamedTuple):
    """Some columns of what a chunk holds: one signal, or several side by side."""

    signals: tuple[str, ...]
    source: str  # a chunk's field
    columns: slice | list[int] | None = None  # None takes all

    def of(self, chunk: Chunk) -> Tensor:
        """(time, batch, column)."""
        values: Tensor = getattr(chunk, self.source)
        return values if self.columns is None else values[..., self.columns]

    def apart(self, values: Tensor) -> Iterable[tuple[str, Tensor]]:
        """Each signal from its columns (…, column), by name."""
        if len(self.signals) == 1:
            return ((self.signals[0], values),)
        return zip(self.signals, values.chunk(len(self.signals), dim=-1), strict=True)


def _as_it_stands(values: Tensor) -> Tensor:
    """(time, batch, column) of the one layer and direction -> (batch, layer, direction, time, column), not copied."""
    (time, batch, columns), (step, row, _) = values.shape, values.stride()
    return values.as_strided((batch, 1, 1, time, columns), (row, 0, 0, step, 1))


class _Plan(NamedTuple):
    """What to keep of an LSTM's chunks for a selection, whatever its time."""

    parts: list[_Part]
    holds_all: bool  # enough to compute the residual
    is_one_run: bool  # every signal and unit of the one layer and direction that there is


@lru_cache(maxsize=256)
def _plan(selection: Selection, spec: Spec) -> _Plan:
    signals, has_every_unit = selection.signals, selection.units == tuple(range(spec.hidden_size))
    return _Plan(
        _parts(signals, selection.units or (), spec, has_every_unit=has_every_unit),
        holds_all=has_every_unit and not spec.proj_size and set(signals) >= _RESIDUAL,
        is_one_run=has_every_unit and len(signals) == len(SIGNALS) and spec.state_entries == 1,
    )


def _parts(signals: tuple[str, ...], units: tuple[int, ...], spec: Spec, *, has_every_unit: bool) -> list[_Part]:
    gates, size = SIGNALS[:GATES], spec.hidden_size
    widths = {"cell_state": size, "hidden_state": spec.hidden_state_size}
    if has_every_unit and set(gates) <= set(signals):
        return [_Part(gates, "gates"), *(_Part((name,), name) for name in widths if name in signals)]
    states = [_Part((name,), name, _columns(units, width)) for name, width in widths.items() if name in signals]
    gate_columns = {gate: _columns(units, size, number * size) for number, gate in enumerate(gates)}
    return [_Part((gate,), "gates", columns) for gate, columns in gate_columns.items() if gate in signals] + states


def _columns(units: tuple[int, ...], width: int, start: int = 0) -> slice | list[int]:
    """Where those of the units stand that a signal of this width has: a slice, if they stand side by side."""
    there = [start + unit for unit in units if unit < width]
    if there and there == list(range(there[0], there[0] + len(there))):
        return slice(there[0], there[0] + len(there))
    return there
