"""A process of its own that reads an HDF5 file: `python -m …hdf5_reader OFFSET SIZE < file`.

The HDF5 library is written in C and was not made for files that somebody else wrote. So it runs here, with little
memory and time, and whatever it does to this process harms no other. What is read goes to standard output as a
safetensors file: the arrays by their paths, and in its metadata the texts that stand in attributes.

A file of Keras holds plain arrays, one behind the other. Whatever else HDF5 knows is refused: links, other files,
filters, chunks, references, and more numbers than the file has bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
from collections.abc import Iterator
from math import prod
from typing import Any, BinaryIO

import numpy as np

from gatescope import safetensors_file

REFUSED = 3
"""The exit status where standard error has the reason in one line."""

MEMORY_BYTES = 2 * 2**30  # beside four times the file: what Python, NumPy and HDF5 map
CPU_S = 10  # beside one for each 50 MB of the file
CPU_BYTES_PER_S = 50_000_000
MOST_OBJECTS = 100_000
MOST_LEVELS = 32
MOST_TEXTS = 100_000
LONGEST_TEXT = 16 * 2**20

SKIPPED = frozenset({"optimizer", "optimizer_weights"})
"""What stands at the top and is no weight."""

TEXTS = ("model_config", "keras_version", "backend")
LISTS = ("layer_names", "weight_names")


class Refused(Exception):
    """Why the file is not read."""


class Window(io.RawIOBase):
    """A part of a file, which is all that there is."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._offset, self._size, self._position = descriptor, offset, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        """As of a file."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """As of a file; beyond the end there is nothing."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._position))
        done = os.preadv(self._descriptor, [view[:count]], self._offset + self._position) if count else 0
        self._position += done
        return done


class Reader:
    """Walks through a file and keeps what it holds.

    Args:
        h5py: the package.
        size: of the file in bytes.
    """

    def __init__(self, h5py: Any, size: int) -> None:
        self._h5py, self._size, self._taken = h5py, size, 0
        self._seen: set[int] = set()
        self.arrays: dict[str, np.ndarray] = {}
        self.texts: dict[str, dict[str, Any]] = {}

    def walk(self, file: Any) -> None:
        """Read every group and dataset below the top."""
        waiting = [("", file.id, 0)]
        while waiting:
            path, group, level = waiting.pop()
            self._enter(path, group, level)
            self._read_texts(path, group)
            for name, inner in self._inside(path, group):
                below = f"{path}/{name}" if path else name
                if isinstance(inner, self._h5py.h5g.GroupID):
                    waiting.append((below, inner, level + 1))
                elif isinstance(inner, self._h5py.h5d.DatasetID):
                    self._enter(below, inner, level)
                    self.arrays[below] = self._array(below, inner)
                else:
                    raise Refused(f"'{below}' is a named type, which Keras does not write")

    def _enter(self, path: str, thing: Any, level: int) -> None:
        address = self._h5py.h5o.get_info(thing).addr
        if address in self._seen:
            raise Refused(f"'{path}' stands in it twice, as Keras does not write it")
        self._seen.add(address)
        if level > MOST_LEVELS or len(self._seen) > MOST_OBJECTS:
            raise Refused(f"it is nested deeper than {MOST_LEVELS}, or has more than {MOST_OBJECTS} parts")

    def _inside(self, path: str, group: Any) -> Iterator[tuple[str, Any]]:
        if group.get_num_objs() > MOST_OBJECTS:
            raise Refused(f"'{path}' has more than {MOST_OBJECTS} parts")
        for raw in group:
            name = raw.decode("utf-8", "backslashreplace")
            if not path and name in SKIPPED:
                continue
            if group.links.get_info(raw).type != self._h5py.h5l.TYPE_HARD:
                raise Refused(f"'{path}/{name}' is a link to somewhere else, which is not followed")
            yield name, self._h5py.h5o.open(group, raw)

    def _array(self, path: str, dataset: Any) -> np.ndarray:
        dtype, shape, plan = self._dtype(path, dataset), dataset.shape, dataset.get_create_plist()
        layout = plan.get_layout()
        is_plain = layout in (self._h5py.h5d.COMPACT, self._h5py.h5d.CONTIGUOUS) and not plan.get_nfilters()
        if not is_plain or plan.get_external_count():
            raise Refused(f"'{path}' is compressed, in chunks or in another file; Keras writes plain arrays")
        size = prod(shape) * dtype.itemsize
        self._taken += size
        if not size:
            return np.empty(shape, dtype)
        if self._taken > self._size or dataset.get_storage_size() != size:
            raise Refused(f"'{path}' is said to have {size} bytes of numbers, which the file does not have")
        start = dataset.get_offset()
        if start is not None and start + size > self._size:
            raise Refused(f"'{path}' ends behind the end of the file")
        values = np.empty(shape, dtype)
        dataset.read(self._h5py.h5s.ALL, self._h5py.h5s.ALL, values)
        return values.astype(dtype.newbyteorder("="), copy=False)

    def _dtype(self, path: str, dataset: Any) -> np.dtype:
        try:
            dtype = dataset.dtype
        except (TypeError, ValueError):
            dtype = np.dtype("V1")
        if dtype.kind not in "fiu" or dtype.itemsize not in (1, 2, 4, 8) or dtype.hasobject:
            raise Refused(f"'{path}' holds no plain numbers")
        return dtype  # type: ignore[no-any-return]

    def _read_texts(self, path: str, group: Any) -> None:
        found: dict[str, Any] = {}
        for index in range(self._h5py.h5a.get_num_attrs(group)):
            attribute = self._h5py.h5a.open(group, index=index)
            name = attribute.name.decode("utf-8", "backslashreplace")
            if name in TEXTS or name.rstrip("0123456789") in LISTS:
                found[name] = self._text(path, name, attribute)
        if found:
            self.texts[path] = found

    def _text(self, path: str, name: str, attribute: Any) -> Any:
        kind, count = attribute.get_type(), prod(attribute.shape)
        if not count:
            return []
        if count > MOST_TEXTS or attribute.get_storage_size() > self._size:
            raise Refused(f"its attribute '{name}' at '{path}' is too long")
        if not isinstance(kind, self._h5py.h5t.TypeStringID):
            raise Refused(f"its attribute '{name}' at '{path}' is no text")
        values = np.empty(attribute.shape, attribute.dtype)
        attribute.read(values)
        texts = [_decoded(path, name, value) for value in values.reshape(-1).tolist()]
        return texts if attribute.shape else texts[0]


def _decoded(path: str, name: str, value: Any) -> str:
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if not isinstance(raw, bytes) or len(raw) > LONGEST_TEXT:
        raise Refused(f"its attribute '{name}' at '{path}' is too long")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused(f"its attribute '{name}' at '{path}' is no UTF-8 text") from None


def limit(size: int) -> None:
    """Take memory and time from this process that a file of this size does not need."""
    for kind, most in (
        (resource.RLIMIT_AS, 4 * size + MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S + size // CPU_BYTES_PER_S),
    ):
        _, hard = resource.getrlimit(kind)
        with contextlib.suppress(ValueError, OSError):  # some systems do not limit the memory of a process
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def main(offset: int, size: int, descriptor: int, out: BinaryIO) -> None:
    """Read the file and write what it holds."""
    limit(size)
    import h5py  # noqa: PLC0415 - within the limits

    with h5py.File(io.BufferedReader(Window(descriptor, offset, size)), "r") as file:
        reader = Reader(h5py, size)
        reader.walk(file)
    out.write(safetensors_file.write(reader.arrays, {"texts": json.dumps(reader.texts)}))


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.fileno(), sys.stdout.buffer)
    except Refused as error:
        print(error, file=sys.stderr)  # noqa: T201 - to the process that asks
        sys.exit(REFUSED)
