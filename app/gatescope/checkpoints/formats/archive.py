"""The zip files of `torch.save`."""

from __future__ import annotations

from functools import partial
from typing import Any
from zipfile import ZipInfo

from gatescope.checkpoints.formats.storages import Storages
from gatescope.checkpoints.formats.unpickler import MOST_BYTES as MOST_PICKLE_BYTES
from gatescope.checkpoints.formats.unpickler import Unpickler
from gatescope.errors import CheckpointError
from gatescope.names import RESAVE
from gatescope.pipeline.stored_tensors import Storage
from gatescope.source import Source
from gatescope.zip_file import BEGINS, StoredZip

__all__ = ["BEGINS", "read"]

MOST_RECORD_BYTES = 32

VERSIONS = frozenset(str(number) for number in range(1, 11))
"""Of the archive's layout, as PyTorch's `kMaxSupportedFileFormatVersion` has them."""

BYTE_ORDERS = {"little": False, "big": True}

NOT_TORCH = f"it is a zip file, but not one that torch.save wrote; {RESAVE}"
TORCHSCRIPT = (
    "it holds a TorchScript program, which would run code when it is read; "
    'save its weights alone: torch.save(module.state_dict(), "weights.pt")'
)


def read(source: Source) -> Any:
    """What was saved in an archive; of tensors, where they are.

    Raises:
        CheckpointError: it is damaged, holds more than it is long, or its pickle asks for more than weights.
    """
    archive = StoredZip(source)
    if "constants.pkl" in archive.members:
        raise CheckpointError(TORCHSCRIPT)
    archive.check_stored("torch.save")
    pickled = archive.members.get("data.pkl")
    if pickled is None or not archive.is_one_folder:  # torch looks names up without regard to case
        raise CheckpointError(NOT_TORCH)
    if pickled.file_size > MOST_PICKLE_BYTES:
        raise CheckpointError(f"its pickle has {pickled.file_size} bytes, more than {MOST_PICKLE_BYTES}; {RESAVE}")
    if (version := _record(archive, archive.members.get("version"), "3")) not in VERSIONS:
        raise CheckpointError(f"it is damaged (its version is {version!r}); copy or save the file again")
    if (order := _record(archive, archive.members.get("byteorder"), "little")) not in BYTE_ORDERS:
        raise CheckpointError(f"it is damaged (its byte order is {order!r}); copy or save the file again")
    storages = Storages(source, partial(_locate, archive, BYTE_ORDERS[order]))
    return Unpickler(archive.content(pickled), storages.persistent).load()


def _locate(
    archive: StoredZip,
    is_big_endian: bool,  # noqa: FBT001 - given by partial
    key: str,
    storage: Storage,
) -> None:
    """Give a storage its place in the file."""
    member = archive.members.get(f"data/{key}")
    if member is None or member.file_size != storage.nbytes:
        raise CheckpointError(
            f"its pickle declares {storage.nbytes} bytes of numbers where the archive has "
            f"{member.file_size if member else 'none'}: it is damaged; save the file again"
        )
    storage.offset = archive.start(member)
    storage.is_big_endian = is_big_endian


def _record(archive: StoredZip, member: ZipInfo | None, default: str) -> str:
    """A short text in the archive, such as its version."""
    if member is None:
        return default
    if member.file_size > MOST_RECORD_BYTES:
        return f"{member.file_size} bytes long"
    return archive.content(member).decode("ascii", "replace").strip()
