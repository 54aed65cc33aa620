"""Named arrays as one .npz file in memory; strided arrays are copied once, straight to their place."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping

import numpy as np

_DIRECTORY_BYTES = 1024  # more than the headers of one array in a zip file take
_BLOCK_BYTES = 1024 * 1024


def npz(arrays: Mapping[str, np.ndarray]) -> memoryview:
    """An uncompressed file that `np.load` reads."""
    file = _Buffer(_size(arrays) + _DIRECTORY_BYTES * (len(arrays) + 1))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: the same trace makes the same file
            with archive.open(entry, "w", force_zip64=True) as member:
                member.write(_npy_header(array))
                for block in _blocks(array):
                    member.write(block)
    return file.written()


def _npy_header(array: np.ndarray) -> bytes:
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _blocks(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array in C order: as they lie, where they lie together, else copied some at a time."""
    if not array.size:
        return
    if array.flags.c_contiguous:
        yield array.reshape(-1).view(np.uint8).data
    elif array.ndim > 1 and array[0].nbytes > _BLOCK_BYTES:
        for part in array:
            yield from _blocks(part)
    else:
        at_once = max(1, _BLOCK_BYTES * len(array) // array.nbytes)
        for first in range(0, len(array), at_once):
            yield np.ascontiguousarray(array[first : first + at_once]).reshape(-1).view(np.uint8).data


def _size(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


class _Buffer(io.RawIOBase):
    """A file of at most so many bytes, in memory that is neither zeroed nor moved as it grows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._bytes = np.empty(size, dtype=np.uint8)
        self._position = self._end = 0

    def writable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is: a zip file's sums are written back before the data."""
        return True

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        self._position = base + offset
        return self._position

    def write(self, data: memoryview | bytes) -> int:  # type: ignore[override]
        """Put the data here."""
        values = np.frombuffer(data, dtype=np.uint8)
        self._bytes[self._position : self._position + len(values)] = values
        self._position += len(values)
        self._end = max(self._end, self._position)
        return len(values)

    def written(self) -> memoryview:
        """All of it."""
        return self._bytes[: self._end].data
