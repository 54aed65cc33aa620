"""`parts_of`: a data set as predict bodies, some sequences at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple, NoReturn

import numpy as np

from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.model import Model
from gatescope.server.api import table_bodies
from gatescope.server.serving.corpora import FOLDER
from gatescope.tables.blocks import LARGE_BYTES, is_large
from gatescope.tables.parts import sequences_in
from gatescope.tables.requests import Body
from gatescope.tables.sequences import Reading

MEDIA_TYPES = table_bodies.FORMATS | {"text/plain": ".txt", "application/x-npy": ".npy"}
"""Of uploads, and what files of them are called."""

TABLES = (".csv", ".tsv", ".txt", ".parquet")
SUFFIXES = (*TABLES, ".npy")

_LONGEST_LINE = 2**20  # characters of a text
_LONGEST_PATH = 1000
_SEQUENCE_AXES, _BATCH_AXES = 2, 3  # of numbers; of ids of tokens each has one less


class Part(NamedTuple):
    """Some sequences of a data set."""

    body: Body
    sequences: int
    """How many there are."""
    read: float
    """Which part of the data set has been read with it, 0…1."""
    notes: tuple[str, ...] = ()
    """What was assumed."""


def resolve(folder: Path, source: str) -> Path:
    """The file that a request names; raises `InvalidInput` for what is no file of a data set in this folder."""
    given = PurePosixPath(source)
    if "\0" in source or "\\" in source or len(source) > _LONGEST_PATH:
        _refuse("must be the path of a file below the folder of data sets")
    if given.is_absolute() or ".." in given.parts:
        _refuse("must be a path below the folder of data sets: neither absolute nor with '..'")
    root = folder.resolve()
    try:
        path = (root / given).resolve(strict=True)
    except (OSError, RuntimeError):
        _refuse(f"there is no '{source}' in the folder of data sets")
    if not path.is_relative_to(root) or path.is_relative_to(root / FOLDER):
        _refuse(f"'{source}' does not lie in the folder of data sets")
    if not path.is_file():
        _refuse(f"'{source}' is no file")
    if path.suffix.lower() not in SUFFIXES:
        _refuse(f"'{source}': data sets end in {', '.join(SUFFIXES)}")
    return path


def check(path: Path, model: Model, id_column: str | None, shown: str) -> None:
    """Refuse what this model cannot read, before a job is begun; raises `InvalidInput`."""
    suffix = path.suffix.lower()
    check_kind(suffix, model, id_column)
    with _called(path, shown):
        if model.vocabulary is None and suffix in TABLES and id_column is None and is_large(path):
            message = f"is missing: a table of more than {LARGE_BYTES // 2**20} MB is read by the ids of its sequences"
            raise InvalidInput.at(Place(("body", "id"), message))


def check_kind(suffix: str, model: Model, id_column: str | None) -> None:
    """Refuse files that end so, if this model cannot read any; raises `InvalidInput`."""
    if model.vocabulary is not None and suffix not in {".npy", ".txt"}:
        _refuse(f"model '{model.name}' reads tokens: give a .txt with a sequence on each line, or ids as .npy")
    if model.vocabulary is not None and suffix == ".txt" and not model.reads_text:
        _refuse(f"model '{model.name}' reads no text: give the ids of its tokens as .npy")
    if id_column is not None and (suffix == ".npy" or model.vocabulary is not None):
        raise InvalidInput.at(Place(("body", "id"), "goes with a table"))


def parts_of(path: Path, model: Model, reading: Reading, most_steps: int, shown: str) -> Iterator[Part]:
    """The sequences of a data set.

    Args:
        path: of the file.
        model: that reads them.
        reading: of a table: how it is read.
        most_steps: of a part, the padding of shorter sequences included; one sequence may have more.
        shown: what it is called in messages.

    Raises:
        InvalidInput: it cannot be read, or does not fit the model; the place is named.
    """
    with _called(path, shown):
        if path.suffix.lower() == ".npy":
            yield from _of_array(path, model, most_steps)
        elif model.vocabulary is not None:
            yield from _of_lines(path, most_steps)
        else:
            yield from _of_table(path, model, reading, most_steps)


@contextmanager
def _called(path: Path, shown: str) -> Iterator[None]:
    """Say what is wrong with a file without telling where the folder of data sets lies."""
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{shown} cannot be read: {error.__class__.__name__}") from error
    except InvalidInput as error:
        raise InvalidInput(error.detail.replace(str(path), shown), error.places) from None


def _of_table(path: Path, model: Model, reading: Reading, most_steps: int) -> Iterator[Part]:
    wanted, before = table_bodies.wanted_of(model), 0.0
    for found, read in sequences_in(path, wanted, reading):
        done, count = 0, len(found.inputs)
        for each in found.parts(most_steps):
            done += len(each.inputs)
            body = Body(each.request(), each)
            yield Part(body, len(each.inputs), before + (read - before) * done / count, tuple(found.notes))
        before = read


def _of_array(path: Path, model: Model, most_steps: int) -> Iterator[Part]:
    values = _opened(path)
    is_tokens = model.vocabulary is not None
    if values.dtype.kind not in ("iu" if is_tokens else "iuf"):
        raise InvalidInput(f"{path} holds {values.dtype}; {'ids of tokens' if is_tokens else 'numbers'} are wanted")
    if values.ndim == _SEQUENCE_AXES - is_tokens:
        values = values[None]
    if values.ndim != _BATCH_AXES - is_tokens or 0 in values.shape:
        axes = "(sequence, time)" if is_tokens else "(sequence, time, feature)"
        raise InvalidInput(f"{path} has the shape {values.shape}; {axes} is wanted, with none of them 0")
    rows = max(1, most_steps // values.shape[1])
    for first in range(0, len(values), rows):
        part = values[first : first + rows]
        ids = [str(row) for row in range(first, first + len(part))]
        inputs = part.tolist() if is_tokens else np.asarray(part, dtype=np.float64)
        yield Part(Body({"inputs": inputs, "ids": ids}), len(part), (first + len(part)) / len(values))


def _opened(path: Path) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise InvalidInput(f"{path} is no .npy array of numbers") from error
    if not isinstance(values, np.ndarray):
        raise InvalidInput(f"{path} is no .npy array of numbers")
    return values


def _of_lines(path: Path, most_steps: int) -> Iterator[Part]:
    """Each line that is not empty is a sequence, and its number the id."""
    size, texts, longest = max(1, path.stat().st_size), dict[str, str](), 0
    with path.open(encoding="utf-8-sig") as file:
        read, number = 0, 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE:
                raise InvalidInput(f"{path}, line {number}: has more than {_LONGEST_LINE:,} characters; break it")
            read += len(line.encode())
            if not (text := line.strip("\r\n")).strip():
                continue
            longest = max(longest, len(text))
            if texts and (len(texts) + 1) * longest > most_steps:
                yield _of_texts(texts, min(1.0, read / size))
                texts, longest = {}, len(text)
            texts[str(number)] = text
    if not texts:
        raise InvalidInput(f"{path} has no text")
    yield _of_texts(texts, 1.0)


def _of_texts(texts: Mapping[str, str], read: float) -> Part:
    return Part(Body({"text": list(texts.values()), "ids": list(texts)}), len(texts), read)


def _refuse(message: str) -> NoReturn:
    raise InvalidInput.at(Place(("body", "source"), message))
