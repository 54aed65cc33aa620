"""The zip files of `torch.save`, looked through before anything in them is read."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from gatescope.checkpoints.formats.names import RESAVE
from gatescope.checkpoints.formats.pickled import MOST_BYTES as MOST_PICKLE_BYTES
from gatescope.checkpoints.formats.pickled import Survey
from gatescope.errors import CheckpointError

BEGINS = b"PK\x03\x04"

MOST_MEMBERS = 100_000
MOST_DIRECTORY_BYTES = 8 * 2**20

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


def survey(file: BinaryIO, size: int) -> Survey:
    """What is in an archive, without having read a tensor of it.

    Raises:
        CheckpointError: it is damaged, holds more than it is long, or its pickle asks for more than weights.
    """
    members = _members(file, size)
    pickled = members.get("data.pkl")
    if pickled is None:
        raise CheckpointError(NOT_TORCH)
    if pickled.file_size > MOST_PICKLE_BYTES:
        raise CheckpointError(f"its pickle has {pickled.file_size} bytes, more than {MOST_PICKLE_BYTES}; {RESAVE}")
    seen = Survey(BytesIO(_content(file, pickled)))
    seen.run()
    for key, storage in seen.storages.items():
        member = members.get(f"data/{key}")
        if member is None or member.file_size != storage.nbytes:
            raise CheckpointError(
                f"its pickle declares {storage.nbytes} bytes of numbers where the archive has "
                f"{member.file_size if member else 'none'}: it is damaged; save the file again"
            )
    return seen


def _members(file: BinaryIO, size: int) -> dict[str, ZipInfo]:
    """Every member by its name below the archive's one folder; all of them stored as they are, side by side."""
    ends = _directory(file, size)
    try:
        with ZipFile(file) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    except (BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        raise CheckpointError(DAMAGED) from None
    folder = members[0].filename.partition("/")[0] + "/"
    names = {member.filename.removeprefix(folder): member for member in members if member.filename.startswith(folder)}
    if "constants.pkl" in names:
        raise CheckpointError(TORCHSCRIPT)
    if any(member.compress_type != ZIP_STORED or member.compress_size != member.file_size for member in members):
        raise CheckpointError(f"it is a compressed zip file, which torch.save never writes; {RESAVE}")
    for member, after in zip(members, [*(member.header_offset for member in members[1:]), ends], strict=True):
        if member.header_offset + LOCAL.size + member.file_size > after:
            raise CheckpointError(DAMAGED)
    if len({name.lower() for name in names}) != len(members):  # torch looks names up without regard to case
        raise CheckpointError(NOT_TORCH)
    return names


def _directory(file: BinaryIO, size: int) -> int:
    """Where the members end and the directory begins; it is whole, of a bounded size and the last thing in the file."""
    ends = size - END.size
    ends64 = ends - LOCATOR.size - END64.size
    try:
        signature, *_, count, length, offset, comment = END.unpack(_read(file, ends, END.size))
        if _read(file, ends - LOCATOR.size, LOCATOR.size) == LOCATOR.pack(b"PK\x06\x07", 0, ends64, 1):
            ends = ends64
            *_, count, length, offset = END64.unpack(_read(file, ends, END64.size))
    except (struct.error, OSError, ValueError):
        raise CheckpointError(DAMAGED) from None
    if signature != b"PK\x05\x06" or comment or not length or offset + length != ends:
        raise CheckpointError(DAMAGED)
    if count > MOST_MEMBERS or length > MOST_DIRECTORY_BYTES:
        raise CheckpointError(f"its zip directory lists {count} members, more than {MOST_MEMBERS}; {RESAVE}")
    return int(offset)


def _content(file: BinaryIO, member: ZipInfo) -> bytes:
    signature, name, extra = LOCAL.unpack(_read(file, member.header_offset, LOCAL.size))
    if signature != BEGINS:
        raise CheckpointError(DAMAGED)
    return _read(file, member.header_offset + LOCAL.size + name + extra, member.file_size)


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
