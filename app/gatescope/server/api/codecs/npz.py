"""NumPy's .npz: a trace's arrays, and the other fields as JSON in an array named `metadata`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import IO, ClassVar

import numpy as np

from gatescope.server.api import offload
from gatescope.server.api.codecs import arrays
from gatescope.server.api.codecs.codec import Fields, ReplyKind, ReplyWriter
from gatescope.server.api.codecs.json import writing

_HEADERS_BYTES = 1024
"""More than what stands around an array in the file."""

_BLOCK_BYTES = 1024 * 1024
"""Of an array that is copied and written in one go: it stays in the processor's cache meanwhile."""


class Npz(ReplyWriter):
    """Uncompressed files that `np.load` reads. The same trace makes the same file: its parts are dated 1980."""

    media_type = "application/x-npz"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("trace", "intervention"))
    max_loop_bytes = 4 * offload.MAX_LOOP_BYTES

    def encode(self, reply: Fields) -> memoryview:
        """The file."""
        named, rest = arrays.split(reply)
        named["metadata"] = np.array(writing.dumps(rest).decode())
        file = _sized(sum(array.nbytes + _HEADERS_BYTES for array in named.values()))
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in named.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    _write(member, array)
        return file.getbuffer()[: file.tell()]


def _sized(size: int) -> io.BytesIO:
    """An empty file with room for so many bytes: one that grows is copied again and again."""
    file = io.BytesIO()
    file.seek(size)
    file.write(b"\0")
    file.seek(0)
    return file


def _write(file: IO[bytes], array: np.ndarray) -> None:
    """What `np.save` writes, in smaller blocks (decision 22)."""
    described = np.lib.format.header_data_from_array_1_0(array) | {"fortran_order": False}
    np.lib.format.write_array_header_1_0(file, described)
    file.writelines(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data for block in _blocks(array))


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in blocks, row after row."""
    if array.nbytes <= _BLOCK_BYTES or not array.ndim:
        yield array
    elif array[0].nbytes > _BLOCK_BYTES:
        for row in array:
            yield from _blocks(row)
    else:
        at_once = _BLOCK_BYTES // array[0].nbytes
        for first in range(0, len(array), at_once):
            yield array[first : first + at_once]
