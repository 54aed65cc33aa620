"""Arrays of an .npz archive as plain data, read without trusting what it declares."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.lib import format as npy

from gatescope.checkpoints.companions.plain import Unreadable, shown

MOST_BYTES = 4 * 2**20
"""Of all its arrays together, unpacked."""

MOST_ENTRIES = 256
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
)


def parse(content: bytes) -> dict[str, Any]:
    """Each array by its name, as nested lists, numbers or text.

    Raises:
        Unreadable: it is no .npz archive, is too large, or holds an array of Python objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check(entries)
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except Unreadable:
        raise
    except _BROKEN as error:
        raise Unreadable(f"is no .npz archive that can be read: {error}") from None


def holds_arrays(content: bytes) -> bool:
    """Whether a zip archive holds .npy files and nothing else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except _BROKEN:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _check(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_ENTRIES:
        raise Unreadable(f"has {len(entries):,} arrays; up to {MOST_ENTRIES} are read")
    if sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise Unreadable(f"unpacks to more than the {MOST_BYTES:,} bytes that are read of such a file")
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise Unreadable("has two arrays of one name")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    name = shown(entry.filename)
    with archive.open(entry) as file:
        stored = io.BytesIO(file.read(MOST_BYTES + 1))
    version = npy.read_magic(stored)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(stored)
    if dtype.hasobject:
        raise Unreadable(f"array {name} holds Python objects, whose reading can run code: save numbers and text only")
    if dtype.names is not None or dtype.kind not in "biufUS":
        raise Unreadable(f"array {name} is of type {dtype}: numbers and text are read")
    count = int(np.prod(shape, dtype=object))
    if count * dtype.itemsize != len(stored.getbuffer()) - stored.tell():
        raise Unreadable(f"array {name} declares shape {list(shape)}, which is not what it holds")
    stored.seek(0)
    array = np.lib.format.read_array(stored, allow_pickle=False)
    return np.char.decode(array, "utf-8").tolist() if dtype.kind == "S" else array.tolist()
