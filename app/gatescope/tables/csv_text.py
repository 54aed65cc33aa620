"""`read_csv`: text with separated columns, as programs and countries write it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

from gatescope.errors import InvalidInput
from gatescope.tables.table import Table

COMMENT = "#"
SEPARATORS = (",", ";", "\t", "|")
_LOOKED_AT = 50  # lines that tell the separator
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "#n/a"})
"""Texts of cells that hold no value, in lower case."""
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?\d{1,3}([.,' ]\d{3})+([.,]\d+)?")
_DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|\d{4}-\d{2}|\d{8}T.*|\d{1,2}:\d{2}.*")


def read_csv(content: bytes, source: str) -> Table:
    """The table in a text.

    The separator, the decimal mark, a byte order mark, comment lines and a line of units below the names are found, and
    told.

    Raises:
        InvalidInput: it has no lines, is no text, or a line has more cells than the first; the line is named.
    """
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    text, notes = _decoded(content, source)
    numbered = [
        (number, line)
        for number, line in _logical_lines(text)
        if line.strip() and not line.lstrip().startswith(COMMENT)
    ]
    if not numbered:
        raise InvalidInput(f"{source} has no lines: a table has a line of names and a line for each time step")
    try:
        separator = _separator([line for _, line in numbered[:_LOOKED_AT]])
        rows = [(number, _cells(line, separator)) for number, line in numbered]
    except _Unreadable as error:
        raise InvalidInput(f"{source} cannot be read as a table: {error}") from None
    if separator not in {",", ""}:
        notes.append(f"Columns are separated by {_SPELLED[separator]}.")
    names, has_units, body = _header(rows)
    if has_units:
        notes.append(f"Line {rows[1][0]} is read as units.")
    width = len(rows[0][1])
    _check_widths(body, width, source)
    decimal = _decimal([cells for _, cells in body], separator, source)
    if decimal == ",":
        notes.append("Numbers have a decimal comma.")
    columns = names or [str(index) for index in range(width)]
    _check_names(columns, source)
    frame = pd.DataFrame([cells for _, cells in body], columns=columns, dtype="str")
    lines = [number for number, _ in body]
    return Table(frame, source, names is not None, lines, decimal, tuple(notes))


_SPELLED = {";": "semicolons", "\t": "tabs", "|": "bars"}


class _Unreadable(Exception):
    """A line that is none of a table, with the reason."""


def _decoded(content: bytes, source: str) -> tuple[str, list[str]]:
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
        if not pending:
            start = number
        pending += line
        if pending.count('"') % 2 == 0:
            made.append((start, pending.rstrip("\n")))
            pending = ""
    return [*made, (start, pending.rstrip("\n"))] if pending else made


def _cells(line: str, separator: str) -> list[str]:
    if not separator:
        return [line.strip().strip('"')]
    try:
        (cells,) = csv.reader(io.StringIO(line), delimiter=separator, skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise _Unreadable(str(error)) from None
    return [cell.strip() for cell in cells]


def _separator(lines: Sequence[str]) -> str:
    """The one that divides most lines into equally many cells, and these lines into most."""
    found: list[tuple[float, int, str]] = []
    for separator in SEPARATORS:
        counts = Counter(len(_cells(line, separator)) for line in lines)
        width, times = max(counts.items(), key=lambda item: (item[1], item[0]))
        if width > 1:
            found.append((times / len(lines), _rank(separator, lines), separator))
    return max(found)[2] if found else ""


def _rank(separator: str, lines: Sequence[str]) -> int:
    """A comma may be a decimal mark where there are others."""
    others = sum(other in line for line in lines for other in SEPARATORS if other != separator)
    return -1 if separator == "," and others else 0


def is_missing(cell: str) -> bool:
    """Whether a cell holds no value."""
    return cell.lower() in MISSING


def _is_value(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _GROUPED.fullmatch(cell) or _DATE_LIKE.fullmatch(cell)) or is_missing(cell)


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
        if not has_values and any(_NUMBER.fullmatch(cell) for cell in third):
            return first, True, rows[2:]
    return first, False, rows[1:]


def _check_widths(rows: Sequence[tuple[int, list[str]]], width: int, source: str) -> None:
    for number, cells in rows:
        if len(cells) != width:
            raise InvalidInput(
                f"{source}, line {number}: there are {len(cells)} cells, but the first line has {width}; a text with "
                "the separator in it must stand in quotes"
            )


def _check_names(columns: Sequence[str], source: str) -> None:
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise InvalidInput(f"{source}: the column '{twice}' stands there twice")


def _decimal(rows: Sequence[Sequence[str]], separator: str, source: str) -> str:
    """The decimal mark: a comma where no column is separated by one and numbers have it as their last mark.

    Raises:
        InvalidInput: it cannot be told: every comma may stand before thousands.
    """
    if separator == ",":
        return "."
    with_comma = [
        cell for row in rows for cell in row if "," in cell and (_NUMBER.fullmatch(cell) or _GROUPED.fullmatch(cell))
    ]
    if not with_comma:
        return "."
    with_point = any("." in cell and _NUMBER.fullmatch(cell) for row in rows for cell in row)
    if all(_GROUPED.fullmatch(cell) and cell.rfind(",") > cell.rfind(".") for cell in with_comma) and not with_point:
        raise InvalidInput(
            f"{source}: it cannot be told whether {with_comma[0]!r} has decimals or thousands: write numbers without "
            "marks before thousands"
        )
    return "." if with_point and all("." in cell for cell in with_comma) else ","
