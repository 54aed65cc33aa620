"""`sequences_in`: the sequences of a file, of a large one some at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gatescope.errors import InvalidInput
from gatescope.tables.blocks import Block, is_large, table_blocks
from gatescope.tables.csv_file import read_csv
from gatescope.tables.sequences import Reading, Sequences, Wanted, interpret
from gatescope.tables.table import Table
from gatescope.tables.times import Stamps, index_of

STDIN = Path("-")
"""In place of a file: a CSV text from standard input."""


class Part(NamedTuple):
    """Some sequences of a file."""

    sequences: Sequences
    read: float
    """Which part of the file has been read, 0…1."""


def sequences_in(path: Path, wanted: Wanted, reading: Reading) -> Iterator[Part]:
    """The sequences of a table: all at once, or of a large file with an id column some at a time.

    What one part shows of how the table is to be read holds for those behind it.

    Args:
        path: of the file, or `STDIN`.
        wanted: what the model reads and gives.
        reading: how the table is to be read.

    Raises:
        InvalidInput: it cannot be read, does not fit the model, or its parts are not of one kind; the place is named.
        ModuleNotFoundError: what reads this kind of file is not installed.
    """
    if path == STDIN:
        blocks = iter([Block(read_csv(sys.stdin.buffer.read(), "standard input"), 1.0)])
    else:
        blocks = table_blocks(path, reading.id)
    first: _Kind | None = None
    is_whole = path == STDIN or reading.id is None or not is_large(path)
    for table, read in blocks:
        found = interpret(table, wanted, reading)
        kind = _Kind.of(found)
        first = first or kind
        if first != kind:
            raise _refused(table, first, kind)
        if found.day_first is not None:
            reading = replace(reading, day_first=found.day_first)
        yield Part(found if is_whole or not kind.has_zone else _in_utc(found), read)


class _Kind(NamedTuple):
    """What all parts of a table have in common."""

    horizon: int
    mapping: Mapping[str, str]
    type_of_times: str | None
    has_zone: bool

    @classmethod
    def of(cls, found: Sequences) -> _Kind:
        moments = None if found.timestamps is None else index_of(found.timestamps[0])
        has_zone = getattr(moments, "tz", None) is not None
        return cls(found.horizon, found.mapping, None if moments is None else moments.dtype.kind, has_zone)


def _refused(table: Table, first: _Kind, kind: _Kind) -> InvalidInput:
    """What is wrong with a part that is not read as the first one was."""
    if first.horizon != kind.horizon:
        message = f"sequences have {first.horizon} and {kind.horizon} rows without a target at their end"
    else:
        message = "times or columns are not of the kind that they are in the rows before"
    return table.refused(message, row=0)


def _in_utc(found: Sequences) -> Sequences:
    """The same with times in UTC: offsets may differ from part to part."""

    def converted(rows: list[Any] | None) -> list[Any] | None:
        return None if rows is None else [Stamps(index_of(row).tz_convert("UTC")) for row in rows]

    return replace(found, timestamps=converted(found.timestamps), future_timestamps=converted(found.future_timestamps))
