"""`Writer`: records into a folder, in blocks."""

from __future__ import annotations

import json
import time
import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.records import About, Record
from gatescope.zarr_store.layout import (
    BOUNDARY,
    DATES,
    OFFSETS,
    PREDICTED,
    SCHEMA_VERSION,
    SEQUENCE,
    STEP,
    TIMES,
    arrays_of,
    created,
    need,
    opened,
)

_BLOCK_BYTES = 2**21
_LEAST_BLOCK, _MOST_BLOCK = 2**8, 2**16
_CHECKPOINT_S = 1.0
_PROGRESS = "progress.json"


class Writer:
    """Appends records to a folder; a context manager that finishes it unless something is raised.

    Args:
        path: a folder that is not there yet, or that was not finished.
        about: what the records have in common.
        resume: go on with what is there; `len` says how many records that are.

    Raises:
        InvalidInput: the folder is there already, or what is to be resumed was begun about something else.
        ModuleNotFoundError: zarr is not installed.
    """

    def __init__(self, path: Path, about: About, *, resume: bool = False) -> None:
        need()
        self._path, self._about = path, about
        self._tracks: dict[str, _Track] = {}
        self._ends = deque[tuple[int, dict[str, int]]]()  # of records that are not all on disk: how many, and rows
        self._count = self._safe = 0
        self._rows = {STEP: 0, PREDICTED: 0}
        self._checked_at = 0.0
        if resume and (path / _PROGRESS).exists():
            self._resume()
        elif path.exists() and not (resume and not any(path.iterdir())):
            unfinished = " and unfinished: resume it" if (path / _PROGRESS).exists() else ""
            raise InvalidInput(f"{path} is there already{unfinished}, or remove it")
        else:
            path.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """How many records there are."""
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def append(self, record: Record) -> None:
        """Add a record; it is kept in memory until its blocks are full.

        Raises:
            InvalidInput: it has other arrays than the first.
        """
        arrays = arrays_of(record)
        if not self._tracks:
            self._begin(arrays)
        if set(arrays) != set(self._tracks) - set(OFFSETS.values()):
            other = sorted(set(arrays) ^ (set(self._tracks) - set(OFFSETS.values())))
            raise InvalidInput(f"{self._path}: record {self._count} differs from the first in {', '.join(other)}")
        for name, (_, values) in arrays.items():
            self._tracks[name].append(values)
        self._rows[STEP] += record.steps
        self._rows[PREDICTED] += 0 if record.prediction is None else len(record.prediction)
        for axis, name in OFFSETS.items():
            if name in self._tracks:
                self._tracks[name].append(np.array([self._rows[axis]]))
        self._count += 1
        self._ends.append((self._count, dict(self._rows)))
        if time.monotonic() - self._checked_at > _CHECKPOINT_S:
            self._checkpoint()

    def close(self) -> None:
        """Write the rest and, last of all, what makes the folder a Zarr group."""
        import zarr  # noqa: PLC0415 - an extra, wanted for this alone

        for track in self._tracks.values():
            track.close()
        self._write_coordinates()
        if any(name.startswith("signals/") for name in self._tracks):
            zarr.open_group(str(self._path / "signals"), mode="a", zarr_format=3)
        shown = " ".join(name for name in ("ids", *TIMES, "prediction_steps") if name in self._tracks)
        told = {"schema_version": SCHEMA_VERSION, "sequences": self._count, **self._about.attributes()}
        zarr.open_group(
            str(self._path), mode="a", zarr_format=3, attributes=told | ({"coordinates": shown} if shown else {})
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the specification has no word for it yet; xarray asks for it
            zarr.consolidate_metadata(str(self._path), zarr_format=3)
        (self._path / _PROGRESS).unlink(missing_ok=True)

    def _begin(self, arrays: Mapping[str, tuple[tuple[str, ...], np.ndarray]]) -> None:
        widest = max(values.nbytes // max(1, len(values)) for _, values in arrays.values())
        block = 2 ** int(np.log2(max(1, _BLOCK_BYTES // max(1, widest))))
        self._block = min(max(block, _LEAST_BLOCK), _MOST_BLOCK)
        for name, (axes, values) in arrays.items():
            array = created(self._path / name, axes, values, self._block, self._attributes(name, values))
            self._tracks[name] = _Track(array, axes, self._block)
        for axis, name in OFFSETS.items():
            if axis == STEP or any(track.axis == axis for track in self._tracks.values()):
                first = np.zeros(1, dtype=np.int64)
                array = created(self._path / name, (BOUNDARY,), first, self._block, {})
                self._tracks[name] = _Track(array, (BOUNDARY,), self._block)
                self._tracks[name].append(first)
        self._note(0)

    def _attributes(self, name: str, values: np.ndarray) -> dict[str, Any]:
        if name in TIMES:
            return DATES if values.dtype.kind == "M" else {}
        signal = self._about.signals.get(name.removeprefix("signals/"))
        return {} if signal is None else signal.attributes()

    def _write_coordinates(self) -> None:
        about = self._about
        named = {
            "layer": np.array(about.layers, dtype=np.int64),
            "direction": np.array(about.directions, dtype=object),
            "unit": np.array(about.units, dtype=np.int64),
            "feature": np.array(about.features, dtype=object),
            "output": np.array(about.outputs, dtype=object),
            "target": np.array(about.targets, dtype=object),
        }
        used = {axis: track.width(axis) for track in self._tracks.values() for axis in track.axes[1:]}
        for name, values in named.items():
            if used.get(name) == len(values) > 0:
                track = _Track(created(self._path / name, (name,), values, len(values), {}), (name,), len(values))
                track.append(values)
                track.close()

    def _checkpoint(self) -> None:
        """Note how many records are on disk as a whole, for `resume`."""
        self._checked_at = time.monotonic()
        written = {
            axis: min((track.written for track in self._tracks.values() if track.axis == axis), default=2**62)
            for axis in (STEP, PREDICTED)
        }
        safe = self._safe
        while self._ends and all(rows <= written[axis] for axis, rows in self._ends[0][1].items()):
            safe, _ = self._ends.popleft()
        if safe == self._safe:
            return
        self._safe = safe
        self._note(safe)

    def _note(self, safe: int) -> None:
        """Write down how many records are on disk as a whole."""
        for track in self._tracks.values():
            if track.axis in {SEQUENCE, BOUNDARY}:
                track.flush()
        axes = {name: track.axes for name, track in self._tracks.items()}
        told = {"sequences": safe, "block_steps": self._block, "axes": axes, "about": _told(self._about)}
        part = self._path / f"{_PROGRESS}.part"
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(self._path / _PROGRESS)

    def _resume(self) -> None:
        told = json.loads((self._path / _PROGRESS).read_text(encoding="utf-8"))
        if told["about"] != _told(self._about):
            raise InvalidInput(f"{self._path} was begun about something else: {json.dumps(told['about'])[:500]}")
        self._count = self._safe = told["sequences"]
        self._block = told["block_steps"]
        rows = {SEQUENCE: self._count, BOUNDARY: self._count + 1}
        for axis, name in OFFSETS.items():
            if name in told["axes"]:
                rows[axis] = self._rows[axis] = int(opened(self._path / name)[self._count])
        for name, axes in told["axes"].items():
            self._tracks[name] = _Track(opened(self._path / name), tuple(axes), self._block, rows[axes[0]])


def records_kept(path: Path) -> int | None:
    """How many records of an unfinished folder are on disk, with which `Writer` goes on; None of any other folder."""
    if not (path / _PROGRESS).exists():
        return None
    return int(json.loads((path / _PROGRESS).read_text(encoding="utf-8"))["sequences"])


class _Track:
    """One array, whose rows are written in whole blocks; what does not fill one yet is kept in memory."""

    def __init__(self, array: Any, axes: tuple[str, ...], block: int, rows: int = 0) -> None:
        """Of an array, of which the first `rows` rows are kept."""
        self.axes, self._array, self._block = axes, array, block
        self.written = rows // block * block
        self._kept = rows - self.written
        self._pending: list[np.ndarray] = [array[self.written : rows]] if self._kept else []

    @property
    def axis(self) -> str:
        """That of its rows."""
        return self.axes[0]

    def width(self, axis: str) -> int:
        """How many entries a row has along an axis."""
        return int(self._array.shape[self.axes.index(axis)])

    def append(self, values: np.ndarray) -> None:
        """Add rows."""
        self._pending.append(values.astype("datetime64[us]").astype(np.int64) if values.dtype.kind == "M" else values)
        self._kept += len(values)
        if self._kept < self._block:
            return
        joined = np.concatenate(self._pending)
        full = len(joined) // self._block * self._block
        self._write(joined[:full])
        self.written += full
        self._pending, self._kept = [joined[full:]], len(joined) - full

    def flush(self) -> None:
        """Write what is kept, too; it is written again with what comes."""
        self._write(self._rest())

    def close(self) -> None:
        """Write the rest; the array then has as many rows as were added."""
        self._resize(self.written + self._kept)
        self._write(self._rest())

    def _rest(self) -> np.ndarray | None:
        return np.concatenate(self._pending) if self._kept else None

    def _write(self, values: np.ndarray | None) -> None:
        if values is None:
            return
        stop = self.written + len(values)
        if stop > self._array.shape[0]:
            self._resize(2 * -(-stop // self._block) * self._block)  # each time its metadata are written
        self._array[self.written : stop] = values

    def _resize(self, rows: int) -> None:
        if rows != self._array.shape[0]:
            self._array.resize((rows, *self._array.shape[1:]))


def _told(about: About) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(asdict(about)))
