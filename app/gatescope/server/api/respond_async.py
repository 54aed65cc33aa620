"""`Prefer: respond-async` (RFC 7240): a request that is answered by a job, so that no connection waits for it."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from gatescope.server.api import negotiation, reply
from gatescope.server.api.messages import Head, Reply, Request
from gatescope.server.api.routes import Route
from gatescope.server.serving.jobs import Job

PREFERENCE = "respond-async"
_APPLIED = (b"preference-applied", PREFERENCE.encode())


def is_preferred(head: Head) -> bool:
    """Whether the client would rather not wait."""
    preferences = b",".join(head.all(b"prefer")).decode("latin-1").split(",")
    return any(each.partition(";")[0].strip().lower() == PREFERENCE for each in preferences)


async def begin(route: Route, request: Request, **path_values: str) -> Reply:
    """Answer with a job as soon as the request is known to be good; the job's result is the reply in JSON.

    Raises:
        NotAcceptable: the client takes no JSON.
        BodyTooLarge, ClientLeft: as `Request.content` does.
        Overloaded: too many jobs wait.
        AppError: whatever the reply without a job would say before anything is computed.
    """
    jobs, head = request.context.jobs, request.head
    head.find(negotiation.json_writer)
    content = await request.content(request.context.limits.max_body_bytes)
    job = jobs.admit(request.owner, len(content))
    later = Request(_in_json(head), _Received(content), is_loopback=request.is_loopback)
    later.id, later.route_path, later.context = request.id, request.route_path, request.context.of_jobs()
    checked, turn = asyncio.Event(), asyncio.Event()

    async def wait_for_turn() -> None:
        later.body = _Received(b"")
        checked.set()
        await turn.wait()

    later.on_checked, later.on_progress = wait_for_turn, job.advance
    answering = asyncio.create_task(_answered(route, later, path_values))
    try:
        await _first(answering, checked)
    except BaseException:
        answering.cancel()
        jobs.withdraw(job)
        raise

    async def work(_: Job) -> bytes:
        turn.set()
        return await answering

    jobs.run(job, work).add_done_callback(lambda _: answering.cancel())  # also of one that never had its turn
    return accepted({"job_id": job.job_id}, job, [_APPLIED])


async def _first(answering: asyncio.Task[bytes], checked: asyncio.Event) -> None:
    """Wait until all is checked, or the answer is there; raises what was found to be wrong."""
    waiting = asyncio.create_task(checked.wait())
    try:
        await asyncio.wait((answering, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if not checked.is_set():
        await answering


def accepted(told: dict[str, str], job: Job, headers: list[tuple[bytes, bytes]] | None = None) -> Reply:
    """The reply that tells where a job is found."""
    location = (b"location", f"/v1/jobs/{job.job_id}".encode())
    return reply.of_json(told, HTTPStatus.ACCEPTED, [location, *(headers or ())])


async def _answered(route: Route, request: Request, path_values: dict[str, str]) -> bytes:
    answer = await route.endpoint(request, **path_values)
    if not isinstance(answer, Reply):
        raise TypeError("a reply in JSON is written as a whole")
    return b"".join(answer.pieces)


def _in_json(head: Head) -> Head:
    """The same request for a reply in JSON."""
    headers = [(name, value) for name, value in head.headers if name not in {b"accept", b"prefer"}]
    asked = Head(head.method, head.path, head.query, headers, head.http_version, head.raw_path)
    asked.route, asked.path_values, asked.is_allowed, asked.owner = head.route, head.path_values, True, head.owner
    return asked


class _Received:
    """A body that has arrived."""

    def __init__(self, content: bytes) -> None:
        self.whole: bytes | None = content
        self._left = content

    async def all(self, max_bytes: int) -> bytes:  # noqa: ARG002 - it was bounded when it came
        """All of it."""
        return self.whole or b""

    async def next(self) -> bytes:
        """All of it, then nothing."""
        piece, self._left = self._left, b""
        return piece
