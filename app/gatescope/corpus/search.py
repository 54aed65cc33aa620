"""`search`: where a pattern of units comes again (Strobelt et al. 2018, LSTMVis, arXiv:1606.07461).

A unit belongs to a span of steps where it is off before it, on throughout, and off behind it; before a sequence and
behind its end all are off. Spans are ranked by how many of the selected units belong to them, then by how few others
do, then by their length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gatescope.corpus.index import OnBits

_ROWS_AT_ONCE = 2**20
_WORD = 64


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


def search(bits: OnBits, units: Sequence[int], most: int) -> Found:
    """The spans to which most of some units belong.

    Args:
        bits: of the sequences.
        units: the selected ones, as indices.
        most: so many places are told.
    """
    runs = [bits.runs(unit) for unit in units]
    keys = np.concatenate([starts.astype(np.int64) * bits.places + stops for starts, stops in runs])
    if not len(keys):
        return Found([], 0)
    spans, counts = np.unique(keys, return_counts=True)
    least = np.sort(counts)[-min(most, len(counts))]  # what fewer belong to is not among the best
    is_good = counts >= least
    starts, stops = np.divmod(spans[is_good], bits.places)
    belonging = _belonging(bits, starts, stops)
    selected = _mask(units, belonging.shape[1])
    unions = len(units) + np.bitwise_count(belonging & ~selected).sum(axis=1)
    order = np.lexsort((starts, starts - stops, unions, -counts[is_good]))[:most]
    sequences, steps = bits.sequences_of(starts[order])
    lengths = stops[order] - starts[order]
    agreeing = _units_in(belonging[order] & selected)
    places = [
        Place(sequence, step, step + length, agree, union)
        for sequence, step, length, agree, union in zip(
            sequences.tolist(), steps.tolist(), lengths.tolist(), agreeing, unions[order].tolist(), strict=True
        )
    ]
    return Found(places, len(spans))


def _belonging(bits: OnBits, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """(span, word) which units belong to each span."""
    found = np.empty((len(starts), bits.by_place.shape[1]), dtype=np.uint64)
    ends = np.cumsum(stops - starts)
    first = 0
    while first < len(starts):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _ROWS_AT_ONCE, side="right")))
        some = slice(first, last)
        found[some] = _on_throughout(bits.by_place, starts[some], stops[some])
        first = last
    belonging: np.ndarray = found & ~bits.by_place[starts - 1] & ~bits.by_place[stops]
    return belonging


def _on_throughout(by_place: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """(span, word) which units are on at each place of a span."""
    lengths = stops - starts
    begins = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(starts - begins, lengths)
    together: np.ndarray = np.bitwise_and.reduceat(by_place[places], begins, axis=0)
    return together


def _mask(units: Sequence[int], words: int) -> np.ndarray:
    on = np.zeros(words * _WORD, dtype=np.uint8)
    on[list(units)] = 1
    mask: np.ndarray = np.packbits(on, bitorder="little").view("<u8")
    return mask


def _units_in(masks: np.ndarray) -> list[tuple[int, ...]]:
    on = np.unpackbits(np.ascontiguousarray(masks).view(np.uint8), axis=1, bitorder="little")
    return [tuple(np.flatnonzero(row).tolist()) for row in on]
