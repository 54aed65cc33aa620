"""NumPy's .npz: a trace's arrays, and the other fields as JSON in an array named `metadata`."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np

from gatescope.server.api import offload
from gatescope.server.api.codecs import arrays
from gatescope.server.api.codecs.codec import Fields, ReplyKind, ReplyWriter
from gatescope.server.api.codecs.json import writing


class Npz(ReplyWriter):
    """Uncompressed files that `np.load` reads. The same trace makes the same file: `np.savez` dates it 1980."""

    media_type = "application/x-npz"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("trace",))
    max_loop_bytes = 4 * offload.MAX_LOOP_BYTES

    def encode(self, reply: Fields) -> memoryview:
        """The file."""
        named, rest = arrays.split(reply)
        file = io.BytesIO()
        np.savez(file, **named, metadata=np.array(writing.dumps(rest).decode()))  # type: ignore[arg-type]
        return file.getbuffer()
