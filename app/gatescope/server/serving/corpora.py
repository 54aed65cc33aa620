"""`Corpora`: folders of traced data sets, and what is known of each."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gatescope.errors import Conflict, CorpusNotFound, Unavailable
from gatescope.server.serving.owner import Owner
from gatescope.zarr_store import Reader

CorpusState = Literal["queued", "running", "done", "failed", "cancelled"]

FOLDER = "corpora"
"""Below the folder of data sets; what lies in it is no data set."""

_FILE, _TRACE, _INDEX = "corpus.json", "trace.zarr", "index"
_UPLOAD, _ARRIVING = "upload", ".upload-"
_ID = re.compile("[0-9a-f]{32}")
_SHOWN_ID_LENGTH = 64  # in messages


@dataclass(frozen=True)
class Corpus:
    """A data set that is traced or will be; as `corpus.json` beside its trace has it."""

    corpus_id: str
    name: str
    model: str
    version: str
    fingerprint: str
    """Of the model's weights and manifest."""
    source: str | None
    """A path below the folder of data sets; None of an upload."""
    id_column: str | None
    created_at: float
    state: CorpusState = "queued"
    problem: dict[str, Any] | None = None
    """Of one that failed: the body of the error."""
    notes: tuple[str, ...] = ()
    """What was assumed when the source was read."""
    owner: str = ""
    """As `Owner.names` has them; none in what a version wrote that knew no owners."""
    media_type: str | None = None
    """Of an upload."""
    suffix: str = ""
    """With which the file of an upload ends."""
    reading: Mapping[str, str] = field(default_factory=dict)
    """How a table is read, but for its id column: what the query said."""

    @property
    def shown(self) -> str:
        """What its source is called in messages."""
        return "the upload" if self.source is None else self.source

    @property
    def is_open(self) -> bool:
        """Whether there is something left to trace."""
        return self.state in {"queued", "running"}


class Corpora:
    """What lies in a folder. One server may have it at a time.

    Args:
        folder: of data sets; None where the operator names none.
        most_bytes: of all corpora on disk.
    """

    def __init__(self, folder: Path | None, most_bytes: int) -> None:
        self._folder, self.most_bytes = folder, most_bytes
        self.jobs: dict[str, str] = {}
        """Corpus -> the job that traces it."""

    @property
    def folder(self) -> Path:
        """Of data sets; raises `Unavailable` where there is none."""
        if self._folder is None:
            raise Unavailable("this server has no corpora: set GATESCOPE_CORPORA_DIR to a folder of data sets")
        return self._folder

    def begin(self, owner: Owner, name: str, model: tuple[str, str, str], source: str, id_column: str | None) -> Corpus:
        """Make a folder for a corpus.

        Args:
            owner: whose it will be.
            name: what it is called.
            model: its name, version and fingerprint.
            source: where the data set is.
            id_column: of a table.

        Raises:
            Unavailable: it cannot be written.
        """
        corpus = Corpus(_new_id(), name, *model, source, id_column, time.time(), owner=owner.name)
        with _writing():
            self._place(corpus.corpus_id).mkdir(parents=True)
            return self.keep(corpus)

    def begin_upload(self) -> Path:
        """Make a hidden folder, into which the file of an upload is written; raises `Unavailable`."""
        folder = self.folder / FOLDER / f"{_ARRIVING}{_new_id()}"
        with _writing():
            folder.mkdir(parents=True)
        return folder

    def begin_of_upload(
        self,
        arrived: Path,
        owner: Owner,
        name: str,
        model: tuple[str, str, str],
        kind: tuple[str, str],
        id_column: str | None,
        reading: Mapping[str, str],
    ) -> Corpus:
        """Make a corpus of the hidden folder of an upload, at once.

        Args:
            arrived: the folder.
            owner: whose it is.
            name: what the corpus is called.
            model: its name, version and fingerprint.
            kind: the media type of the upload, and with what its file ends.
            id_column: of a table.
            reading: how a table is read, but for that.

        Raises:
            Unavailable: it cannot be written.
        """
        corpus = Corpus(_new_id(), name, *model, None, id_column, time.time(), owner=owner.name)
        corpus = replace(corpus, media_type=kind[0], suffix=kind[1], reading=reading)
        with _writing():
            _write(corpus, arrived)
            arrived.rename(self._place(corpus.corpus_id))
        return corpus

    def remove_unfinished_uploads(self) -> None:
        """Of a server that was ended while they arrived."""
        for each in (self.folder / FOLDER).glob(f"{_ARRIVING}*"):
            shutil.rmtree(each, ignore_errors=True)

    def keep(self, corpus: Corpus, **changed: Any) -> Corpus:
        """Write down what is known of a corpus."""
        corpus = replace(corpus, **changed)
        _write(corpus, self._place(corpus.corpus_id))
        return corpus

    def list(self, asker: Owner) -> list[Corpus]:
        """All that are there for whoever asks, the oldest first; what cannot be read is none."""
        found = (corpus for corpus in self._found() if asker.sees(corpus.owner))
        return sorted(found, key=lambda corpus: corpus.created_at)

    def get(self, corpus_id: str, asker: Owner) -> Corpus:
        """One of them; raises `CorpusNotFound`."""
        corpus = self._read(corpus_id) if _ID.fullmatch(corpus_id) and self._folder is not None else None
        if corpus is None or not asker.sees(corpus.owner):
            raise CorpusNotFound(f"there is no corpus '{corpus_id[:_SHOWN_ID_LENGTH]}'")
        return corpus

    def done(self, corpus_id: str, asker: Owner) -> Corpus:
        """One that is traced; raises `CorpusNotFound`, `Conflict`."""
        corpus = self.get(corpus_id, asker)
        if corpus.state != "done":
            raise Conflict(f"corpus '{corpus_id}' is not traced: its state is {corpus.state}")
        return corpus

    def delete(self, corpus: Corpus) -> None:
        """Remove all of it from the disk."""
        shutil.rmtree(self._place(corpus.corpus_id), ignore_errors=True)

    def trace_of(self, corpus: Corpus) -> Path:
        """The folder of Zarr."""
        return self._place(corpus.corpus_id) / _TRACE

    def upload_of(self, corpus: Corpus) -> Path:
        """The file of one whose source is an upload."""
        return uploaded_in(self._place(corpus.corpus_id), corpus.suffix)

    def index_of(self, corpus: Corpus) -> Path:
        """The folder of what makes searches fast."""
        return self._place(corpus.corpus_id) / _INDEX

    def reader(self, corpus: Corpus) -> Reader:
        """Of the trace of a corpus that is done."""
        return Reader(self.trace_of(corpus))

    def bytes_of(self, corpus: Corpus) -> int:
        """On disk."""
        return _size(self._place(corpus.corpus_id))

    def bytes(self) -> int:
        """Of all on disk."""
        return _size(self.folder / FOLDER)

    def _place(self, corpus_id: str) -> Path:
        return self.folder / FOLDER / corpus_id

    def _found(self) -> Iterator[Corpus]:
        for file in (self.folder / FOLDER).glob(f"*/{_FILE}"):
            if _ID.fullmatch(file.parent.name) and (corpus := self._read(file.parent.name)) is not None:
                yield corpus

    def _read(self, corpus_id: str) -> Corpus | None:
        try:
            told = json.loads((self._place(corpus_id) / _FILE).read_text(encoding="utf-8"))
            return Corpus(**told | {"corpus_id": corpus_id, "notes": tuple(told["notes"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None


def uploaded_in(folder: Path, suffix: str) -> Path:
    """The file of an upload in its folder."""
    return folder / f"{_UPLOAD}{suffix}"


def _new_id() -> str:
    return secrets.token_hex(16)


def _write(corpus: Corpus, folder: Path) -> None:
    part = (folder / _FILE).with_suffix(".part")
    part.write_text(json.dumps(asdict(corpus)), encoding="utf-8")
    part.replace(folder / _FILE)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the folder of corpora takes none: {error.strerror or error}") from error


def _size(folder: Path) -> int:
    """Of all files below a folder; what goes meanwhile counts nothing."""
    total, folders = 0, [str(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size
    return total
