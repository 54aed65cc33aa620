"""`Intervention`: which numbers of a run are edited, and how; what it names is checked against the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from gatescope.errors import InvalidInput, Place
from gatescope.selection import MAX_PLACES
from gatescope.spec import Spec
from gatescope.tracing import Trace

OPERATIONS = ("set", "scale", "shift", "mean", "freeze", "patch")
"""What an intervention may do; it does exactly one of them."""

SCOPES = ("both", "recurrent", "outgoing")
"""Who sees an edited hidden state: the layer itself at its next step, whoever is above, or both."""

FIELD = "interventions"
"""Under this name interventions stand in a request, and in the places of errors."""


@dataclass(frozen=True, eq=False, repr=False)
class Intervention:
    """An edit of one signal of one layer and direction, where the cell's equations use it.

    Exactly one of `set`, `scale`, `shift`, `mean`, `freeze` and `patch` says what becomes of each value v. Several
    interventions on the same value are applied in their order. No value is clipped: `scale` and `shift` may take a
    signal out of its range, and `set` and `patch` are refused where they would.

    Steps are those of the inputs, in both directions; `start` and `stop` are taken as a Python slice takes them, of the
    longest sequence. A step that a sequence does not have is not edited.
    """

    signal: str
    """Any of the cell's, those on request too."""

    layer: int = 0
    """Counted from 0."""

    direction: str = "forward"
    """`forward` or `reverse`."""

    units: Sequence[int] | None = None
    """Of the signal; all when not given."""

    start: int | None = None
    """The first time step; the first of all when not given."""

    stop: int | None = None
    """The time step to stop before; none when not given."""

    sequences: Sequence[int] | None = None
    """Rows of the batch; all when not given."""

    scope: Literal["both", "recurrent", "outgoing"] = "both"
    """Of a hidden state: whether the layer reads the edited value at its next step, whoever is above does, or both."""

    set: float | None = None
    """v becomes this number."""

    scale: float | None = None
    """v becomes scale·v."""

    shift: float | None = None
    """v becomes v + shift."""

    mean: bool = False
    """v becomes the mean of its unit over all steps of its own sequence, in the run without interventions."""

    freeze: bool = False
    """v stays what it was at the step that its direction read just before the first of these; a state of a sequence's
    first step stays the initial one."""

    patch: Tensor | Sequence[Any] | Trace | None = None
    """v becomes that of another run: its trace, or values (time, unit) or (sequence, time, unit) of exactly the steps,
    units and sequences that are edited. A trace of one sequence goes into all of them."""

    def __post_init__(self) -> None:
        for name in ("units", "sequences"):
            given = getattr(self, name)
            if given is None or type(given) is tuple:
                continue
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise InvalidInput.at(Place((name,), f"must be a sequence, such as [{given!r}], not {given!r}"))
            object.__setattr__(self, name, tuple(map(_as_number, given)))

    @property
    def operations(self) -> list[str]:
        """Those that are stated."""
        return [name for name in OPERATIONS if (value := getattr(self, name)) is not None and value is not False]

    @property
    def may_leave_range(self) -> bool:
        """Whether the signal may become what the cell itself never makes of it."""
        return bool(self.shift) or (self.scale is not None and not 0 <= self.scale <= 1)

    def steps(self, longest: int) -> range:
        """The time steps of a batch whose longest sequence has this many."""
        return range(longest)[self.start : self.stop]

    def rows(self, batch: int) -> Sequence[int]:
        """The sequences of a batch of so many."""
        return range(batch) if self.sequences is None else self.sequences

    def columns(self, spec: Spec) -> Sequence[int]:
        """The units of the signal."""
        return range(spec.signal_sizes[self.signal]) if self.units is None else self.units

    def patched(self, spec: Spec, batch: int, longest: int) -> Tensor:
        """The values of a patch, (sequence, time, unit), of one sequence where they go into all.

        Raises:
            ValueError: they are not of these steps, units and sequences; its message says so.
        """
        rows, steps, units = self.rows(batch), self.steps(longest), self.columns(spec)
        if isinstance(self.patch, Trace):
            values = _of_trace(self, self.patch, spec, (rows, steps, units))
        else:
            values = torch.as_tensor(self.patch, dtype=torch.float64).detach()
            expected = (len(rows), len(steps), len(units))
            if tuple(values.shape) not in (expected, expected[1:], (1, *expected[1:])):
                raise ValueError(
                    f"has shape {tuple(values.shape)}; it must be (time, unit) = {expected[1:]}, or (sequence, time, "
                    f"unit) = {expected}"
                )
            values = values.view(-1, *values.shape[-2:])
        return values

    @property
    def is_local(self) -> bool:
        """Whether what becomes of a step's value follows from that step alone."""
        return not (self.mean or self.freeze)

    def resolved(self, spec: Spec, batch: int, longest: int) -> Intervention:
        """The same with everything stated that follows from the module and the batch; it must be checked."""
        steps = self.steps(longest)
        return replace(
            self,
            units=tuple(self.columns(spec)),
            sequences=tuple(self.rows(batch)),
            start=steps.start,
            stop=steps.stop,
            patch=None if self.patch is None else self.patched(spec, batch, longest),
        )

    def part(self, rows: Sequence[int], lengths: Sequence[int], start: int, stop: int) -> Intervention | None:
        """What is left of a resolved one in a part of a batch: some rows, and the steps from `start` to `stop`.

        Args:
            rows: of the batch that the part has, in their order.
            lengths: of all sequences of the batch.
            start: its first step, which counts as 0 there.
            stop: the step behind its last.
        """
        if self.start is None or self.stop is None or self.sequences is None:
            raise TypeError("only a resolved intervention has parts")
        first, last = max(self.start, start), min(self.stop, stop)
        edited = [row for row in self.sequences if row in rows and lengths[row] > first]
        if first >= last or not edited:
            return None
        sequences = tuple(list(rows).index(row) for row in edited)
        patch = self._patch_of(edited, first, last)
        return replace(self, sequences=sequences, start=first - start, stop=last - start, patch=patch)

    def within(self, lengths: Sequence[int]) -> Iterator[Intervention]:
        """The same in parts, each of rows that are equally long, which end where these do; it must be resolved.

        Args:
            lengths: of all sequences of the batch, to which further steps may be added.
        """
        if self.start is None or self.stop is None or self.sequences is None:
            raise TypeError("only a resolved intervention has parts")
        for length in sorted({lengths[row] for row in self.sequences}):
            rows, stop = tuple(row for row in self.sequences if lengths[row] == length), min(self.stop, length)
            if self.start < stop:
                yield replace(self, sequences=rows, stop=stop, patch=self._patch_of(rows, self.start, stop))

    def _patch_of(self, rows: Sequence[int], start: int, stop: int) -> Tensor | Sequence[Any] | Trace | None:
        """The patch of some of the rows and steps of a resolved one."""
        patch, sequences = self.patch, list(self.sequences or ())
        if not isinstance(patch, Tensor):
            return patch
        places = [sequences.index(row) for row in rows] if len(patch) > 1 else [0]
        return patch[places, start - (self.start or 0) : stop - (self.start or 0)]

    def of_repeated(self, times: int) -> Intervention:
        """The same of a batch in which each row stands so many times in turn; it must be resolved."""
        if self.sequences is None:
            raise TypeError("only a resolved intervention knows its rows")
        rows = tuple(row * times + place for row in self.sequences for place in range(times))
        patch = self.patch
        if isinstance(patch, Tensor) and len(patch) > 1:
            patch = patch.repeat_interleave(times, dim=0)
        return replace(self, sequences=rows, patch=patch)

    def __repr__(self) -> str:
        stated = (
            f"{each.name}={'…' if each.name == 'patch' else repr(value)}"
            for each in fields(self)
            if (value := getattr(self, each.name)) is not each.default
        )
        return f"Intervention({', '.join(stated)})"


def _as_number(index: Any) -> Any:
    """An index of NumPy or PyTorch as Python has it; anything else as it is."""
    return index.__index__() if hasattr(index, "__index__") and type(index) is not bool else index


def _of_trace(
    edited: Intervention, patch: Trace, spec: Spec, wanted: tuple[Sequence[int], range, Sequence[int]]
) -> Tensor:
    """The values of a trace, (sequence, time, unit); raises `ValueError`."""
    rows, steps, units = wanted
    if patch.spec != spec:
        raise ValueError(f"is a trace of another module, {patch}")
    if edited.signal not in patch.signals:
        raise ValueError(f"is a trace without {edited.signal}; it has {', '.join(patch.signals) or 'no signals'}")
    selection, values = patch.selection, patch.signals[edited.signal]
    known: dict[str, tuple[Sequence[Any], Sequence[Any]]] = {
        "layers": ([edited.layer], selection.layers or ()),
        "directions": ([edited.direction], selection.directions or ()),
        "time steps": (steps, selection.time_steps(patch.output.shape[1])),
        "units": (units, [unit for unit in selection.units or () if unit < spec.signal_sizes[edited.signal]]),
    }
    places: list[list[int]] = []
    for axis, (asked, there) in known.items():
        at = {each: index for index, each in enumerate(there)}
        if missing := [each for each in asked if each not in at]:
            raise ValueError(f"is a trace whose {axis} lack {', '.join(map(repr, missing[:MAX_PLACES]))}")
        places.append([at[each] for each in asked])
    if len(values) != 1 and max(rows) >= len(values):
        raise ValueError(f"is a trace of {len(values)} sequences, and there is none for sequence {max(rows)}")
    (layer,), (direction,), at_steps, at_units = places
    of_rows = values if len(values) == 1 else values[list(rows)]
    return of_rows[:, layer, direction][:, at_steps][..., at_units]
