"""The files of `torch.save` before PyTorch 1.6: five pickles, then the storages, one after another."""

from __future__ import annotations

from typing import Any

from gatescope.checkpoints.formats.storages import Storages
from gatescope.checkpoints.formats.unpickler import MOST_BYTES as MOST_PICKLE_BYTES
from gatescope.checkpoints.formats.unpickler import Unpickler
from gatescope.errors import CheckpointError
from gatescope.names import RESAVE
from gatescope.source import CUT_OFF, Source

BEGINS = b"\x80"

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
"""The first and the second pickle, as `torch.serialization` has them."""
FIRST_BYTES = 64
"""More than these two take in any protocol."""

NOT_TORCH = f"it is a pickle that torch.save did not write, and is not read; {RESAVE}"


def read(source: Source) -> Any:
    """What was saved in such a file; of tensors, where they are.

    Raises:
        CheckpointError: it is damaged, declares more than it is long, or its pickle asks for more than weights.
    """
    start = _after_magic(source.at(0, FIRST_BYTES))
    pickles = source.at(0, start + MOST_PICKLE_BYTES)
    storages = Storages(source)
    system = Unpickler(pickles, _nothing, start)
    system.load()
    saved = Unpickler(pickles, storages.persistent, system.position)
    content = saved.load()
    keys = Unpickler(pickles, _nothing, saved.position)
    _locate(source, storages, keys.load(), keys.position)
    return content


def _after_magic(first: bytes) -> int:
    """Where the third pickle begins."""
    position = 0
    for expected in (MAGIC_NUMBER, PROTOCOL_VERSION):
        pickled = Unpickler(first, _nothing, position)
        try:
            found = pickled.load()
        except CheckpointError:
            raise CheckpointError(NOT_TORCH) from None
        if type(found) is not int or found != expected:
            raise CheckpointError(NOT_TORCH)
        position = pickled.position
    return position


def _nothing(saved_id: Any) -> None:
    """Refuse what only the pickle of the weights may keep outside itself."""
    raise TypeError(saved_id)


def _locate(source: Source, storages: Storages, keys: Any, offset: int) -> None:
    """Give every storage its place in the file; each that is declared is there once, and nothing else."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(CUT_OFF)
    if sorted(keys) != sorted(storages.by_key):
        raise CheckpointError(CUT_OFF)
    for key in keys:
        storage = storages.by_key[key]
        if int.from_bytes(source.at(offset, 8), "little") != storage.numel:
            raise CheckpointError(CUT_OFF)
        storage.offset = offset + 8
        offset += 8 + storage.nbytes
    if offset != source.size:
        raise CheckpointError(CUT_OFF)
