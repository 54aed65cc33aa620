"""`Corpora`: folders of traced data sets, and what is known of each."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gatescope.errors import Conflict, CorpusNotFound, Unavailable
from gatescope.server.serving.owner import Owner
from gatescope.zarr_store import Reader

CorpusState = Literal["queued", "running", "done", "failed", "cancelled"]

FOLDER = "corpora"
"""Below the folder of data sets; what lies in it is no data set."""

_FILE, _TRACE, _INDEX = "corpus.json", "trace.zarr", "index"
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
    source: str
    """A path below the folder of data sets."""
    id_column: str | None
    created_at: float
    state: CorpusState = "queued"
    problem: dict[str, Any] | None = None
    """Of one that failed: the body of the error."""
    notes: tuple[str, ...] = ()
    """What was assumed when the source was read."""
    owner: str = ""
    """As `Owner.names` has them; none in what a version wrote that knew no owners."""

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
        corpus = Corpus(secrets.token_hex(16), name, *model, source, id_column, time.time(), owner=owner.name)
        try:
            self._place(corpus.corpus_id).mkdir(parents=True)
            return self.keep(corpus)
        except OSError as error:
            raise Unavailable(f"the folder of corpora takes none: {error.strerror or error}") from error

    def keep(self, corpus: Corpus, **changed: Any) -> Corpus:
        """Write down what is known of a corpus."""
        corpus = replace(corpus, **changed)
        file = self._place(corpus.corpus_id) / _FILE
        part = file.with_suffix(".part")
        part.write_text(json.dumps(asdict(corpus)), encoding="utf-8")
        part.replace(file)
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
