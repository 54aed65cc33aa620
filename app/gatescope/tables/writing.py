"""`table_writer`: a table that is written to a file, one frame after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.tables.times import are_days

if TYPE_CHECKING:
    import pandas as pd


class Sink(Protocol):
    """A file of one kind that takes frames."""

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows; every frame has the columns of the first."""

    def close(self) -> None:
        """Write what is left, and the end of the file."""


class _Csv:
    separator = ","

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8", newline="")
        self._has_names = False

    def write(self, frame: pd.DataFrame) -> None:
        frame = frame.assign(**{name: in_iso(frame[name]) for name in frame if frame[name].dtype.kind == "M"})
        frame.to_csv(self._file, index=False, header=not self._has_names, sep=self.separator)
        self._has_names = True

    def close(self) -> None:
        self._file.close()


class _Tsv(_Csv):
    separator = "\t"


class _Columnar:
    """A file of Arrow's tables, whose columns are those of the first frame."""

    def __init__(self, file: Path) -> None:
        self._file, self._writer, self._schema = file, None, None

    def write(self, frame: pd.DataFrame) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an extra, loaded when it is needed

        table = pa.Table.from_pandas(frame, self._schema, preserve_index=False)
        writer: Any = self._writer
        if writer is None:
            self._schema = table.schema
            writer = self._writer = self.opened(self._file, table.schema)
        writer.write_table(table)

    def opened(self, file: Path, schema: Any) -> Any:
        """A writer of tables."""
        raise NotImplementedError

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Parquet(_Columnar):
    def opened(self, file: Path, schema: Any) -> Any:
        from pyarrow import parquet  # noqa: PLC0415

        return parquet.ParquetWriter(file, schema)


class _Arrow(_Columnar):
    """Arrow's file format, which is Feather, too."""

    def opened(self, file: Path, schema: Any) -> Any:
        from pyarrow import ipc  # noqa: PLC0415

        return ipc.new_file(str(file), schema)


SINKS: dict[str, Callable[[Path], Sink]] = {
    ".csv": _Csv,
    ".tsv": _Tsv,
    ".txt": _Tsv,
    ".parquet": _Parquet,
    ".arrow": _Arrow,
    ".feather": _Arrow,
}
"""How a table is written, by the end of the file's name."""


def in_iso(times: pd.Series) -> Any:
    """Times as texts in ISO 8601; dates where all are at midnight and have no zone."""
    import pandas as pd  # noqa: PLC0415

    index = pd.DatetimeIndex(times)
    if index.tz is not None or index.hasnans:
        return index.map(lambda moment: moment.isoformat(), na_action="ignore")
    unit: Any = "D" if are_days(index) else "s" if (index == index.floor("s")).all() else index.unit
    written = np.datetime_as_string(index.to_numpy(), unit=unit, casting="unsafe")
    return written.astype(object)


class _Alike:
    """Takes frames of the same columns alone."""

    def __init__(self, sink: Sink, file: Path) -> None:
        self._sink, self._file = sink, file
        self._columns: list[str] | None = None

    def write(self, frame: pd.DataFrame) -> None:
        columns = list(frame.columns)
        self._columns = self._columns or columns
        if columns != self._columns:
            raise InvalidInput(
                f"{self._file}: one table cannot hold the columns {', '.join(self._columns)} and, of another part, "
                f"{', '.join(columns)}: write these to files of their own"
            )
        self._sink.write(frame)

    def close(self) -> None:
        self._sink.close()


@contextmanager
def table_writer(file: Path) -> Iterator[Sink]:
    """Take the frames of a table; the file is there when all were written, and else is as it was.

    Args:
        file: to be written; the end of its name is one of `SINKS`.
    """
    part = file.with_name(f".{file.name}.part")
    sink = SINKS[file.suffix.lower()](part)
    try:
        yield _Alike(sink, file)
        sink.close()
        part.replace(file)
    except BaseException:
        sink.close()
        part.unlink(missing_ok=True)
        raise
