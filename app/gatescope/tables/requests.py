"""`read_body`: a file as the predict body that it holds or stands for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.tables.csv_file import read_csv
from gatescope.tables.files import SUFFIXES, of_frame, read_table
from gatescope.tables.parts import STDIN
from gatescope.tables.sequences import Reading, Sequences, Wanted, interpret
from gatescope.tables.table import Table


class Body(NamedTuple):
    """What is asked, as lists or arrays, and of a table also its times and ids."""

    request: dict[str, Any]
    sequences: Sequences | None = None

    @property
    def labelled(self) -> dict[str, Any]:
        """The request with the times, ids and measured values of a table, for replies that tell them."""
        return self.request if self.sequences is None else self.request | self.sequences.labels()


def read_body(path: Path, info: Mapping[str, Any], reading: Reading | None = None) -> Body:
    """The predict body that a file holds or stands for.

    Args:
        path: .json holds a whole body, its `inputs`, or is a model's sample.json; one of records is a table; .npy an
            array of (batch, time, feature) or (time, feature); .npz such an array as `inputs`; a table (.csv, .parquet,
            .arrow, .nc or standard input) has a row for each time step, with columns that are found by name.
        info: ModelInfo of the model.
        reading: how a table is to be read.

    Raises:
        InvalidInput: the file cannot be read as that, or does not fit the model; the place is named.
        ModuleNotFoundError: what reads this kind of file is not installed.
    """
    if reading is not None and reading.static is not None and path.suffix in {".npy", ".npz"}:
        raise InvalidInput(
            f"{path}: static features from a second table go with a table, which has ids; give it as .csv"
        )
    readers = {".npy": _npy, ".npz": _npz, ".json": _json}
    if path != STDIN and path.suffix in readers:
        try:
            return _of_request(readers[path.suffix](path), path, info, reading)
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
        except (UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error
    if path != STDIN and path.suffix.lower() not in SUFFIXES and path.suffix != ".txt":
        known = ", ".join((*SUFFIXES, *readers))
        raise InvalidInput(f"{path}: files end in {known}, not in '{path.suffix}'")
    table = read_csv(sys.stdin.buffer.read(), "standard input") if path == STDIN else read_table(path)
    return _body(table, info, reading)


def _of_request(request: dict[str, Any], path: Path, info: Mapping[str, Any], reading: Reading | None) -> Body:
    """The body that was read; a list of records with names is a table."""
    records = request.get("inputs")
    if not (isinstance(records, list) and records and all(isinstance(each, dict) for each in records)):
        return Body(request)
    import pandas as pd  # noqa: PLC0415 - an extra, loaded when it is needed

    return _body(of_frame(pd.DataFrame(records), str(path)), info, reading)


def _body(table: Table, info: Mapping[str, Any], reading: Reading | None) -> Body:
    """The predict body of a table."""
    if (info["input"] or {}).get("kind") == "tokens":
        return Body({"inputs": [_ids(table)]})
    sequences = interpret(table, Wanted.of(info), reading)
    return Body(sequences.arrays(), sequences)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        return {"inputs": value}
    request = value.get("request", value)  # of a model's sample.json
    return request if isinstance(request, dict) else value


def _npy(path: Path) -> dict[str, Any]:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is no .npy array of numbers: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise InvalidInput(f"{path} is no .npy array of numbers: it holds {getattr(values, 'dtype', 'several arrays')}")
    return {"inputs": _sendable(values)}


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
            values = file["inputs" if "inputs" in names else names[0]] if names else None
    except (ValueError, EOFError, KeyError, OSError) as error:
        raise InvalidInput(f"{path} is no .npz of arrays: {error}") from error
    if values is None or values.dtype.kind not in "iuf" or ("inputs" not in names and len(names) > 1):
        raise InvalidInput(
            f"{path} must hold one array of numbers, or one called 'inputs'; it holds {', '.join(names)}"
        )
    return {"inputs": _sendable(values)}


def _sendable(values: np.ndarray) -> Any:
    """The array; as lists where its numbers may be larger than those of a request's arrays."""
    return values.tolist() if values.dtype == np.uint64 else values


def _ids(table: Table) -> list[int]:
    """The ids of tokens, one a line."""
    frame = table.frame
    if len(frame.columns) != 1:
        raise table.refused(f"there are {len(frame.columns)} columns; a token's id stands alone", row=0)
    ids = []
    for row, cell in enumerate(frame.iloc[:, 0]):
        number = _whole(cell)
        if number is None:
            raise table.refused(f"{str(cell)[:64]!r} is not the id of a token", row=row, column="id")
        ids.append(number)
    return ids


def _whole(cell: Any) -> int | None:
    """The whole number in a cell."""
    try:
        number = float(cell)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
