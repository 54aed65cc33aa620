"""`table_blocks`: a large file as tables of whole sequences, of which some are in memory at a time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.tables import ids
from gatescope.tables.csv_file import HEAD_LINES, Layout, end_of_lines, joined
from gatescope.tables.csv_text import decoded
from gatescope.tables.files import CELL_BYTES, TEXTS, of_arrow, read_table, refused_as_unreadable
from gatescope.tables.table import Table

LARGE_BYTES = 64 * 2**20
"""A file with an id column that is larger is read in blocks; of Parquet, what it holds uncompressed."""
BLOCK_CHARACTERS, BLOCK_ROWS = 8 * 2**20, 100_000
"""How large a block is, of a text and of Parquet."""

SAMPLE_BYTES = 2**20
"""Of a text, which tell its encoding."""
_WIDE = (b"\xff\xfe", b"\xfe\xff")  # how a text in UTF-16 begins


class Block(NamedTuple):
    """A part of a file."""

    table: Table
    read: float
    """Which part of the file has been read, 0…1."""


def table_blocks(path: Path, id_column: str | None) -> Iterator[Block]:
    """The table in a file; in blocks where it is large, and an id column tells where sequences end.

    A block ends where a sequence does.

    Args:
        path: of the file.
        id_column: the column that says which sequence a row belongs to.

    Raises:
        InvalidInput: it cannot be read as what its name says, or the rows of a sequence do not stand together in a
            large file; the place is named.
        ModuleNotFoundError: what reads this kind of file is not installed.
    """
    if id_column is None or not is_large(path):
        yield Block(read_table(path), 1.0)
        return
    try:
        yield from whole_sequences(_of_text(path) if path.suffix.lower() in TEXTS else _of_parquet(path), id_column)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error


def is_large(path: Path) -> bool:
    """Whether a file is read in blocks, if a column of ids is named; raises `InvalidInput` where it cannot be read."""
    if path.suffix.lower() not in {*TEXTS, ".parquet"}:
        return False
    try:
        return _size(path) > LARGE_BYTES
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error


def whole_sequences(blocks: Iterable[Block], id_column: str) -> Iterator[Block]:
    """The same rows in blocks that end where a sequence does.

    Raises:
        InvalidInput: the rows of a sequence do not stand together.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    held: list[Table] = []
    seen: set[Any] = set()
    last: Any = None
    for table, read in blocks:
        ids.check(table, id_column)
        codes, names = pd.factorize(table.frame[id_column])
        starts = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist()]
        goes_on = bool(held) and names[0] == last
        for start in starts[goes_on:]:
            last = names[codes[start]]
            if last in seen:
                raise table.refused(
                    f"'{last}' comes back here, behind others: a file of more than {LARGE_BYTES // 2**20} MB is read "
                    f"one sequence after another, so sort its rows by '{id_column}'",
                    row=start,
                    column=id_column,
                )
            seen.add(last)
        if starts[-1]:
            yield Block(joined([*held, table.part(0, starts[-1])]), read)
            held = [table.part(starts[-1], len(codes))]
        elif goes_on or not held:
            held.append(table)
        else:
            yield Block(joined(held), read)
            held = [table]
    yield Block(joined(held), 1.0)


def _size(path: Path) -> int:
    if path.suffix.lower() != ".parquet":
        return path.stat().st_size
    from pyarrow import parquet  # noqa: PLC0415 - an extra, loaded when it is needed

    with refused_as_unreadable(str(path)):
        told = parquet.read_metadata(path)
    size = sum(told.row_group(index).total_byte_size for index in range(told.num_row_groups))
    cells = told.num_rows * told.num_columns  # a value that comes again may stand there once
    return int(max(size, cells * CELL_BYTES))


def _of_text(path: Path) -> Iterator[Block]:
    source, size = str(path), path.stat().st_size
    with path.open("rb") as file:
        encoding, notes = _encoding(file.read(SAMPLE_BYTES), source)
        file.seek(0)
        layout, line = None, 1
        with io.TextIOWrapper(file, encoding) as text:
            for block in _lines(text, source):
                begin = 0
                if layout is None:
                    begin, layout = _layout(block, source, notes)
                    yield Block(layout.head, 0.0)
                if begin < len(block):
                    yield Block(layout.read(block[begin:], line + block.count("\n", 0, begin)), file.tell() / size)
                line += block.count("\n")


def _encoding(sample: bytes, source: str) -> tuple[str, list[str]]:
    """Of a text that begins so, and what is to be told about it."""
    if sample.startswith(_WIDE):
        return "utf-16", []
    _, notes = decoded(sample[: sample.rfind(b"\n") + 1], source)
    return "cp1252" if notes else "utf-8-sig", notes


def _lines(text: io.TextIOWrapper, source: str) -> Iterator[str]:
    """Many lines at a time; a line break in quotes does not end one."""
    try:
        while block := text.read(BLOCK_CHARACTERS):
            block += text.readline()
            while block.count('"') % 2 and (more := text.readline()):
                block += more
            if "\0" in block:
                raise InvalidInput(f"{source} is no text: give a CSV file in UTF-8, or name the file as what it is")
            yield block
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{source} is no {text.encoding} throughout, as it begins: save it as UTF-8") from error


def _layout(block: str, source: str, notes: list[str]) -> tuple[int, Layout]:
    """How lines are laid out, and where those end that show it."""
    end = end_of_lines(block, HEAD_LINES)
    if 0 < end < len(block):
        try:
            return end, Layout.of(block[:end], source, notes)
        except InvalidInput:  # more lines may tell more
            pass
    return len(block), Layout.of(block, source, notes)


def _of_parquet(path: Path) -> Iterator[Block]:
    import pyarrow as pa  # noqa: PLC0415 - an extra, loaded when it is needed
    from pyarrow import parquet  # noqa: PLC0415

    with refused_as_unreadable(str(path)), parquet.ParquetFile(path) as file:
        rows, count = 0, file.metadata.num_rows
        for batch in file.iter_batches(BLOCK_ROWS):
            yield Block(of_arrow(pa.Table.from_batches([batch]), str(path), rows), (rows + len(batch)) / count)
            rows += len(batch)
