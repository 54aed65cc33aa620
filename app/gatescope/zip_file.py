"""Zip files as PyTorch writes them, whose directory is held against the file before anything in them is read."""

from __future__ import annotations

import struct
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from gatescope.errors import CheckpointError
from gatescope.names import RESAVE
from gatescope.source import Source

BEGINS = b"PK\x03\x04"

MOST_MEMBERS = 100_000
MOST_DIRECTORY_BYTES = 8 * 2**20

LOCAL = struct.Struct("<4s22x2H")
END = struct.Struct("<4s4H2LH")
LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")

DAMAGED = "its zip directory is damaged or cut off; copy or save the file again"

_ENCRYPTED = 1  # bit of a member's flags


class StoredZip:
    """A zip file in which every member is stored as it is, in one folder.

    Raises:
        CheckpointError: its directory is damaged, or larger than the bounds.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._ends = _directory(source)
        try:
            with ZipFile(source.file) as archive:
                self.all = sorted(archive.infolist(), key=lambda member: member.header_offset)
        except (BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            raise CheckpointError(DAMAGED) from None
        folder = self.all[0].filename.partition("/")[0] + "/"
        self.members = {
            member.filename.removeprefix(folder): member for member in self.all if member.filename.startswith(folder)
        }

    @property
    def is_one_folder(self) -> bool:
        """Whether all members stand in the one folder, under names that differ in more than their case."""
        return len({name.lower() for name in self.members}) == len(self.all)

    def start(self, member: ZipInfo) -> int:
        """Where the bytes of a member begin, behind its local header.

        Raises:
            CheckpointError: they do not lie inside the file.
        """
        header = self._source.at(member.header_offset, LOCAL.size)
        if len(header) < LOCAL.size:
            raise CheckpointError(DAMAGED)
        signature, name, extra = LOCAL.unpack(header)
        start = member.header_offset + LOCAL.size + int(name) + int(extra)
        if signature != BEGINS or start + member.file_size > self._source.size:
            raise CheckpointError(DAMAGED)
        return start

    def content(self, member: ZipInfo) -> bytes:
        """The bytes of a member."""
        return self._source.at(self.start(member), member.file_size)

    def check_stored(self, writer: str, remedy: str = RESAVE) -> None:
        """Refuse what a program, `writer`, never writes.

        Raises:
            CheckpointError: a member is encrypted or compressed, or members overlap.
        """
        if any(member.flag_bits & _ENCRYPTED for member in self.all):
            raise CheckpointError(f"it is an encrypted zip file, which {writer} never writes")
        if any(member.compress_type != ZIP_STORED or member.compress_size != member.file_size for member in self.all):
            raise CheckpointError(f"it is a compressed zip file, which {writer} never writes; {remedy}")
        begins = [*(member.header_offset for member in self.all[1:]), self._ends]
        for member, after in zip(self.all, begins, strict=True):
            if member.header_offset + LOCAL.size + member.file_size > after:
                raise CheckpointError(DAMAGED)


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
