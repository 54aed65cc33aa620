"""NumPy's .npz: a trace's arrays, and the other fields as JSON in an array named `metadata`."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np

from gatescope.server.api import offload
from gatescope.server.api.codecs import arrays
from gatescope.server.api.codecs.codec import Fields, ReplyKind, ReplyWriter
from gatescope.server.api.codecs.json import writing

_HEADERS_BYTES = 1024
"""More than what stands around an array in the file."""


class Npz(ReplyWriter):
    """Uncompressed files that `np.load` reads. The same trace makes the same file: `np.savez` dates it 1980."""

    media_type = "application/x-npz"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("trace",))
    max_loop_bytes = 4 * offload.MAX_LOOP_BYTES

    def encode(self, reply: Fields) -> memoryview:
        """The file."""
        named, rest = arrays.split(reply)
        named["metadata"] = np.array(writing.dumps(rest).decode())
        file = _sized(sum(array.nbytes + _HEADERS_BYTES for array in named.values()))
        np.savez(file, **named)  # type: ignore[arg-type]
        return file.getbuffer()[: file.tell()]


def _sized(size: int) -> io.BytesIO:
    """An empty file with room for so many bytes: one that grows is copied again and again."""
    file = io.BytesIO()
    file.seek(size)
    file.write(b"\0")
    file.seek(0)
    return file
