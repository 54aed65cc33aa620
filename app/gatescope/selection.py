"""`Selection`: which part of a trace is asked for; the axes keep the order of the request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TypeVar

from gatescope.errors import InvalidInput, Place
from gatescope.spec import Spec

MAX_PLACES = 10

T = TypeVar("T", int, str)


@dataclass(frozen=True)
class Selection:
    """Signals, layers, directions, units and time steps of a trace, in any sequence; None takes all of them.

    `units` index the cell's units. Where `proj_size` makes a signal narrower, it has the units below that size.
    `time` is applied to the batch's padded time axis, that is, to the steps of its longest sequence. None takes the
    signals that a trace of the cell has by default.
    """

    signals: tuple[str, ...] | None = None
    layers: tuple[int, ...] | None = None
    directions: tuple[str, ...] | None = None
    units: tuple[int, ...] | None = None
    time: slice = field(default_factory=lambda: slice(None), hash=False)  # Python 3.11 has no hash for it

    def __post_init__(self) -> None:
        for name in ("signals", "layers", "directions", "units"):
            given = getattr(self, name)
            if given is not None and type(given) is not tuple:
                if isinstance(given, str) or not isinstance(given, Iterable):
                    raise InvalidInput.at(Place((name,), f"must be a sequence, such as [{given!r}], not {given!r}"))
                object.__setattr__(self, name, tuple(given))

    def resolve(self, spec: Spec) -> Selection:
        """The same selection with every None replaced by what a module of this spec has.

        Raises:
            InvalidInput: a name or an index that the module does not have, or one given twice.
        """
        return _resolved(self, spec)

    def time_steps(self, longest: int) -> list[int]:
        """Indices of the selected time steps in a batch whose longest sequence has this many."""
        return list(range(longest)[self.time])

    def between(self, longest: int, start: int, stop: int) -> range:
        """The selected time steps in start…stop − 1 of a batch of this length; the selection must go upwards."""
        steps = range(longest)[self.time]
        return steps[bisect_left(steps, start) : bisect_left(steps, stop)]

    @property
    def is_upwards(self) -> bool:
        """Whether the time steps go from the first to the last."""
        return (self.time.step or 1) > 0

    def shape(self, batch: int, longest: int) -> tuple[int, int, int, int, int]:
        """(batch, layer, direction, time, unit) of each signal selected here; the selection must be resolved."""
        axes: Sequence[Iterable[object]] = (self.layers or (), self.directions or (), self.time_steps(longest))
        return (batch, *(len(list(axis)) for axis in axes), len(self.units or ()))  # type: ignore[return-value]


@lru_cache(maxsize=256)
def _resolved(selection: Selection, spec: Spec) -> Selection:
    if selection.time.step == 0:
        raise InvalidInput.at(Place(("time", "step"), "a step of 0 selects nothing"))
    return Selection(
        spec.signal_names
        if selection.signals is None
        else _known("signals", selection.signals, spec.cell.signal_names),
        _known("layers", selection.layers, range(spec.num_layers)),
        _known("directions", selection.directions, spec.directions),
        _known("units", selection.units, range(spec.hidden_size)),
        selection.time,
    )


def _known(axis: str, wanted: tuple[T, ...] | None, available: Sequence[T]) -> tuple[T, ...]:
    if wanted is None:
        return tuple(available)
    if not wanted and axis != "signals":
        raise InvalidInput.at(Place((axis,), f"{axis} is empty; this model has {_listed(available)}"))
    if len(wanted) > len(available):
        raise InvalidInput.at(Place((axis,), f"{len(wanted)} are asked for; this model has {_listed(available)}"))
    if places := list(islice(_wrong(axis, wanted, available), MAX_PLACES)):
        raise InvalidInput.at(*places)
    return wanted


def _wrong(axis: str, wanted: tuple[T, ...], available: Sequence[T]) -> Iterator[Place]:
    seen: set[T] = set()
    for index, value in enumerate(wanted):
        if value not in available:
            yield Place((axis, index), f"{axis} has no {value!r}; this model has {_listed(available)}")
        elif value in seen:
            yield Place((axis, index), f"{value!r} is asked for twice")
        seen.add(value)


def _listed(available: Sequence[object]) -> str:
    if isinstance(available, range):
        return f"0 to {len(available) - 1}"
    return ", ".join(map(repr, available))
