"""Sequences in files: .csv, .npy and .json, as the `inputs` of a request."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.errors import InvalidInput


def read_request(path: Path, feature_names: list[str] | None) -> dict[str, Any]:
    """The predict body that this file holds or stands for.

    Args:
        path: .json holds a whole body, its `inputs`, or is a model's sample.json; .npy an array of (batch, time,
            feature) or (time, feature);
            .csv one sequence, a time step a line, with the features' names in its first line or without.
        feature_names: the model's features in their order, None for a model of tokens.

    Raises:
        InvalidInput: the file cannot be read as that; the place is named.
    """
    readers = {".csv": _csv, ".npy": _npy, ".json": _json}
    if path.suffix not in readers:
        raise InvalidInput(f"{path}: files end in {', '.join(readers)}, not in '{path.suffix}'")
    try:
        return readers[path.suffix](path, feature_names)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, RecursionError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _json(path: Path, _: list[str] | None) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        return {"inputs": value}
    request = value.get("request", value)  # of a model's sample.json
    return request if isinstance(request, dict) else value


def _npy(path: Path, _: list[str] | None) -> dict[str, Any]:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is no .npy array of numbers: {error}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise InvalidInput(f"{path} is no .npy array of numbers: it holds {getattr(values, 'dtype', 'several arrays')}")
    return {"inputs": values.tolist()}


def _csv(path: Path, feature_names: list[str] | None) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        lines = [(reader.line_num, line) for line in reader if line]
    if not lines:
        raise InvalidInput(f"{path} has no lines")
    if feature_names is None:
        return {"inputs": [[_token(path, number, line) for number, line in lines]]}
    head = lines[0][1]
    if all(_is_number(cell) for cell in head):
        return {"inputs": [_rows(path, lines, feature_names, list(range(len(head))))]}
    missing = [name for name in feature_names if name not in head]
    if missing:
        raise InvalidInput(f"{path}: its first line names no column '{missing[0]}'; it has {', '.join(head)}")
    columns = [head.index(name) for name in feature_names]
    return {"inputs": [_rows(path, lines[1:], feature_names, columns)]}


def _token(path: Path, number: int, line: list[str]) -> int:
    if len(line) != 1:
        raise InvalidInput(f"{path}, line {number}: there are {len(line)} columns; a token's id stands alone")
    if not _is_number(line[0]) or not float(line[0]).is_integer():
        raise InvalidInput(f"{path}, line {number}, column 'id': {line[0]!r} is not the id of a token")
    return int(float(line[0]))


def _rows(path: Path, lines: list[tuple[int, list[str]]], names: list[str], columns: list[int]) -> list[list[float]]:
    named = dict(zip(columns, names, strict=False))
    rows = []
    for number, line in lines:
        if len(line) <= max(columns):
            raise InvalidInput(f"{path}, line {number}: there are {len(line)} columns, not {max(columns) + 1}")
        rows.append([_number(path, number, named.get(column, str(column)), line[column]) for column in columns])
    return rows


def _number(path: Path, line: int, column: str, cell: str) -> float:
    if not _is_number(cell):
        raise InvalidInput(f"{path}, line {line}, column '{column}': {cell!r} is not a number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
