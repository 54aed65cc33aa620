"""`OnBits`: at which steps each unit of one signal is on, one bit each, for searches in memory that is mapped."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.zarr_store import Reader

_ROWS = 2**16
"""Steps that are read at a time."""
_WORD = 64

_PARTS = ("units", "steps")


@dataclass(frozen=True)
class OnBits:
    """The bits of all steps of all sequences; before each sequence and behind the last one is a place that is off.

    Step s of sequence n has the place `offsets[n] + n + 1 + s`.
    """

    by_unit: np.ndarray
    """(unit, places / 8) uint8, the lowest bit first."""
    by_place: np.ndarray
    """(place, units / 64) uint64: bit u of a row is unit u's."""
    offsets: np.ndarray
    """(sequence + 1,)."""

    @property
    def places(self) -> int:
        """How many there are."""
        return len(self.by_place)

    def runs(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each of a unit's runs begins, and the place behind it."""
        on = np.unpackbits(self.by_unit[unit], count=self.places, bitorder="little")
        changes = np.flatnonzero(on[1:] != on[:-1]) + 1  # the first place and the last one are off
        return changes[::2], changes[1::2]

    def sequences_of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sequence and the step of each place that is one."""
        firsts = self.offsets[:-1] + np.arange(len(self.offsets) - 1) + 1
        sequences = np.searchsorted(firsts, places, side="right") - 1
        return sequences, places - firsts[sequences]


def build(
    reader: Reader,
    place: tuple[str, int, int],
    threshold: float,
    folder: Path,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> OnBits:
    """The bits of one signal, layer and direction: made if they are not in the folder yet.

    A unit is on where its value is at least the threshold, both as float32.

    Args:
        reader: of the traces.
        place: the signal, and of the layer and the direction which of those in the file.
        threshold: of the signal.
        folder: where bits are kept.
        is_cancelled: asked now and then.

    Raises:
        InterruptedError: it was cancelled.
    """
    name = f"{place[0]}-{place[1]}-{place[2]}-{float(np.float32(threshold)).hex()}"
    files = [folder / f"{name}.{part}.npy" for part in _PARTS]
    if not all(file.exists() for file in files):
        folder.mkdir(parents=True, exist_ok=True)
        arrays = _computed(reader, place, threshold, is_cancelled)
        for file, values in zip(files, arrays, strict=True):
            part = file.with_name(f"{secrets.token_hex(8)}.part")
            with part.open("wb") as written:
                np.save(written, values)
            part.replace(file)
    by_unit, by_place = (np.load(file, mmap_mode="r") for file in files)
    for file in files:
        file.touch()
    return OnBits(by_unit, by_place, reader.offsets)


def _computed(
    reader: Reader, place: tuple[str, int, int], threshold: float, is_cancelled: Callable[[], bool]
) -> tuple[np.ndarray, np.ndarray]:
    signal, layer, direction = place
    array: Any = reader.signals[signal]
    offsets = reader.offsets
    steps, units = int(offsets[-1]), array.shape[-1]
    places, words = steps + len(offsets), -(-units // _WORD)
    by_place = np.zeros((places, words * 8), dtype=np.uint8)
    for first in range(0, steps, _ROWS):
        _go_on(is_cancelled)
        on = np.asarray(array[first : min(first + _ROWS, steps), layer, direction]) >= np.float32(threshold)
        rows = np.arange(first, first + len(on))
        rows += np.searchsorted(offsets, rows, side="right")  # one place before each sequence so far
        packed = np.packbits(on, axis=1, bitorder="little")
        by_place[rows, : packed.shape[1]] = packed
    by_unit = np.zeros((units, -(-places // 8)), dtype=np.uint8)
    for first in range(0, places, _ROWS):
        _go_on(is_cancelled)
        bits = np.unpackbits(by_place[first : first + _ROWS], axis=1, count=units, bitorder="little")
        packed = np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little")
        by_unit[:, first // 8 : first // 8 + packed.shape[1]] = packed
    return by_unit, by_place.view("<u8")


def _go_on(is_cancelled: Callable[[], bool]) -> None:
    if is_cancelled():
        raise InterruptedError("nobody waits for it any more")
