"""`begin` and `resume`: data sets are traced onto the disk by jobs."""

from __future__ import annotations

import asyncio
import shutil
from asyncio import Task
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, ParamSpec, TypeVar

import orjson
import structlog

from gatescope.errors import AppError, InvalidInput, ModelReplaced, TraceTooLarge, Unavailable
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer
from gatescope.selection import Selection
from gatescope.server.api import problems, reply, table_bodies
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.codecs.ragged import Ragged
from gatescope.server.api.context import Context
from gatescope.server.api.corpora import sources
from gatescope.server.api.corpora.sources import Part
from gatescope.server.api.query_reader import ReadQuery
from gatescope.server.api.schema.requests import TraceRequest
from gatescope.server.api.v1 import models
from gatescope.server.api.v1.predict import TRACE
from gatescope.server.serving.chunking import step_bytes
from gatescope.server.serving.corpora import Corpus
from gatescope.server.serving.jobs import Job
from gatescope.server.serving.owner import SERVICE, Owner
from gatescope.tables.recorded import inputs_of, recorded
from gatescope.tables.sequences import Reading
from gatescope.zarr_store import Writer, records_kept

Arguments = ParamSpec("Arguments")
Done = TypeVar("Done")

BATCH_BYTES = 2**24
"""Signals of the sequences that are traced together, about."""
LOOK_S = 5.0
"""How often it is looked at how large all corpora are."""

log = structlog.get_logger(__name__)


def begin(here: Context, corpus: Corpus) -> Job:
    """Trace a corpus, or the rest of it; raises `Overloaded`."""
    job = here.jobs.start(Owner(corpus.owner), partial(_trace, here.of_jobs(), corpus))
    here.corpora.jobs[corpus.corpus_id] = job.job_id
    return job


def resume(here: Context) -> None:
    """Go on with what a server before this one did not finish."""
    try:
        here.corpora.remove_unfinished_uploads()
        found = here.corpora.list(SERVICE)
    except Unavailable:
        return
    for corpus in found:
        if corpus.is_open:
            begin(here, corpus)


def check(here: Context, path: Path, model: Model, reading: Reading, shown: str) -> None:
    """Read the first sequences of a data set, and refuse what cannot be traced.

    Raises:
        InvalidInput, TraceTooLarge: as the job would.
    """
    for part in sources.parts_of(path, model, reading, _steps_at_once(here, model), shown):
        _checked(here, part, 0, model, shown)
        return


async def _trace(here: Context, corpus: Corpus, job: Job) -> bytes:
    corpora = here.corpora
    corpus = corpora.keep(corpus, state="running")
    try:
        corpus = await _Tracing(here, corpus, job).run()
    except asyncio.CancelledError:
        if job.state == "cancelled":  # by a client; where the service ends, the next one goes on
            corpora.keep(corpus, state="cancelled")
        raise
    except Exception as error:
        known = error if isinstance(error, AppError) else None
        if known is None:
            log.exception("tracing a corpus failed", corpus=corpus.corpus_id)
        told = problems.internal().pieces[0] if known is None else problems.body_of(known)
        corpora.keep(corpus, state="failed", problem=orjson.loads(told))
        raise
    finally:
        corpora.jobs.pop(corpus.corpus_id, None)
    corpora.keep(corpus, state="done")
    return orjson.dumps({"corpus_id": corpus.corpus_id})


class _Asked(NamedTuple):
    """Some sequences that are to be traced."""

    part: Part
    first: int
    """The index of the first one."""
    asked: ReadQuery[TraceRequest]


class _Tracing:
    """One corpus on its way: the engine traces some sequences while a thread writes those before and reads the next."""

    def __init__(self, here: Context, corpus: Corpus, job: Job) -> None:
        self._here, self._corpus, self._job = here, corpus, job
        self._background, self._notes = here.background, dict.fromkeys(corpus.notes)
        self._trace = here.corpora.trace_of(corpus)
        self._writer: Writer | None = None
        self._kept = 0
        """How many sequences a server before this one has written."""
        self._seen, self._looked_at = 0, 0.0

    async def run(self) -> Corpus:
        """Trace what is not on disk yet; the corpus with what was noted."""
        if await self._background.run(self._is_done):
            return self._corpus
        model, corpus = self._model, self._corpus
        info = models.info(self._here.engine.entry(model.name), model.version).model_dump(mode="json")
        reading = replace(table_bodies.reading_in(corpus.reading), id=corpus.id_column)
        parts = sources.parts_of(self._path, model, reading, _steps_at_once(self._here, model), corpus.shown)
        ahead, writing = self._begun(self._read, parts, model), self._begun(_nothing)
        try:
            while (asked := await ahead) is not None:
                ahead = self._begun(self._read, parts, model)  # the thread turns to it once the last ones are written
                answer = await self._here.engine.answer(model, asked.asked.query)
                await writing
                writing = self._begun(self._write, answer, asked, info)
            await writing
            await self._background.run(self._close)
        finally:
            for each in (ahead, writing):
                each.cancel()  # the thread comes to its end all the same
        return replace(self._corpus, notes=tuple(self._notes))

    def _begun(self, work: Callable[Arguments, Done], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Task[Done]:
        """Work for the thread, behind what it has to do."""
        task = asyncio.ensure_future(self._background.run(work, *args, **kwargs))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ask for it any more
        return task

    def _is_done(self) -> bool:
        """Whether a server before this one has written all of it; what it had only begun to make is removed."""
        if not self._trace.exists():
            return False
        if (kept := records_kept(self._trace)) is not None:
            self._kept = kept
            return False
        if (self._trace / "zarr.json").exists():
            return True
        shutil.rmtree(self._trace)
        return False

    @cached_property
    def _model(self) -> Model:
        corpus = self._corpus
        model = self._here.engine.model(corpus.model, corpus.version)
        if model.fingerprint != corpus.fingerprint:
            raise ModelReplaced(f"model '{model.name}', version '{model.version}', has other weights than at the start")
        return model

    @property
    def _path(self) -> Path:
        corpora, source = self._here.corpora, self._corpus.source
        return corpora.upload_of(self._corpus) if source is None else sources.resolve(corpora.folder, source)

    def _read(self, parts: Iterator[Part], model: Model) -> _Asked | None:
        """The next sequences that are not on disk yet."""
        for part in parts:
            first, self._seen = self._seen, self._seen + part.sequences
            if self._seen <= self._kept:
                continue
            self._notes |= dict.fromkeys(part.notes)
            return _checked(self._here, part, first, model, self._corpus.shown)
        return None

    def _write(self, answer: Answer, asked: _Asked, info: Mapping[str, Any]) -> None:
        part, first, read = asked
        told = reply.trace(answer, self._model, reply.of_request(read, self._model))
        has_horizon = bool(answer.horizon)
        about, records = recorded(_with_arrays(told), info, inputs_of(part.body, info), has_horizon=has_horizon)
        if any(values.shape[2] != each.steps for each in records for values in each.signals.values()):
            message = "the model does not run over every step of a sequence once, so a corpus cannot say which is which"
            raise InvalidInput(f"{self._corpus.shown}: {message}")
        self._notes |= dict.fromkeys(str(note["message"]) for note in told.get("notes", ()))
        if self._writer is None:
            self._writer = Writer(self._trace, about, resume=True)
        for record in records[max(0, len(self._writer) - first) :]:
            self._writer.append(record)
        self._job.progress = part.read
        self._check_bytes()

    def _check_bytes(self) -> None:
        if monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = monotonic()
        corpora = self._here.corpora
        if (size := corpora.bytes()) > corpora.most_bytes:
            message = (
                f"all corpora have {size:,} bytes, and this server keeps at most {corpora.most_bytes:,}: delete some"
            )
            raise Unavailable(message)

    def _close(self) -> None:
        if self._writer is None:
            raise InvalidInput(f"{self._corpus.shown} has no sequences")
        self._writer.close()


def _checked(here: Context, part: Part, first: int, model: Model, shown: str) -> _Asked:
    try:
        return _Asked(part, first, TRACE.of_fields(part.body.labelled, model, here.limits))
    except (InvalidInput, TraceTooLarge) as error:
        last = first + part.sequences - 1
        where = f"sequence {first}" if part.sequences == 1 else f"sequences {first} to {last}"
        raise type(error)(f"{shown}, {where}: {error.detail}", error.places) from None


def _steps_at_once(here: Context, model: Model) -> int:
    limits = here.limits
    return max(1, min(limits.max_batch_steps, min(limits.max_trace_bytes, BATCH_BYTES) // _step_bytes(model)))


def _nothing() -> None:
    """Before anything is written."""


def _step_bytes(model: Model) -> int:
    return step_bytes(Selection().resolve(model.spec), 1)


def _with_arrays(told: Fields) -> Fields:
    """A trace reply as a client has it that reads arrays."""
    arrays: Fields = told | told["signals"]
    if "prediction" in told:
        values = told["prediction"]["values"]
        arrays["prediction"] = told["prediction"] | {"values": values.rows() if isinstance(values, Ragged) else values}
    return arrays
