"""The zip files of `torch.save`, whose directory is held against the file before anything in them is read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import partial
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from gatescope.checkpoints.formats.names import RESAVE
from gatescope.checkpoints.formats.source import Source
from gatescope.checkpoints.formats.storages import Storages
from gatescope.checkpoints.formats.tensors import Storage
from gatescope.checkpoints.formats.unpickler import MOST_BYTES as MOST_PICKLE_BYTES
from gatescope.checkpoints.formats.unpickler import Unpickler
from gatescope.errors import CheckpointError

BEGINS = b"PK\x03\x04"

MOST_MEMBERS = 100_000
MOST_DIRECTORY_BYTES = 8 * 2**20
MOST_RECORD_BYTES = 32

VERSIONS = frozenset(str(number) for number in range(1, 11))
"""Of the archive's layout, as PyTorch's `kMaxSupportedFileFormatVersion` has them."""

BYTE_ORDERS = {"little": False, "big": True}

LOCAL = struct.Struct("<4s22x2H")
END = struct.Struct("<4s4H2LH")
LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")

DAMAGED = "its zip directory is damaged or cut off; copy or save the file again"
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
    members = _members(source)
    pickled = members.get("data.pkl")
    if pickled is None:
        raise CheckpointError(NOT_TORCH)
    if pickled.file_size > MOST_PICKLE_BYTES:
        raise CheckpointError(f"its pickle has {pickled.file_size} bytes, more than {MOST_PICKLE_BYTES}; {RESAVE}")
    if (version := _record(source, members.get("version"), "3")) not in VERSIONS:
        raise CheckpointError(f"it is damaged (its version is {version!r}); copy or save the file again")
    if (order := _record(source, members.get("byteorder"), "little")) not in BYTE_ORDERS:
        raise CheckpointError(f"it is damaged (its byte order is {order!r}); copy or save the file again")
    storages = Storages(source, partial(_locate, source, members, BYTE_ORDERS[order]))
    return Unpickler(_content(source, pickled), storages.persistent).load()


def _locate(
    source: Source,
    members: dict[str, ZipInfo],
    is_big_endian: bool,  # noqa: FBT001 - given by partial
    key: str,
    storage: Storage,
) -> None:
    """Give a storage its place in the file."""
    member = members.get(f"data/{key}")
    if member is None or member.file_size != storage.nbytes:
        raise CheckpointError(
            f"its pickle declares {storage.nbytes} bytes of numbers where the archive has "
            f"{member.file_size if member else 'none'}: it is damaged; save the file again"
        )
    storage.offset = start_of(source, member)
    storage.is_big_endian = is_big_endian


def _members(source: Source) -> dict[str, ZipInfo]:
    """Every member by its name below the archive's one folder; all of them stored as they are, side by side."""
    members, ends = listed_members(source)
    folder = members[0].filename.partition("/")[0] + "/"
    names = {member.filename.removeprefix(folder): member for member in members if member.filename.startswith(folder)}
    if "constants.pkl" in names:
        raise CheckpointError(TORCHSCRIPT)
    if not are_stored(members, ends):
        raise CheckpointError(f"it is a compressed zip file, which torch.save never writes; {RESAVE}")
    if len({name.lower() for name in names}) != len(members):  # torch looks names up without regard to case
        raise CheckpointError(NOT_TORCH)
    return names


def listed_members(source: Source) -> tuple[list[ZipInfo], int]:
    """The members of a zip file as they lie in it, and where they end; its directory is held against the file first.

    Raises:
        CheckpointError: the directory is damaged or too long.
    """
    ends = _directory(source)
    try:
        with ZipFile(source.file) as archive:
            return sorted(archive.infolist(), key=lambda member: member.header_offset), ends
    except (BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        raise CheckpointError(DAMAGED) from None


def are_stored(members: Sequence[ZipInfo], ends: int) -> bool:
    """Whether no member is compressed; raises `CheckpointError` where one of them reaches into the next."""
    if any(member.compress_type != ZIP_STORED or member.compress_size != member.file_size for member in members):
        return False
    for member, after in zip(members, [*(member.header_offset for member in members[1:]), ends], strict=True):
        if member.header_offset + LOCAL.size + member.file_size > after:
            raise CheckpointError(DAMAGED)
    return True


def _directory(source: Source) -> int:
    """Where the members end and the directory begins; it is whole, of a bounded size and the last thing in the file."""
    ends = source.size - END.size
    ends64 = ends - LOCATOR.size - END64.size
    try:
        signature, *_, count, length, offset, comment = END.unpack(source.at(ends, END.size))
        if source.at(ends - LOCATOR.size, LOCATOR.size) == LOCATOR.pack(b"PK\x06\x07", 0, max(ends64, 0), 1):
            ends = ends64
            *_, count, length, offset = END64.unpack(source.at(ends, END64.size))
    except struct.error:
        raise CheckpointError(DAMAGED) from None
    if signature != b"PK\x05\x06" or comment or not length or offset + length != ends:
        raise CheckpointError(DAMAGED)
    if count > MOST_MEMBERS or length > MOST_DIRECTORY_BYTES:
        raise CheckpointError(f"its zip directory lists {count} members, more than {MOST_MEMBERS}; {RESAVE}")
    return int(offset)


def start_of(source: Source, member: ZipInfo) -> int:
    """Where the bytes of a member begin, behind its local header; they lie inside the file."""
    header = source.at(member.header_offset, LOCAL.size)
    if len(header) < LOCAL.size:
        raise CheckpointError(DAMAGED)
    signature, name, extra = LOCAL.unpack(header)
    start = member.header_offset + LOCAL.size + int(name) + int(extra)
    if signature != BEGINS or start + member.file_size > source.size:
        raise CheckpointError(DAMAGED)
    return start


def _content(source: Source, member: ZipInfo) -> bytes:
    return source.at(start_of(source, member), member.file_size)


def _record(source: Source, member: ZipInfo | None, default: str) -> str:
    """A short text in the archive, such as its version."""
    if member is None:
        return default
    if member.file_size > MOST_RECORD_BYTES:
        return f"{member.file_size} bytes long"
    return _content(source, member).decode("ascii", "replace").strip()
