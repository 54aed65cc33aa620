"""`read_table`: a file, its bytes or a data frame as a `Table`."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatescope.errors import InvalidInput
from gatescope.tables.csv_text import read_csv
from gatescope.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd

TEXTS = (".csv", ".tsv", ".txt")
SUFFIXES = (*TEXTS, ".parquet", ".arrow", ".feather", ".nc")
"""Files that hold tables."""


def read_table(source: Path | bytes, name: str | None = None) -> Table:
    """The table in a file, or in its content.

    Args:
        source: a path, or what such a file holds.
        name: what it is called, which says what it is; the path's own name when not given.

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
    return of_frame(_framed(reader, content, shown), shown)


def of_frame(frame: pd.DataFrame, source: str = "the table") -> Table:
    """The table that a pandas data frame is; an index with a name is a column of it.

    Raises:
        InvalidInput: two columns have one name, or it has no rows.
    """
    if frame.index.name is not None or frame.index.nlevels > 1:
        frame = frame.reset_index()
    frame = frame.rename(columns=str)
    if not len(frame):
        raise InvalidInput(f"{source} has no rows: a table has a row for each time step")
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InvalidInput(f"{source}: the column '{twice}' stands there twice")
    return Table(frame.reset_index(drop=True), source)


def _framed(reader: Callable[[io.BytesIO], Any], content: bytes, shown: str) -> Any:
    try:
        return reader(io.BytesIO(content))
    except (ValueError, OSError, KeyError) as error:
        said = str(error).partition("\n")[0][:200]
        raise InvalidInput(f"{shown} cannot be read: {said}") from error


def _parquet(file: io.BytesIO) -> Any:
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    return pd.read_parquet(file, engine="pyarrow")


def _feather(file: io.BytesIO) -> Any:
    import pandas as pd  # noqa: PLC0415

    return pd.read_feather(file)


def _netcdf(file: io.BytesIO) -> Any:
    import xarray  # noqa: PLC0415

    with xarray.open_dataset(file, engine="h5netcdf") as dataset:
        return dataset.to_dataframe()
