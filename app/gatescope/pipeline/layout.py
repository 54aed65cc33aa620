"""Where rows and time steps lie in the fields of an `Answer`.

Each field of an answer names its `Layout` in its metadata. From these alone follow how the answer to a batch is split
among its queries, and how the answers to chunks of time are merged into one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from gatescope.state import State

if TYPE_CHECKING:
    from gatescope.pipeline.query import Query

T = TypeVar("T")


class RowSplit(NamedTuple):
    """How the rows of a batch are divided among its queries."""

    queries: Sequence[Query]
    sizes: list[int]
    """How many rows each query has."""
    lengths: list[int] | None
    """How long each query's own time axis is; None where all are as long as the batch's."""


class Slot(NamedTuple):
    """Where the answer to a chunk belongs in the answer to the whole query."""

    query: Query
    """The whole query."""
    rows: Tensor
    """(row,) which of its sequences the chunk has."""
    start: int
    """The chunk's first time step."""
    stop: int
    """The time step behind its last."""


class Layout(Protocol):
    """Splits and merges the values of one field; a field that lacks one is the same for all rows and chunks."""

    def split(self, value: Any, split: RowSplit) -> Sequence[Any]:
        """Each query's own part of a batch's value."""

    def merge(self, whole: Any | None, part: Any, slot: Slot) -> Any:
        """The whole query's value with a chunk's put in; `whole` is None before the first chunk."""


class AsAsked:
    """What the query itself has under this name.

    Args:
        name: of the query's field.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def split(self, value: Any, split: RowSplit) -> Sequence[Any]:  # noqa: ARG002 - the queries have it already
        """Each query's own."""
        return [getattr(query, self._name) for query in split.queries]

    def merge(self, whole: Any | None, part: Any, slot: Slot) -> Any:  # noqa: ARG002 - likewise
        """The whole query's own."""
        return getattr(slot.query, self._name)


class Rows:
    """A tensor with a row for each sequence.

    Args:
        batch: the axis of rows.
        time: the axis of time steps, where there is one; else a later chunk's rows replace those of an earlier one.
        combine: makes one of an earlier and a later chunk's rows, where they are not to be replaced.
    """

    def __init__(
        self, batch: int = 0, time: int | None = None, combine: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> None:
        self._batch, self._time, self._combine = batch, time, combine

    def split(self, value: Tensor, split: RowSplit) -> Sequence[Tensor]:
        """Each query's rows, no longer than its own time axis."""
        parts = value.split_with_sizes(split.sizes, self._batch)
        if self._time is None or split.lengths is None:
            return parts
        return [part.narrow(self._time, 0, length) for part, length in zip(parts, split.lengths, strict=True)]

    def merge(self, whole: Tensor | None, part: Tensor, slot: Slot) -> Tensor:
        """The chunk's rows in their places."""
        if self._time is not None:
            steps = range(slot.start, slot.stop)
            return _filled(whole, part, slot, (self._batch, self._time), steps, slot.query.inputs.shape[1])
        rows = slot.rows
        if whole is None or rows.shape[0] == whole.shape[self._batch]:
            return part if whole is None or self._combine is None else self._combine(whole, part)
        if self._combine is not None:
            part = self._combine(whole.index_select(self._batch, rows), part)
        return whole.index_copy(self._batch, rows, part)


class Signals:
    """The signals of a trace by name, each (batch, layer, direction, selected time step, unit)."""

    def split(self, value: Mapping[str, Tensor], split: RowSplit) -> Sequence[dict[str, Tensor]]:
        """Each query's rows, with the steps that are selected of its own time axis."""
        columns = [signal.split_with_sizes(split.sizes) for signal in value.values()]
        rows = [dict(zip(value, parts, strict=True)) for parts in zip(*columns, strict=True)]
        if not value or split.lengths is None:
            return rows or [{} for _ in split.queries]
        selection = split.queries[0].trace
        if selection is None:
            raise TypeError("a trace that nobody asked for")
        counts = [len(selection.time_steps(length)) for length in split.lengths]
        return [
            {name: signal[:, :, :, :count] for name, signal in row.items()}
            for row, count in zip(rows, counts, strict=True)
        ]

    def merge(self, whole: dict[str, Tensor] | None, part: Mapping[str, Tensor], slot: Slot) -> dict[str, Tensor]:
        """The chunk's selected steps in their places; a chunk without any adds nothing."""
        selection, longest = slot.query.trace, slot.query.inputs.shape[1]
        if selection is None:
            raise TypeError("a trace that nobody asked for")
        before, merged = len(selection.between(longest, 0, slot.start)), whole or {}
        count = len(selection.time_steps(longest))
        for name in part:
            steps = range(before, before + part[name].shape[3])
            merged[name] = _filled(merged.get(name), part[name], slot, (0, 3), steps, count)
        return merged


class States:
    """The states of a recurrent module, each (layers · directions, batch, unit).

    Args:
        keep: which chunk's is the whole query's: the "first" one's, or each row's "last".
    """

    def __init__(self, keep: str) -> None:
        self._keeps_first, self._rows = keep == "first", Rows(batch=1)

    def split(self, value: State, split: RowSplit) -> Sequence[State]:
        """Each query's rows."""
        return [State(*parts) for parts in zip(*(self._rows.split(each, split) for each in value), strict=True)]

    def merge(self, whole: State | None, part: State, slot: Slot) -> State:
        """The first chunk's, which has every row; or each row's latest."""
        if whole is None:
            return part
        return (
            whole
            if self._keeps_first
            else map_state(lambda before, after: self._rows.merge(before, after, slot), whole, part)
        )


class Record:
    """A dataclass, field by field.

    Args:
        layouts: of its fields.
    """

    def __init__(self, layouts: Mapping[str, Layout]) -> None:
        self._layouts = layouts

    def split(self, value: Any, split: RowSplit) -> Sequence[Any]:
        """One for each query."""
        return rows_of(value, self.columns(value, split))

    def columns(self, value: Any, split: RowSplit, skip: Container[str] = ()) -> dict[str, Sequence[Any]]:
        """The parts of all queries, field by field, but for those to skip."""
        return {
            name: layout.split(part, split)
            for name, layout in self._layouts.items()
            if name not in skip and (part := getattr(value, name)) is not None
        }

    def merge(self, whole: Any | None, part: Any, slot: Slot) -> Any:
        """The whole with each field of the part put in."""
        merged = {
            name: [layout.merge(None if whole is None else getattr(whole, name), value, slot)]
            for name, layout in self._layouts.items()
            if (value := getattr(part, name)) is not None
        }
        (made,) = rows_of(part if whole is None else whole, merged)
        return made


def rows_of(value: T, columns: Mapping[str, Sequence[Any]]) -> list[T]:
    """One dataclass for each row of the columns, with the value's other fields.

    This is what `replace` gives for a frozen dataclass, and quicker: every query of every batch needs it.
    """
    kind, names, rows = type(value), tuple(columns), []
    shared = {name: value.__dict__[name] for name in value.__dataclass_fields__}  # type: ignore[attr-defined]
    for parts in zip(*columns.values(), strict=True):
        shared.update(zip(names, parts, strict=True))
        row = object.__new__(kind)
        object.__setattr__(row, "__dict__", shared.copy())
        rows.append(row)
    return rows


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """A state of what the function makes of each tensor of the states."""
    return State(*map(function, *states))


def map_tensors(function: Callable[[Tensor], Tensor], value: T) -> T:
    """The same value with every tensor in it passed through the function."""
    if isinstance(value, Tensor):
        return function(value)  # type: ignore[return-value]
    if isinstance(value, State):
        return map_state(function, value)  # type: ignore[return-value]
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(map_tensors(function, item) for item in value)  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        made = {name: map_tensors(function, item) for name, item in given.items()}
        changed = {name: item for name, item in made.items() if item is not given[name]}
        return replace(value, **changed) if changed else value
    return value


def _filled(whole: Tensor | None, part: Tensor, slot: Slot, axes: tuple[int, int], steps: range, count: int) -> Tensor:
    """Write a chunk's rows and steps into the whole; NaN, or 0 of whole numbers, stands where nothing was written."""
    batch, time = axes
    if whole is None:
        shape = list(part.shape)
        shape[batch], shape[time] = slot.query.sequences, count
        whole = part.new_full(shape, torch.nan if part.is_floating_point() else 0)
    place = whole.narrow(time, steps.start, len(steps))
    if slot.rows.shape[0] == whole.shape[batch]:
        place.copy_(part)
    else:
        place.index_copy_(batch, slot.rows, part)
    return whole
