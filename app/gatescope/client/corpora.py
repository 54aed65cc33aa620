"""The calls for corpora: data sets that the server traces onto its disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypedDict, Unpack

from gatescope.client.body import Body, encode
from gatescope.client.call import Call, path
from gatescope.client.reply import json, nothing
from gatescope.errors import CorpusNotFound, InvalidInput

_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".npy": "application/x-npy",
    ".parquet": "application/vnd.apache.parquet",
}


class OfSource(TypedDict, total=False):
    """Which version reads a data set, and by which ids."""

    version: str | None
    id: str | None


class OfUpload(OfSource, total=False):
    """The same, and how a table is read."""

    timestamps: str | None
    map: str | None
    fill: str | None
    day_first: bool | None


def begin_corpus(model: str, name: str, source: str, **more: Unpack[OfSource]) -> Call[dict[str, Any]]:
    """Trace a data set that lies on the server's disk, in the background: its `corpus_id` and `job_id`.

    It is never sent twice: there would be two corpora.

    Args:
        model: its name.
        name: what the corpus is called.
        source: the path of a file below the server's folder of data sets.
        **more: `version` of the model, and of a table `id`, the column that tells sequences apart.

    Raises:
        InvalidInput: there is no such file, or this model reads none of its kind.
        AppError: what else the server refuses.
    """
    asked = {"model": model, "name": name, "source": source, **more}
    return Call("POST", path("corpora"), json, encode(asked), repeatable=False)


def upload_corpus(
    model: str, name: str, file: str | os.PathLike[str], **table: Unpack[OfUpload]
) -> Call[dict[str, Any]]:
    """Send a data set and have it traced, in the background: its `corpus_id` and `job_id`.

    It is never sent twice: there would be two corpora.

    Args:
        model: its name.
        name: what the corpus is called.
        file: a path here; a text (.txt), .csv, .parquet or .npy. It is held in memory while it is sent.
        **table: `version` of the model; and how a table is read: `id`, `timestamps`, `map`, `fill` and `day_first`, as
            `docs/api.md` describes them.

    Raises:
        InvalidInput: the file is not there or of another kind, or it does not fit the model.
        BodyTooLarge: it is larger than the server takes.
        AppError: what else the server refuses.
    """
    given = Path(file)
    if (media_type := _MEDIA_TYPES.get(given.suffix.lower())) is None:
        raise InvalidInput(f"{given}: data sets end in {', '.join(_MEDIA_TYPES)}")
    try:
        body = Body(given.read_bytes(), media_type)
    except OSError as error:
        raise InvalidInput(f"{given} cannot be read: {error.strerror or error}") from error
    asked = {"model": model, "name": name} | {key: _told(value) for key, value in table.items() if value is not None}
    return Call("POST", path("corpora"), json, body, parameters=asked, repeatable=False)


def corpora() -> Call[list[dict[str, Any]]]:
    """Every corpus, the oldest first: its state, progress and size."""
    return Call("GET", path("corpora"), lambda reply: list(json(reply)["corpora"]))


def corpus(corpus_id: str) -> Call[dict[str, Any]]:
    """One corpus: its state, progress and size.

    Raises:
        CorpusNotFound: there is none.
    """
    return Call("GET", path("corpora", corpus_id), json)


def delete_corpus(corpus_id: str) -> Call[None]:
    """Trace it no further, and remove it from the server's disk.

    Raises:
        CorpusNotFound: there is none.
    """
    return Call("DELETE", path("corpora", corpus_id), nothing, done_if=CorpusNotFound)


def _told(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
