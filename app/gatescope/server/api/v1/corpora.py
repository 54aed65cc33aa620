"""`/v1/corpora`: data sets that are traced onto the disk, to be searched and summed up."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import Any

from gatescope.errors import JobNotFound
from gatescope.server.api import body, query, reply
from gatescope.server.api.context import Context
from gatescope.server.api.corpora import sources, tracing, uploads
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.schema.corpora import CorpusRequest
from gatescope.server.api.v1.sessions import model_named_in
from gatescope.server.serving.corpora import Corpus
from gatescope.server.serving.owner import SERVICE
from gatescope.zarr_store import need


async def begin_corpus(request: Request) -> Reply:
    """Trace a data set onto the disk, in the background: a file that is there, or the body itself."""
    here = request.context
    _ = here.corpora.folder
    need()
    corpus = await (uploads.begin(request) if request.head.find(uploads.is_upload) else _of_file(request))
    try:
        job = tracing.begin(here, corpus)
    except BaseException:
        await asyncio.to_thread(here.corpora.delete, corpus)
        raise
    location = (b"location", f"/v1/corpora/{corpus.corpus_id}".encode())
    return reply.of_json({"corpus_id": corpus.corpus_id, "job_id": job.job_id}, HTTPStatus.ACCEPTED, [location])


async def _of_file(request: Request) -> Corpus:
    here = request.context
    fields = await body.read_fields(request)
    model = model_named_in(fields, here)
    asked = body.validate(fields, CorpusRequest, query.expected(model))
    path = await asyncio.to_thread(sources.resolve, here.corpora.folder, asked.source)
    await asyncio.to_thread(sources.check, path, model, asked.id, asked.source)
    told = model.name, model.version, model.fingerprint
    return await asyncio.to_thread(here.corpora.begin, request.owner, asked.name, told, asked.source, asked.id)


async def list_corpora(request: Request) -> Reply:
    """Every corpus."""
    here = request.context
    found = await asyncio.to_thread(here.corpora.list, request.owner)
    return reply.of_json({"corpora": [await _told(here, corpus) for corpus in found]})


async def get_corpus(request: Request, corpus_id: str) -> Reply:
    """One corpus: how far it is, and how large."""
    here = request.context
    return reply.of_json(await _told(here, await asyncio.to_thread(here.corpora.get, corpus_id, request.owner)))


async def delete_corpus(request: Request, corpus_id: str) -> Reply:
    """Trace a corpus no further, and remove it from the disk."""
    here = request.context
    corpus = await asyncio.to_thread(here.corpora.get, corpus_id, request.owner)
    if (job_id := here.corpora.jobs.get(corpus_id)) is not None:
        with contextlib.suppress(JobNotFound):
            await here.jobs.end(job_id, request.owner)
    await here.jobs.background.run(here.corpora.delete, corpus)  # behind what this thread may still write of it
    return Reply(HTTPStatus.NO_CONTENT, (), None)


async def _told(here: Context, corpus: Corpus) -> dict[str, Any]:
    """What `CorpusReply` describes."""
    job_id = here.corpora.jobs.get(corpus.corpus_id)
    sequences = steps = None
    if corpus.state == "done":
        offsets = (await asyncio.to_thread(here.corpora.reader, corpus)).offsets
        sequences, steps = len(offsets) - 1, int(offsets[-1])
    return {
        "corpus_id": corpus.corpus_id,
        "owner": corpus.owner or None,
        "name": corpus.name,
        "model": {"name": corpus.model, "version": corpus.version},
        "source": corpus.source,
        "media_type": corpus.media_type,
        "state": corpus.state,
        "progress": 1.0
        if corpus.state == "done"
        else None
        if job_id is None
        else here.jobs.get(job_id, SERVICE).progress,
        "job_id": job_id,
        "sequences": sequences,
        "steps": steps,
        "bytes": await asyncio.to_thread(here.corpora.bytes_of, corpus),
        "created_at": corpus.created_at,
        "problem": corpus.problem,
        "notes": list(corpus.notes),
    }
