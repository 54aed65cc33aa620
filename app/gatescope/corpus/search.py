"""`search`: where a pattern of units comes again (Strobelt et al. 2018, LSTMVis, arXiv:1606.07461).

A unit belongs to a span of steps where it is off before it, on throughout, and off behind it; before a sequence and
behind its end all are off. Spans are ranked by how many of the selected units belong to them, then by how few others
do, then by their length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gatescope.corpus.index import Index

_VALUES_AT_ONCE = 2**20
"""Places times units whose spans are looked at together: they stay in the cache of a core."""


class Place(NamedTuple):
    """A span of one sequence."""

    sequence: int
    start: int
    stop: int
    units: tuple[int, ...]
    """Those selected ones that belong to it."""
    union: int
    """How many are selected or belong to it."""


class Found(NamedTuple):
    """What a search has found."""

    places: list[Place]
    """The best, the best first."""
    total: int
    """To how many spans at least one selected unit belongs."""


def pattern_units(values: np.ndarray, start: int, stop: int, threshold: float) -> list[int]:
    """The units that belong to a span.

    Args:
        values: (step, unit) of a whole sequence.
        start: the first step of the span.
        stop: the step behind it.
        threshold: a unit is on where its value is at least this, both as float32.
    """
    on = np.pad(values >= np.float32(threshold), ((1, 1), (0, 0)))
    belong = on[start + 1 : stop + 1].all(axis=0) & ~on[start] & ~on[stop + 1]
    found: list[int] = np.flatnonzero(belong).tolist()
    return found


def search(index: Index, units: Sequence[int], most: int) -> Found:
    """The spans to which most of some units belong.

    It takes as long as the runs of all units are many, whichever are selected.

    Args:
        index: of the sequences.
        units: the selected ones.
        most: so many places are told.
    """
    selected = np.zeros(index.width, dtype=np.uint8)
    selected[list(units)] = 1
    best, total = _Ranked.none(), 0
    for block in _blocks(index):
        agreeing = block.sums(selected)
        total += int(np.count_nonzero(agreeing))
        best = best.with_block(index, block, agreeing, most)
    sequences, steps = index.sequences_of(best.starts)
    groups = [index.units[run : run + size] for run, size in zip(best.runs.tolist(), best.sizes.tolist(), strict=True)]
    agree = [tuple(group[selected[group] == 1].tolist()) for group in groups]
    places = [
        Place(sequence, step, step + length, those, len(units) + len(group) - len(those))
        for sequence, step, length, those, group in zip(
            sequences.tolist(), steps.tolist(), best.lengths.tolist(), agree, groups, strict=True
        )
    ]
    return Found(places, total)


class _Block(NamedTuple):
    """The spans that end at some places, one behind the other."""

    place: int
    """The first of these places."""
    span: int
    """The index of the first span."""
    run: int
    """The index of its first run."""
    ended: np.ndarray
    """(place,) how many of the spans end up to each place."""
    behind: np.ndarray
    """(span,) how many of the runs are of the spans up to each one."""
    units: np.ndarray
    """(run,)."""

    def sums(self, numbers: np.ndarray) -> np.ndarray:
        """(span,) the sum of a number of each unit over the units of each span."""
        sums = np.zeros(len(self.units) + 1, dtype=np.int32)
        np.cumsum(numbers[self.units], dtype=np.int32, out=sums[1:])
        return np.diff(sums[self.behind], prepend=0)


def _blocks(index: Index) -> Iterator[_Block]:
    at_once, span, run = max(1, _VALUES_AT_ONCE // index.width), 0, 0
    for place in range(0, len(index.ending), at_once):
        ended = np.cumsum(index.ending[place : place + at_once], dtype=np.int64)
        if spans := int(ended[-1]):
            behind = np.cumsum(index.sizes[span : span + spans], dtype=np.int64)
            runs = int(behind[-1])
            yield _Block(place, span, run, ended, behind, index.units[run : run + runs])
            span, run = span + spans, run + runs


class _Ranked(NamedTuple):
    """Spans, the best first; each has the same index in all arrays."""

    ranks: np.ndarray
    """More agreeing units, then fewer others, then more steps make a larger number."""
    agreeing: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    runs: np.ndarray
    """The index of the first run."""
    sizes: np.ndarray

    @classmethod
    def none(cls) -> _Ranked:
        """No spans."""
        return cls(*(np.zeros(0, dtype=np.int64) for _ in cls._fields))

    def with_block(self, index: Index, block: _Block, agreeing: np.ndarray, most: int) -> _Ranked:
        """The best of these spans and those of the next block; among equals the earlier ones."""
        is_full = len(self.ranks) == most
        some = np.flatnonzero(agreeing >= (self.agreeing[-1] if is_full else 1))
        if not len(some):
            return self
        agree, at = agreeing[some].astype(np.int64), block.span + some
        sizes, lengths = index.sizes[at].astype(np.int64), index.lengths[at].astype(np.int64)
        radix = int(np.diff(index.offsets).max()) + 1
        ranks = (agree * (index.width + 1) + index.width - (sizes - agree)) * radix + lengths
        starts = block.place + np.searchsorted(block.ended, some, side="right") - lengths
        runs = block.run + block.behind[some] - sizes
        found = _Ranked(ranks, agree, starts, lengths, runs, sizes)
        if is_full:
            found = found.at(np.flatnonzero(ranks > self.ranks[-1]))
        both = _Ranked(*map(np.concatenate, zip(self, found, strict=True)))
        return both.at(np.argsort(-both.ranks, kind="stable")[:most])

    def at(self, which: np.ndarray) -> _Ranked:
        """Some of them."""
        return _Ranked(*(values[which] for values in self))
