"""`/v1/jobs`: work that no connection waits for."""

from __future__ import annotations

from http import HTTPStatus

import orjson
import structlog

from gatescope.errors import AppError
from gatescope.server.api import codecs, problems
from gatescope.server.api.messages import Reply, Request
from gatescope.server.serving.jobs import Job

log = structlog.get_logger(__name__)


async def get_job(request: Request, job_id: str) -> Reply:
    """How far a job is, and what came of it."""
    told = orjson.dumps(_told(request.context.jobs.get(job_id, request.owner)))
    return Reply(HTTPStatus.OK, (told,), codecs.JSON.media_type)


async def cancel_job(request: Request, job_id: str) -> Reply:
    """End a job that waits or runs; forget one that has ended."""
    request.context.jobs.cancel(job_id, request.owner)
    return Reply(HTTPStatus.NO_CONTENT, (), None)


def _told(job: Job) -> dict[str, object]:
    """What `JobReply` describes."""
    return {
        "job_id": job.job_id,
        "state": job.state,
        "progress": job.progress,
        "created_at": job.created_at,
        "expires_at": job.expires_at,
        "result": None if job.result is None else orjson.Fragment(job.result),
        "problem": None if job.error is None else orjson.Fragment(problem_of(job.error)),
    }


def problem_of(error: BaseException) -> bytes:
    """What went wrong, as the body of a reply tells it."""
    failed = error if isinstance(error, AppError) else None
    return problems.body_of(failed) if failed is not None else bytes(problems.internal().pieces[0])
