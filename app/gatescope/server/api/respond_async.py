"""`Prefer: respond-async` (RFC 7240): a request that is answered by a job, so that no connection waits for it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
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
    """Answer with a job as soon as the body is there; the job's result is the reply in JSON.

    Raises:
        NotAcceptable: the client takes no JSON.
        BodyTooLarge, ClientLeft: as `Request.content` does.
        Overloaded: too many jobs wait.
    """
    here, head = request.context, request.head
    head.find(negotiation.json_writer)
    content = await request.content(here.limits.max_body_bytes)
    later = Request(_in_json(head), _Received(content), is_loopback=request.is_loopback)
    later.id, later.route_path = request.id, request.route_path
    later.context = replace(here, background=here.jobs.background)
    job = here.jobs.start(partial(_answered, route, later, path_values), len(content))
    return accepted({"job_id": job.job_id}, job, [_APPLIED])


def accepted(told: dict[str, str], job: Job, headers: list[tuple[bytes, bytes]] | None = None) -> Reply:
    """The reply that tells where a job is found."""
    location = (b"location", f"/v1/jobs/{job.job_id}".encode())
    return reply.of_json(told, HTTPStatus.ACCEPTED, [location, *(headers or ())])


async def _answered(route: Route, request: Request, path_values: dict[str, str], _: Job) -> bytes:
    answer = await route.endpoint(request, **path_values)
    if not isinstance(answer, Reply):
        raise TypeError("a reply in JSON is written as a whole")
    return b"".join(answer.pieces)


def _in_json(head: Head) -> Head:
    """The same request for a reply in JSON."""
    headers = [(name, value) for name, value in head.headers if name not in {b"accept", b"prefer"}]
    asked = Head(head.method, head.path, head.query, headers, head.http_version, head.raw_path)
    asked.route, asked.path_values, asked.is_allowed = head.route, head.path_values, True
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
