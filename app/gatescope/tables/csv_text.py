"""`read_text`: text with separated columns, as programs and countries write it, looked at line by line."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

from gatescope.errors import InvalidInput
from gatescope.tables.numerals import is_number
from gatescope.tables.table import Table

COMMENT = "#"
SEPARATORS = (",", ";", "\t", "|")
BLANKS = " "
"""Columns that any number of blanks or tabs separate."""
_LOOKED_AT = 50  # lines that tell the separator
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?", "#n/a"})
"""Cells without a value, in lower case."""
_SPREADSHEET_ERROR = re.compile(r"#(n/a|div/0!|ref!|value!|name\?|num!|null!)", re.IGNORECASE)
_SAYS_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # the first line of some spreadsheets' files
_DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{4}-\d{2}|\d{8}T.*|\d{1,2}:\d{2}.*")
_KINDS = {
    b"PK\x03\x04": "a spreadsheet or another zip file",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "a netCDF or HDF5 file",
    b"CDF": "a netCDF file",
}
"""How files begin that are no text."""


def read_text(text: str, source: str, notes: Sequence[str] = ()) -> tuple[Table, str]:
    """The table in a text, and what separates its columns.

    The separator, the decimal mark, a byte order mark, comment lines and a line of units below the names are found, and
    told.

    Raises:
        InvalidInput: it has no lines, is no text, or a line has more cells than the first; the line is named.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    notes = list(notes)
    every = _logical_lines(text)
    lines = [(number, line) for number, line in every if line.strip()]
    stated = _SAYS_SEPARATOR.fullmatch(lines[0][1].strip()) if lines else None
    lines = lines[1:] if stated else lines
    numbered = [each for each in lines if not _is_comment(each[1])]
    if not numbered:
        raise InvalidInput(f"{source} has no lines: a table has a line of names and a line for each time step")
    try:
        separator = stated[1] if stated else _separator([line for _, line in numbered[:_LOOKED_AT]])
        rows = [(number, _cells(line, separator, number)) for number, line in numbered]
    except _Unreadable as error:
        raise InvalidInput(f"{source} cannot be read as a table: {error}") from None
    if separator not in {",", ""}:
        notes.append(f"Columns are separated by {_SPELLED.get(separator, repr(separator))}.")
    names, has_units, body = _header(rows)
    if names is None and (above := _comment_above(lines, separator, rows[0])):
        names = above
        notes.append("The comment above the first row is read as names.")
    if has_units:
        notes.append(f"Line {rows[1][0]} is read as units.")
    body, width = _without_empty_ends(body, names or rows[0][1])
    body = _without_empty_rows(body, width)
    names = names and names[:width]
    _check_widths(body, width, source)
    decimal = _decimal([cells for _, cells in body], separator, source)
    if decimal == ",":
        notes.append("Numbers have a decimal comma.")
    columns = names or [str(index) for index in range(width)]
    _check_names(columns, source, rows[0][0])
    frame = pd.DataFrame([cells for _, cells in body], columns=columns, dtype="str")
    lines_of = [number for number, _ in body]
    blank = None if separator else _blank_between(every, numbered)
    table = Table(frame, source, names is not None, lines_of, decimal, tuple(notes), blank=blank)
    return table, separator


def read_rows(text: str, source: str, separator: str, width: int, first: int) -> tuple[list[list[str]], list[int]]:
    """The cells and the line of each row in a part of a text, without comments and blank lines.

    Args:
        text: whole lines.
        source: what it was read from.
        separator: of its columns.
        width: how many cells a row has.
        first: the number of its first line.

    Raises:
        InvalidInput: a line has more or fewer; it is named.
    """
    lines = [(first + number - 1, line) for number, line in _logical_lines(text)]
    numbered = [(number, line) for number, line in lines if line.strip() and not _is_comment(line)]
    try:
        rows = [(number, _cells(line, separator, number)) for number, line in numbered]
    except _Unreadable as error:
        raise InvalidInput(f"{source} cannot be read as a table: {error}") from None
    _check_widths(rows, width, source)
    return [cells for _, cells in rows], [number for number, _ in rows]


_SPELLED = {";": "semicolons", "\t": "tabs", "|": "bars", BLANKS: "blanks"}


class _Unreadable(Exception):
    """A line that is none of a table, with the reason."""


def decoded(content: bytes, source: str) -> tuple[str, list[str]]:
    """The text in a file's content, and what was found of it; raises `InvalidInput` where it is none."""
    for start, kind in _KINDS.items():
        if content.startswith(start):
            raise InvalidInput(f"{source} is no text but {kind}: name it as what it is, or write it as CSV")
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    encodings = ["utf-16"] if is_wide else ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        notes = [f"It is no UTF-8; it is read as {encoding}."] if encoding == "cp1252" else []
        return text, notes
    raise InvalidInput(f"{source} is no text: give a CSV file in UTF-8, or name the file as what it is")


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Each line with its number; one with a line break in quotes is one line."""
    made: list[tuple[int, str]] = []
    pending, start = "", 1
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        is_comment = not pending and _is_comment(line)
        if not pending:
            start = number
        pending += line
        if is_comment or pending.count('"') % 2 == 0:
            made.append((start, pending.rstrip("\n")))
            pending = ""
    return [*made, (start, pending.rstrip("\n"))] if pending else made


def _cells(line: str, separator: str, number: int = 1) -> list[str]:
    if not separator:
        return [line.strip().strip('"')]
    if separator == BLANKS:
        line = line.strip().replace("\t", BLANKS)
    try:
        (cells,) = csv.reader(io.StringIO(line), delimiter=separator, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        said = "a quote is not closed" if isinstance(error, ValueError) or "end of data" in str(error) else error
        raise _Unreadable(f"line {number}: {said}") from None
    return [cell.strip() for cell in cells]


def _is_comment(line: str) -> bool:
    start = line.lstrip()
    return start.startswith(COMMENT) and not _SPREADSHEET_ERROR.match(start)


def _comment_above(lines: Sequence[tuple[int, str]], separator: str, first: tuple[int, list[str]]) -> list[str] | None:
    """The names in the comment right above the first row, where it has as many cells and none is a value."""
    before = [line for number, line in lines if number < first[0]]
    try:
        cells = _cells(before[-1].lstrip().lstrip(COMMENT), separator) if before else []
    except _Unreadable:
        return None
    return None if len(cells) != len(first[1]) or any(map(_is_value, cells)) else cells


def _separator(lines: Sequence[str]) -> str:
    """The one that divides most lines into equally many cells, and these lines into most; blanks only all of them."""
    found: list[tuple[float, int, str]] = []
    for separator in (*SEPARATORS, BLANKS):
        counts = Counter(_width(line, separator) for line in lines)
        width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
        if width > 1 and (separator != BLANKS or times == len(lines)):
            found.append((times / len(lines), _rank(separator, lines), separator))
    return max(found)[2] if found else ""


def _width(line: str, separator: str) -> int:
    """How many cells a line has; 1 where this cannot be its separator."""
    try:
        return len(_cells(line, separator))
    except _Unreadable:
        return 1


def _rank(separator: str, lines: Sequence[str]) -> int:
    """A comma may be a decimal mark where there are others; blanks may stand inside of cells."""
    others = sum(other in line for line in lines for other in SEPARATORS if other != separator)
    return {",": -1, BLANKS: -2}.get(separator, 0) if others else 0


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value."""
    return cell.lower() in MISSING


def _is_value(cell: str) -> bool:
    return is_number(cell, ".") or is_number(cell, ",") or bool(_DATE_LIKE.fullmatch(cell)) or is_missing(cell)


def _header(
    rows: Sequence[tuple[int, list[str]]],
) -> tuple[list[str] | None, bool, Sequence[tuple[int, list[str]]]]:
    """The names, whether a line of units follows, and the rows below; None where the first line holds values."""
    first = rows[0][1]
    if any(_is_value(cell) and not is_missing(cell) for cell in first):
        return None, False, rows
    if len(rows) > 2:  # noqa: PLR2004 - names, units and a row
        second, third = rows[1][1], rows[2][1]
        has_values = any(_is_value(cell) and not is_missing(cell) for cell in second)
        if (
            len(first) == len(second)
            and not has_values
            and any(is_number(cell, ".") or is_number(cell, ",") for cell in third)
        ):
            return first, True, rows[2:]
    return first, False, rows[1:]


def _without_empty_ends(
    rows: Sequence[tuple[int, list[str]]], first: Sequence[str]
) -> tuple[Sequence[tuple[int, list[str]]], int]:
    """The rows without empty cells behind their last separators, and how many cells are left."""
    width = len(first)
    while width > 1 and not first[width - 1] and not any(any(cells[width - 1 :]) for _, cells in rows):
        width -= 1
    return [(number, cells if any(cells[width:]) else cells[:width]) for number, cells in rows], width


def _without_empty_rows(rows: Sequence[tuple[int, list[str]]], width: int) -> Sequence[tuple[int, list[str]]]:
    """The rows without such of separators alone at the end, where all others have a time or another text."""
    stop = len(rows)
    while stop and not any(rows[stop - 1][1]):
        stop -= 1
    kept = rows[:stop]
    has_texts = any(
        all(index < len(cells) and cells[index] and not is_number(cells[index], ".") for _, cells in kept)
        for index in range(width)
    )
    return kept if has_texts else rows


def _blank_between(every: Sequence[tuple[int, str]], rows: Sequence[tuple[int, str]]) -> int | None:
    """The first blank line between these rows."""
    first, last = rows[0][0], rows[-1][0]
    return next((number for number, line in every if first < number < last and not line.strip()), None)


def _check_widths(rows: Sequence[tuple[int, list[str]]], width: int, source: str) -> None:
    for number, cells in rows:
        if len(cells) != width:
            raise InvalidInput(
                f"{source}, line {number}: there are {len(cells)} cells, but the first line has {width}; a text with "
                f"the separator in it must stand in quotes, and a line above the names begins with {COMMENT}"
            )


def _check_names(columns: Sequence[str], source: str, line: int) -> None:
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise InvalidInput(
            f"{source}, line {line}: the column '{twice}' stands there twice; give one of them another name"
        )


def _decimal(rows: Sequence[Sequence[str]], separator: str, source: str) -> str:
    """The decimal mark: a comma where a number can have it as nothing else.

    Raises:
        InvalidInput: it cannot be told: every mark may stand before thousands.
    """
    with_comma = [cell for row in rows for cell in row if "," in cell]
    commas = sum(is_number(cell, ",") and not is_number(cell, ".") for cell in with_comma)
    points = ("." in cell and is_number(cell, ".") and not is_number(cell, ",") for row in rows for cell in row)
    if commas:
        return "," if commas >= sum(points) else "."
    if any(points):
        return "."
    unclear = min((cell for cell in with_comma if is_number(cell, ",")), default=None)
    if unclear is None and separator != ",":
        unclear = _may_be_thousands(rows)
    if unclear is not None:
        raise InvalidInput(
            f"{source}: it cannot be told whether {unclear!r} has decimals or thousands: write numbers without marks "
            "before thousands"
        )
    return "."


def _may_be_thousands(rows: Sequence[Sequence[str]]) -> str | None:
    """A cell such as 1.050 in a column with 950."""
    whole = {index for row in rows for index, cell in enumerate(row) if cell.isdecimal()}
    cells = ((index, cell) for row in rows for index, cell in enumerate(row) if "." in cell and is_number(cell, "."))
    return next((cell for index, cell in cells if index in whole), None)
