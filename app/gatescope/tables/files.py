"""`read_table`: a file, its bytes or a data frame as a `Table`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatescope.errors import InvalidInput
from gatescope.tables.csv_file import read_csv
from gatescope.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

TEXTS = (".csv", ".tsv", ".txt")
SUFFIXES = (*TEXTS, ".parquet", ".arrow", ".feather", ".nc")
"""Files that hold tables."""

CELL_BYTES = 8


def read_table(source: Path | bytes, name: str | None = None, most_cells: int | None = None) -> Table:
    """The table in a file, or in its content.

    Args:
        source: a path, or what such a file holds.
        name: what it is called, which says what it is; the path's own name when not given.
        most_cells: how many cells of 8 bytes a Parquet table may have; any number when not given.

    Raises:
        InvalidInput: it cannot be read as what its name says; the place is named.
        ModuleNotFoundError: pandas, or what reads this kind of file, is not installed.
    """
    shown = name or (str(source) if isinstance(source, Path) else "the table")
    suffix = Path(shown).suffix.lower()
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{shown} cannot be read: {error.strerror or error}") from error
    if suffix in TEXTS or suffix == "":
        return read_csv(content, shown)
    if suffix not in SUFFIXES:
        raise InvalidInput(f"{shown}: tables end in {', '.join(SUFFIXES)}, not in '{suffix}'")
    reader = {".parquet": _parquet, ".arrow": _feather, ".feather": _feather, ".nc": _netcdf}[suffix]
    return of_frame(_framed(reader, content, shown, most_cells), shown)


def of_frame(frame: pd.DataFrame, source: str = "the table") -> Table:
    """The table that a pandas data frame is; an index with a name, or of times, is a column of it.

    Raises:
        InvalidInput: two columns have one name, or it has no rows.
    """
    if frame.index.name is None and frame.index.dtype.kind == "M":
        frame = frame.rename_axis("time")
    if frame.index.name is not None or frame.index.nlevels > 1:
        frame = frame.reset_index()
    frame = frame.rename(columns=str)
    if not len(frame):
        raise InvalidInput(f"{source} has no rows: a table has a row for each time step")
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InvalidInput(f"{source}: the column '{twice}' stands there twice")
    return Table(frame.reset_index(drop=True), source)


def _framed(reader: Callable[[io.BytesIO, int | None], Any], content: bytes, shown: str, most_cells: int | None) -> Any:
    with refused_as_unreadable(shown):
        return reader(io.BytesIO(content), most_cells)


@contextmanager
def refused_as_unreadable(shown: str) -> Iterator[None]:
    """Raise `InvalidInput` for what readers of files raise."""
    try:
        yield
    except (ValueError, OSError, KeyError, MemoryError, NotImplementedError) as error:
        said = str(error).partition("\n")[0][:200]
        raise InvalidInput(f"{shown} cannot be read: {said}") from error


def of_arrow(table: Any, source: str, rows_before: int) -> Table:
    """A part of the table that a Parquet file holds."""
    return replace(of_frame(_checked(table), source), rows_before=rows_before)


def _parquet(file: io.BytesIO, most_cells: int | None) -> Any:
    from pyarrow import parquet, types  # noqa: PLC0415 - an extra, loaded when it is needed

    told = parquet.read_metadata(file)
    size = sum(told.row_group(index).total_byte_size for index in range(told.num_row_groups))
    if most_cells is not None and max(told.num_rows * told.num_columns, size // CELL_BYTES) > most_cells:
        raise ValueError(
            f"it has {told.num_rows:,} rows of {told.num_columns:,} columns, {size:,} bytes; at most {most_cells:,} "
            f"cells of {CELL_BYTES} bytes are read"
        )
    schema = told.schema.to_arrow_schema()
    # one long text that stands in each row is kept once, as it is in the file
    texts = [each.name for each in schema if types.is_string(each.type) or types.is_binary(each.type)]
    opened = parquet.ParquetFile(file, metadata=told, read_dictionary=texts)
    return _checked(opened.read(use_threads=most_cells is None))  # a forged page takes 2 GiB, each thread's own


def _feather(file: io.BytesIO, most_cells: int | None) -> Any:  # noqa: ARG001 - no client can send one
    from pyarrow import feather  # noqa: PLC0415

    return _checked(feather.read_table(file))


def _checked(table: Any) -> Any:
    """An Arrow table as a data frame, once what it says of itself was found to be so: a forged one ends the process."""
    table.validate(full=True)
    frame = table.to_pandas()
    for name in frame.columns[frame.dtypes == "category"]:
        frame[name] = frame[name].astype(object)
    return frame


def _netcdf(file: io.BytesIO, most_cells: int | None) -> Any:  # noqa: ARG001 - no client can send one
    import xarray  # noqa: PLC0415

    with xarray.open_dataset(file, engine="h5netcdf") as dataset:
        return dataset.to_dataframe()
