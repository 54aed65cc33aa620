"""`Source`: an open file, read at given places and never past its length."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gatescope.errors import CheckpointError

CUT_OFF = "it is damaged or cut off; copy or save the file again"


@dataclass(frozen=True, eq=False)
class Source:
    """A regular file and its length in bytes when it was opened."""

    file: BinaryIO
    size: int

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; no memory is taken for bytes that the file does not have."""
        kept = min(length, self.size - offset)
        return os.pread(self.file.fileno(), kept, offset) if offset >= 0 and kept > 0 else b""

    def fill(self, buffer: memoryview, offset: int) -> None:
        """Fill the whole buffer with the bytes from `offset` on.

        Raises:
            CheckpointError: the file ends before.
        """
        done = 0
        while done < len(buffer):
            count = os.preadv(self.file.fileno(), [buffer[done:]], offset + done)
            if not count:
                raise CheckpointError(CUT_OFF)
            done += count


@contextmanager
def opened(path: Path, most_bytes: int) -> Iterator[Source]:
    """The file, open while the block runs.

    Raises:
        CheckpointError: it cannot be opened, is no regular file, or has more than `most_bytes`.
    """
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - closed below
    except OSError as error:
        raise CheckpointError(f"it cannot be read: {error.strerror or error}") from None
    except ValueError:  # a NUL in its name
        raise CheckpointError("it cannot be read: this is no name of a file") from None
    with file:
        yield Source(file, _size(file, most_bytes))


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody to write, as a named pipe would have it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _size(file: BinaryIO, most_bytes: int) -> int:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError("it is no regular file")
    if status.st_size > most_bytes:
        raise CheckpointError(
            f"it has {status.st_size} bytes, and at most {most_bytes} are read; save the weights alone"
        )
    return status.st_size
