"""`read_csv`: the table in a CSV file, read at once where its lines are plain, else line by line."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.tables.csv_text import BLANKS, decoded, read_rows, read_text
from gatescope.tables.numerals import is_number
from gatescope.tables.table import Table

HEAD_LINES = 1_000
"""Lines that tell how the others are laid out."""

_ODD_STARTS = ("\n\n", "\n#", "\n ", "\n\t")  # of lines that may be blank, or comments
_ODD_QUOTE = re.compile(r'(?<![",\n;\t|])"(?![",\n;\t|])')  # inside of a cell


def read_csv(content: bytes, source: str) -> Table:
    """The table in a text; see `read_text`."""
    text, notes = decoded(content, source)
    text = text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
    end = end_of_lines(text, HEAD_LINES)
    if 0 < end < len(text):
        try:
            layout = Layout.of(text[:end], source, notes)
        except InvalidInput:  # the whole may tell more
            layout = None
        rest = None if layout is None else layout.plain(text[end:], HEAD_LINES + 1)
        if layout is not None and rest is not None:
            return joined([layout.head, rest])
    return read_text(text, source, notes)[0]


def joined(tables: list[Table]) -> Table:
    """Parts of one table as one."""
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    if len(tables) == 1:
        return tables[0]
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    lines = [table.lines for table in tables if table.lines is not None]
    return replace(tables[0], frame=frame, lines=np.concatenate(lines).tolist() if lines else None)


@dataclass(frozen=True)
class Layout:
    """How the lines of a text are laid out, as those at its head show."""

    head: Table
    """The table of these."""
    separator: str
    is_sure: bool
    """Whether a number among them shows the decimal mark."""

    @classmethod
    def of(cls, text: str, source: str, notes: list[str]) -> Layout:
        """Of the lines at a text's head; raises `InvalidInput` where they are no table."""
        head, separator = read_text(text, source, notes)
        other = "," if head.decimal == "." else "."
        cells = (cell for name in head.frame for cell in head.frame[name] if head.decimal in cell)
        is_sure = any(is_number(cell, head.decimal) and not is_number(cell, other) for cell in cells)
        return cls(head, separator, is_sure)

    def plain(self, text: str, first: int) -> Table | None:
        """The table of further lines, where they are plain, and tell nothing else than the head; else None.

        Args:
            text: the lines.
            first: the number of the first.
        """
        text = text.rstrip("\n")
        started = f"\n{text}"
        if self.separator in {"", BLANKS} or any(start in started for start in _ODD_STARTS):
            return None
        if '"' in text and (text.count('"') % 2 or _ODD_QUOTE.search(text)):
            return None
        columns = self._columns(text)
        count = text.count("\n") + 1
        if columns is None or columns.num_rows != count or not self._is_as_in_head(columns):
            return None
        frame = columns.to_pandas()
        return replace(self.head, frame=frame.astype("str"), lines=range(first, first + count))

    def read(self, text: str, first: int) -> Table:
        """The table of further lines.

        Args:
            text: the lines.
            first: the number of the first.

        Raises:
            InvalidInput: they are laid out otherwise; the line is named.
        """
        import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

        if (plain := self.plain(text, first)) is not None:
            return plain
        head = self.head
        cells, lines = read_rows(text, head.source, self.separator, len(head.frame.columns), first)
        table = replace(head, frame=pd.DataFrame(cells, columns=head.frame.columns, dtype="str"), lines=lines)
        if not self.is_sure:
            self._check_marks(table)
        return table

    def _columns(self, text: str) -> Any:
        """The cells of each column as an Arrow table of texts without blanks around them; None where lines differ."""
        import pyarrow as pa  # noqa: PLC0415 - an extra, loaded when it is needed
        from pyarrow import compute, csv  # noqa: PLC0415

        names = list(self.head.frame.columns)
        has_quotes = '"' in text
        try:
            found = csv.read_csv(
                io.BytesIO(text.encode()),
                csv.ReadOptions(column_names=names),
                csv.ParseOptions(
                    delimiter=self.separator,
                    quote_char='"' if has_quotes else False,
                    newlines_in_values=has_quotes,
                    ignore_empty_lines=False,
                ),
                csv.ConvertOptions(column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False),
            )
        except pa.ArrowInvalid:
            return None
        return pa.table([compute.utf8_trim_whitespace(column) for column in found.columns], names)

    def _is_as_in_head(self, columns: Any) -> bool:
        """Whether no cell has a quote in it, the last row is not blank, and no mark stands where there was none."""
        from pyarrow import compute  # noqa: PLC0415

        def holds(column: Any, text: str) -> bool:
            return bool(compute.any(compute.match_substring(column, text)).as_py())

        if any(holds(column, '"') for column in columns.columns):
            return False
        if not any(column[-1].as_py() for column in columns.columns):
            return False
        if self.head.decimal == ".":
            is_told = self.is_sure or self.separator == ","
            return not any(holds(column, ",") or (not is_told and holds(column, ".")) for column in columns.columns)
        return self.is_sure and not any(self._has_points(column) for column in columns.columns)

    def _has_points(self, column: Any) -> bool:
        """Whether a number has a decimal point, where the head has commas."""
        from pyarrow import compute  # noqa: PLC0415

        marked = column.filter(compute.match_substring(column, ".")).to_pylist()
        return any(is_number(cell, ".") and not is_number(cell, ",") for cell in marked)

    def _check_marks(self, table: Table) -> None:
        """Refuse a comma in a number where no number before it told whether it stands before decimals."""
        for name in table.frame:
            for row, cell in enumerate(table.frame[name]):
                if "," in cell and is_number(cell, ","):
                    raise table.refused(
                        f"it cannot be told whether {cell!r} has decimals or thousands: write numbers without marks "
                        "before thousands",
                        row=row,
                        column=str(name),
                    )


def end_of_lines(text: str, count: int) -> int:
    """Where so many lines end; -1 where there are not as many."""
    end = 0
    for _ in range(count):
        end = text.find("\n", end) + 1
        if not end:
            return -1
    return end
