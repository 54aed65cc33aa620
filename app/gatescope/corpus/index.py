"""`Index`: the runs of all units of one signal, gathered by span, for searches in memory that is mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from gatescope.zarr_store import Reader

_ROWS = 2**13
"""Steps that are read at a time: their bits stay in the cache of a core."""
_TRANSPOSED = 2**10
"""Places that are transposed at a time; 2 times as fast as all of a block."""

_UNIT_BITS, _LENGTH_BITS = np.uint64(16), np.uint64(32)
"""Of the numbers by which runs are sorted."""


@dataclass(frozen=True)
class Index:
    """The spans to which at least one unit belongs, by the place where they end, then by length; and their units.

    Step s of sequence n has the place `offsets[n] + n + s`: behind each sequence is a place at which all units are off.
    """

    ending: np.ndarray
    """(place,): how many spans end at each place, which is the one behind them."""
    lengths: np.ndarray
    """(span,): of each span, in steps."""
    sizes: np.ndarray
    """(span,): how many units belong to each."""
    units: np.ndarray
    """(run,): which ones, a span's in their order, span after span."""
    offsets: np.ndarray
    """(sequence + 1,): where sequences begin, in steps."""
    width: int
    """How many units the signal has."""

    def sequences_of(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sequence and the step of each place that is one."""
        firsts = self.offsets[:-1] + np.arange(len(self.offsets) - 1)
        sequences = np.searchsorted(firsts, places, side="right") - 1
        return sequences, places - firsts[sequences]


def build(
    reader: Reader,
    place: tuple[str, int, int],
    threshold: float,
    folder: Path,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Index:
    """The index of one signal, layer and direction: made if it is not in the folder yet.

    A unit is on where its value is at least the threshold, both as float32.

    Args:
        reader: of the traces.
        place: the signal, and of the layer and the direction which of those in the file.
        threshold: of the signal.
        folder: where indexes are kept.
        is_cancelled: asked now and then.

    Raises:
        InterruptedError: it was cancelled.
    """
    kept = folder / f"{place[0]}-{place[1]}-{place[2]}-{float(np.float32(threshold)).hex()}"
    width = reader.signals[place[0]].shape[-1]
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=folder) as part:
            _write(Path(part) / "index", reader, place, threshold, is_cancelled)
            with suppress(FileExistsError):  # another search was faster
                (Path(part) / "index").rename(kept)
    arrays = {name: np.load(kept / f"{name}.npy", mmap_mode="r") for name in _PARTS}
    return Index(**arrays, offsets=reader.offsets, width=width)


_PARTS = [field.name for field in fields(Index) if field.name not in {"offsets", "width"}]


class _Runs(NamedTuple):
    """Runs of units: each begins at the place `starts` and ends before the place `stops`."""

    units: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def _write(
    folder: Path, reader: Reader, place: tuple[str, int, int], threshold: float, is_cancelled: Callable[[], bool]
) -> None:
    width = reader.signals[place[0]].shape[-1]
    dtypes = {
        "ending": np.min_scalar_type(width),
        "lengths": np.min_scalar_type(int(np.diff(reader.offsets).max(initial=0))),
        "sizes": np.min_scalar_type(width),
        "units": np.min_scalar_type(width - 1),
    }
    folder.mkdir()
    with ExitStack() as stack:
        files = {name: stack.enter_context(_Column(folder / f"{name}.npy", dtype)) for name, dtype in dtypes.items()}
        begin, since = 0, np.full(width, -1)  # where each unit's run has begun that goes on
        for on in _blocks(reader, place, threshold):
            if is_cancelled():
                raise InterruptedError("nobody waits for it any more")
            runs, since = _ended_in(on, begin, since)
            for name, values in _gathered(runs, begin, on.shape[1]).items():
                files[name].append(values)
            begin += on.shape[1]


def _blocks(reader: Reader, place: tuple[str, int, int], threshold: float) -> Iterator[np.ndarray]:
    """(unit, place) whether each unit is on, block after block."""
    signal, layer, direction = place
    array: Any = reader.signals[signal]
    offsets, steps, begin = reader.offsets, array.shape[0], 0
    for first in range(0, steps, _ROWS):
        rows = np.arange(first, min(first + _ROWS, steps))
        places = rows + np.searchsorted(offsets, rows, side="right") - 1
        stop = int(places[-1]) + 1 if rows[-1] + 1 < steps else steps + len(offsets) - 1
        on = np.zeros((stop - begin, array.shape[-1]), dtype=bool)
        on[places - begin] = np.asarray(array[first : first + len(rows), layer, direction]) >= np.float32(threshold)
        turned = np.empty(on.shape[::-1], dtype=bool)
        for some in range(0, len(on), _TRANSPOSED):
            turned[:, some : some + _TRANSPOSED] = on[some : some + _TRANSPOSED].T
        yield turned
        begin = stop


def _ended_in(on: np.ndarray, begin: int, since: np.ndarray) -> tuple[_Runs, np.ndarray]:
    """The runs that end in a block, and where those have begun that go on behind it.

    Args:
        on: (unit, place) of the block.
        begin: its first place.
        since: (unit,) where the runs have begun that go on before it; −1 of units that are off there.
    """
    places = on.shape[1]
    framed = np.zeros((len(on), places + 3), dtype=bool)  # off, the place before the block, the block, off
    framed[:, 1], framed[:, 2:-1] = since >= 0, on
    flat = framed.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    units, starts = np.divmod(changes[::2], framed.shape[1])
    stops = changes[1::2] - units * framed.shape[1] + (begin - 2)
    starts += begin - 2
    goes_on = starts < begin
    starts[goes_on] = since[units[goes_on]]
    is_open = stops == begin + places
    behind = np.full_like(since, -1)
    behind[units[is_open]] = starts[is_open]
    return _Runs(units[~is_open], starts[~is_open], stops[~is_open]), behind


def _gathered(runs: _Runs, begin: int, places: int) -> dict[str, np.ndarray]:
    """The same runs span by span: what `Index` has of a block."""
    # one number of each run, sorted: 2 times as fast as a sort by three keys
    keys = (runs.stops - begin).astype(np.uint64) << (_LENGTH_BITS + _UNIT_BITS)
    keys |= (runs.stops - runs.starts).astype(np.uint64) << _UNIT_BITS
    keys |= runs.units.astype(np.uint64)
    keys.sort()
    spans = keys >> _UNIT_BITS
    firsts = np.flatnonzero(np.diff(spans, prepend=~spans[:1]))
    ends = (spans[firsts] >> _LENGTH_BITS).astype(np.int64)
    return {
        "ending": np.bincount(ends, minlength=places),
        "lengths": spans[firsts] & np.uint64(2**32 - 1),
        "sizes": np.diff(firsts, append=len(keys)),
        "units": keys & np.uint64(2**16 - 1),
    }


class _Column:
    """An .npy file that is written row after row."""

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self._file, self._dtype, self._rows = path.open("wb"), dtype, 0

    def __enter__(self) -> Self:
        self._write_head()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.seek(0)
        self._write_head()
        self._file.close()

    def append(self, values: np.ndarray) -> None:
        values.astype(self._dtype).tofile(self._file)
        self._rows += len(values)

    def _write_head(self) -> None:
        """NumPy leaves room in it, so that it is as long for any number of rows."""
        head = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._rows,)}
        np.lib.format.write_array_header_1_0(self._file, head)
