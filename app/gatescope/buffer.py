"""`SignalBuffer`: the selected part of the signals, filled chunk by chunk, in input time."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from gatescope.backends.chunk import Chunk
from gatescope.padding import BatchLayout
from gatescope.selection import Selection
from gatescope.spec import Spec


class SignalBuffer:
    """Keeps what is selected of each chunk.

    Signals lie in memory as (layer, direction, time, batch, unit). Signals that a backend writes side by side are kept
    so where all of them are selected: long blocks are copied, and a chunk that is the whole trace is kept as it is.

    Args:
        selection: what to keep, resolved.
        spec: of the module.
        batch: the layout of the batch.
        has_edits: whether steps are edited, of which the equations do not hold.
    """

    def __init__(self, selection: Selection, spec: Spec, batch: BatchLayout, *, has_edits: bool = False) -> None:
        self._batch, self._selection = batch, selection
        self._plan = _plan(selection, spec)
        self._steps = range(batch.time)[selection.time]
        self._has_every_step = self._steps == range(batch.time)
        self._values: list[Tensor] = []  # (layer, direction, time, batch, column) of each part
        self._moves: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self.has_residual = self._has_every_step and self._plan.has_residual and not has_edits
        """Whether the residual of the whole trace can be computed from what is kept."""
        self.reads_on_request = self._plan.has_on_request or (self._plan.checks_on_request and not self.has_residual)
        """Whether signals are read that a trace holds only on request."""
        self.only_chunk: Chunk | None = None
        """The chunk that is the whole trace and is kept as it is."""

    def wants(self, layer: int, direction: str) -> bool:
        """Whether anything of this layer and direction is selected."""
        selection = self._selection
        return (
            bool(self._plan.parts) and layer in (selection.layers or ()) and direction in (selection.directions or ())
        )

    def add(self, layer: int, direction: str, chunk: Chunk) -> None:
        """Keep what is selected of this chunk."""
        if self._plan.keeps_chunk and self._has_every_step and chunk.hidden_state.shape[0] == self._batch.time:
            self.only_chunk = chunk
            return
        layers, directions = self._selection.layers or (), self._selection.directions or ()
        at = layers.index(layer), directions.index(direction)
        sources = [part.of(chunk) for part in self._plan.parts]  # (time, batch, column) each
        self._values = self._values or [self._memory(values, len(layers), len(directions)) for values in sources]
        for values, kept in zip(sources, self._values, strict=True):
            self._copy(values, kept[at], direction, chunk)

    def signals(self) -> dict[str, Tensor]:
        """Each selected signal, (batch, layer, direction, time, unit), with NaN in the padding."""
        parts, chunk = self._plan.parts, self.only_chunk
        values = self._values if chunk is None else [part.of(chunk) for part in parts]
        if self._has_every_step:
            for kept in values:
                self._batch.fill_padding(kept)
        signals: dict[str, Tensor] = {}
        for part, kept in zip(parts, values, strict=True):
            signals.update(part.split(kept.permute(3, 0, 1, 2, 4) if chunk is None else _with_trace_axes(kept)))
        return {signal: signals[signal] for signal in self._selection.signals or ()}

    def _memory(self, values: Tensor, layers: int, directions: int) -> Tensor:
        shape = layers, directions, len(self._steps), self._batch.batch, values.shape[-1]
        if self._has_every_step or not self._batch.is_ragged:
            return values.new_empty(shape)
        return values.new_full(shape, torch.nan)  # nothing is copied of the padding

    def _copy(self, values: Tensor, into: Tensor, direction: str, chunk: Chunk) -> None:
        """Copy (time, batch, column) of a chunk to the selected steps."""
        if self._has_every_step:
            self._batch.place(values, into, direction, chunk.start)
            return
        key = direction, chunk.start
        if key not in self._moves:
            self._moves[key] = self._batch.moves(chunk, direction, self._steps)
        source, target = self._moves[key]
        into.flatten(0, 1).index_copy_(0, target, values.flatten(0, 1).index_select(0, source))


class _Part(NamedTuple):
    """Some columns of one tensor of a chunk: one signal, or several side by side."""

    signals: tuple[str, ...]
    source: int  # an index of `Chunk.tensors`
    columns: slice | list[int] | None = None  # None takes all

    def of(self, chunk: Chunk) -> Tensor:
        """(time, batch, column)."""
        values = chunk.tensors[self.source]
        return values if self.columns is None else values[..., self.columns]

    def split(self, values: Tensor) -> Iterable[tuple[str, Tensor]]:
        """Each signal from its columns (…, column), by name."""
        if len(self.signals) == 1:
            return ((self.signals[0], values),)
        return zip(self.signals, values.chunk(len(self.signals), dim=-1), strict=True)


def _with_trace_axes(values: Tensor) -> Tensor:
    """(time, batch, column) of the one layer and direction -> (batch, layer, direction, time, column), not copied."""
    (time, batch, columns), (step, row, _) = values.shape, values.stride()
    return values.as_strided((batch, 1, 1, time, columns), (row, 0, 0, step, 1))


class _Plan(NamedTuple):
    """What to keep of the chunks for a selection, whatever its time."""

    parts: list[_Part]
    has_residual: bool  # what is kept is enough to compute the residual
    has_on_request: bool  # signals are kept that are on request
    checks_on_request: bool  # the residual reads such
    keeps_chunk: bool  # every signal and unit of a module with one layer and direction is selected


@lru_cache(maxsize=256)
def _plan(selection: Selection, spec: Spec) -> _Plan:
    cell, signals = spec.cell, frozenset(selection.signals or ())
    has_every_unit = selection.units == tuple(range(spec.hidden_size))
    on_request = set(cell.signal_names).difference(cell.default_signal_names)
    return _Plan(
        _parts(signals, None if has_every_unit else selection.units or (), spec),
        # a projection's weights are there with each chunk only
        has_residual=has_every_unit and not spec.proj_size and signals >= set(cell.residual_signals),
        has_on_request=not signals.isdisjoint(on_request),
        checks_on_request=not on_request.isdisjoint(cell.residual_signals),
        keeps_chunk=has_every_unit and signals >= set(spec.signal_names) and spec.state_entries == 1,
    )


def _parts(signals: frozenset[str], units: tuple[int, ...] | None, spec: Spec) -> list[_Part]:
    parts: list[_Part] = []
    for source, names in enumerate(spec.cell.layout):
        if units is None and signals >= set(names):
            parts.append(_Part(names, source))
            continue
        for number, name in enumerate(names):
            if name in signals:
                width = spec.signal_sizes[name]
                columns = _columns(range(width) if units is None else units, width, number * width)
                parts.append(_Part((name,), source, columns))
    return parts


def _columns(units: Iterable[int], width: int, start: int = 0) -> slice | list[int]:
    """The columns of those units that a signal of this width has: a slice, if they lie side by side."""
    columns = [start + unit for unit in units if unit < width]
    if columns and columns == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[0] + len(columns))
    return columns
