"""Sequences in files: .csv, .npy and .json, as the `inputs` of a request."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import InvalidInput


def read_request(path: Path, feature_names: list[str] | None) -> dict[str, Any]:
    """The predict body that this file holds or stands for.

    Args:
        path: .json holds a whole body or its `inputs`; .npy an array of (batch, time, feature) or (time, feature);
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
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error


def _json(path: Path, _: list[str] | None) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {"inputs": value}


def _npy(path: Path, _: list[str] | None) -> dict[str, Any]:
    try:
        return {"inputs": np.load(path, allow_pickle=False).tolist()}
    except ValueError as error:
        raise InvalidInput(f"{path} is no .npy array of numbers: {error}") from error


def _csv(path: Path, feature_names: list[str] | None) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise InvalidInput(f"{path} has no lines")
    if feature_names is None:
        return {"inputs": [[int(_number(path, n, "id", line[0])) for n, line in enumerate(lines, 1)]]}
    if all(_is_number(cell) for cell in lines[0]):
        return {"inputs": [_rows(path, lines, 1, feature_names, list(range(len(lines[0]))))]}
    missing = [name for name in feature_names if name not in lines[0]]
    if missing:
        raise InvalidInput(f"{path}: its first line names no column '{missing[0]}'; it has {', '.join(lines[0])}")
    columns = [lines[0].index(name) for name in feature_names]
    return {"inputs": [_rows(path, lines[1:], 2, feature_names, columns)]}


def _rows(path: Path, lines: list[list[str]], first: int, names: list[str], columns: list[int]) -> list[list[float]]:
    named = dict(zip(columns, names, strict=False))
    rows = []
    for number, line in enumerate(lines, first):
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
