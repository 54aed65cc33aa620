"""`Edits`: the interventions in one layer and direction of a batch, as a loop over time applies them.

Every operation is v → factor·v + added, so several on one value are one such edit, and edits of many units and rows are
one operation for each step. Time is that of the direction: its first step is the first that it reads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatescope.cells import Cell, Tensors

_NEVER = 1 << 62
_VARYING_FLOATS = 2_000_000  # patched values that are laid out at once
_LEAST_FUSED = 8  # steps: to call the kernel for fewer takes about as long as the loop


@dataclass
class Change:
    """One intervention in one layer and direction, for the rows that it edits."""

    signal: str
    scope: str
    rows: Sequence[int]
    units: Sequence[int]
    spans: Sequence[tuple[int, int]]
    """The steps of each row, in the order of the direction; an empty span where a row has none."""
    factor: float
    added: Sequence[Tensor]
    """Of each row (step of its span, unit), or (1, unit) where it is the same at all steps."""
    is_held: bool = False
    """Whether `added` is what comes just before the span; it is put there when the span begins."""

    @property
    def varies(self) -> bool:
        """Whether `added` differs from step to step."""
        return any(len(values) > 1 for values in self.added)


class Edits:
    """What a layer and direction goes through.

    Args:
        changes: in their order.
        cell: of the module.
        initial: its states before the first step, (1, batch, size) each.
    """

    def __init__(self, changes: Sequence[Change], cell: Cell, initial: Tensors) -> None:
        self._changes, self._hidden = changes, cell.states[0]
        before = dict(zip(cell.states, (state[0] for state in initial), strict=True))
        names = dict.fromkeys(change.signal for change in changes if change.signal != self._hidden)
        self._signals = {name: _Edited(self._of(name), before.get(name)) for name in names}
        hidden = self._of(self._hidden)
        seen = [
            _Edited([change for change in hidden if change.scope in (scope, "both")], before[self._hidden])
            for scope in ("outgoing", "recurrent")
        ]
        self._outgoing, self._recurrent = seen
        self._is_divided = any(change.scope != "both" for change in hidden)
        self._start = 0
        self.read: list[Tensor] = []
        """The hidden states of each step of the chunk as the next step reads them, where others see other values."""

    def segments(self, first: int, time: int) -> Iterator[tuple[int, int, bool]]:
        """So many steps from a first one on, as (start, stop, whether they are edited), both counted from that one.

        Those that are not edited need not be looped over.
        """
        within = ((max(0, start - first), min(stop - first, time)) for start, stop in self._spans())
        spans = sorted(span for span in within if span[0] < span[1])
        done = 0
        while spans:
            start, stop = spans.pop(0)
            while spans and spans[0][0] - stop <= _LEAST_FUSED:
                stop = max(stop, spans.pop(0)[1])
            start = 0 if start - done <= _LEAST_FUSED and done == 0 else start
            stop = time if time - stop <= _LEAST_FUSED else stop
            if done < start:
                yield done, start, False
            yield start, stop, True
            done = stop
        if done < time:
            yield done, time, False

    def begin(self, start: int) -> Edits:
        """Go on with a chunk that starts at this step."""
        self._start, self.read = start, []
        return self

    def __call__(self, step: int, signal: str, values: Tensor) -> Tensor:
        """Edit a signal (batch, unit) at a step of the chunk, in place: an `Edit`."""
        step += self._start
        if signal != self._hidden:
            edited = self._signals.get(signal)
            if edited is not None:
                edited.apply(step, values)
            return values
        read = values
        if self._is_divided:
            read = values.clone()
            self._recurrent.apply(step, read)
            self.read.append(read)
        self._outgoing.apply(step, values)
        return read

    def _of(self, signal: str) -> list[Change]:
        return [change for change in self._changes if change.signal == signal]

    def _spans(self) -> Iterable[tuple[int, int]]:
        for change in self._changes:
            for start, stop in set(change.spans):
                if start < stop:
                    yield max(0, start - change.is_held), stop


class _Edited:
    """One signal, as one reader sees it.

    Args:
        changes: of it, in their order.
        initial: (batch, unit) of a state before the first step.
    """

    def __init__(self, changes: Sequence[Change], initial: Tensor | None) -> None:
        self._changes = changes
        spans = [span for change in changes for span in change.spans if span[0] < span[1]]
        self._bounds = sorted({bound for span in spans for bound in span})
        self._held = {start for change in changes if change.is_held for start, stop in change.spans if start < stop}
        self._before = initial
        self._first = self._until = 0
        self._factor: Tensor | None = None  # (batch, unit)
        self._added: Sequence[Tensor] = ()  # (batch, unit) of each step, or one of all

    def apply(self, step: int, values: Tensor) -> None:
        """Edit (batch, unit) of this step in place; steps come in their order."""
        if not self._changes:
            return
        if step >= self._until:
            self._enter(step, values)
        if self._factor is not None:
            added = self._added[step - self._first if len(self._added) > 1 else 0]
            torch.addcmul(added, values, self._factor, out=values)
        if step + 1 in self._held:
            self._before = values.clone()

    def _enter(self, step: int, like: Tensor) -> None:
        """Make one edit of all that hold from this step to the next at which one begins or ends."""
        index = bisect_right(self._bounds, step)
        until = self._bounds[index] if index < len(self._bounds) else _NEVER
        active = [(change, _active(change, step)) for change in self._changes]
        active = [(change, places) for change, places in active if places]
        self._first, self._factor = step, None
        steps = 1
        if any(change.varies for change, _ in active):
            until = min(until, step + max(1, _VARYING_FLOATS // like.numel()))
            steps = until - step
        self._until = until
        if not active:
            return
        # NumPy: many changes of one number each, as variants have, take a tenth of the time that tensors take
        factor, added = np.ones(like.shape), np.zeros((steps, *like.shape))
        for change, places in active:
            self._hold(change, places, step)
            rows, units = np.array([change.rows[place] for place in places])[:, None], np.array(change.units)
            values = np.stack([_added(change, place, step, steps) for place in places], axis=1)
            factor[rows, units] *= change.factor
            added[:, rows, units] = added[:, rows, units] * change.factor + values  # (step, row, unit)
        self._factor, self._added = torch.from_numpy(factor).to(like), torch.from_numpy(added).to(like).unbind()

    def _hold(self, change: Change, places: Sequence[int], step: int) -> None:
        """Keep what comes just before the spans that begin here."""
        if not change.is_held:
            return
        if self._before is None:
            raise TypeError(f"nothing comes before step {step} of {change.signal}")
        added = list(change.added)
        for place in places:
            if change.spans[place][0] == step:
                added[place] = self._before[change.rows[place]][list(change.units)][None].clone()
        change.added = added


def _active(change: Change, step: int) -> list[int]:
    """Which of its rows, counted from 0, it edits at this step."""
    return [place for place, (start, stop) in enumerate(change.spans) if start <= step < stop]


def _added(change: Change, place: int, step: int, steps: int) -> np.ndarray:
    """(step, unit) of one row from this step on."""
    values = change.added[place].numpy(force=True)
    if len(values) == 1:
        return np.broadcast_to(values, (steps, values.shape[1]))
    start = step - change.spans[place][0]
    return values[start : start + steps]
