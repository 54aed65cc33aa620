"""The same service below other ASGI servers: the application called as they call it."""

import asyncio
import json

import httpx
import numpy as np
import pytest

from gatescope.server.main import create_app
from gatescope.server.settings import Settings
from tests.server.api.helpers import GOOD, PREDICT, numbered


@pytest.fixture(scope="module")
def app(models_dir):
    return create_app(Settings(models_dir=models_dir, watch=False, max_body_bytes=100_000, allowed_hosts=("test",)))


@pytest.fixture(scope="module")
def inside(app):
    """`inside(function)`: what this coroutine of a client gives, while the application runs."""
    with asyncio.Runner() as runner:

        async def start():
            context = app.router.lifespan_context(app)
            await context.__aenter__()
            await app.state.context.engine.loaded()
            return context

        context = runner.run(start())

        async def asking(function):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                return await function(client)

        yield lambda function: runner.run(asking(function))
        runner.run(context.__aexit__(None, None, None))


JSON = {"Content-Type": "application/json"}


def test_requests_are_answered_with_the_same_numbers(inside, expected):
    async def ask(client):
        return [await client.post(PREDICT, content=numbered(number, 3), headers=JSON) for number in range(4)]

    for number, reply in enumerate(inside(ask)):
        assert (reply.status_code, len(reply.headers["x-request-id"])) == (200, 16)
        assert np.array(reply.json()["output"][0]) == expected(number, 3)


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "title"),
    [
        ("POST", PREDICT, b"no", JSON, 400, "InvalidJSON"),
        ("POST", PREDICT, GOOD, {}, 415, "UnsupportedMediaType"),
        ("POST", PREDICT, b"1" * 100_001, JSON, 413, "BodyTooLarge"),
        ("POST", "/v1/models/nobody/predict", GOOD, JSON, 404, "ModelNotFound"),
        ("GET", "/nowhere", b"", {}, 404, "NotFound"),
        ("PATCH", PREDICT, b"", {}, 405, "MethodNotAllowed"),
        ("POST", PREDICT, GOOD, JSON | {"Origin": "https://evil.example"}, 403, "ForeignOrigin"),
        ("GET", "/v1/models", b"", {"X-Request-Timeout-Ms": "soon"}, 422, "InvalidInput"),
    ],
)
def test_errors_are_the_same(inside, method, path, content, headers, status, title):
    reply = inside(lambda client: client.request(method, path, content=content, headers=headers))
    assert (reply.status_code, reply.json()["title"]) == (status, title)
    assert reply.headers["x-request-id"]


def test_a_body_of_unknown_length_is_bounded_too(inside):
    async def pieces():
        for _ in range(20):
            yield b"1" * 10_000

    reply = inside(lambda client: client.post(PREDICT, content=pieces(), headers=JSON))
    assert (reply.status_code, reply.json()["title"]) == (413, "BodyTooLarge")


def test_a_streamed_reply_comes_in_lines(inside):
    headers = JSON | {"Accept": "application/x-ndjson"}
    reply = inside(lambda client: client.post("/v1/models/founding/trace", content=numbered(1, 5), headers=headers))
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert (reply.status_code, len(lines)) == (200, 1 + 5 + 1)


def test_a_large_reply_comes_whole(inside):
    reply = inside(lambda client: client.post("/v1/models/founding/trace", content=numbered(1, 900), headers=JSON))
    assert len(reply.json()["signals"]["hidden_state"][0][0][0]) == 900
    assert int(reply.headers["content-length"]) == len(reply.content)


def test_a_client_that_leaves_is_given_up(app, inside, gate):
    """Whatever the server calls leaving: a message of its own."""
    said = []

    async def run(_):
        left = asyncio.Event()
        messages = [{"type": "http.request", "body": GOOD, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            said.append(message)

        headers = [(b"host", b"test"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": PREDICT, "query_string": b"", "headers": headers}
        gate.shut()
        answering = asyncio.create_task(app(scope, receive, send))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        left.set()
        await asyncio.wait_for(answering, 10)
        gate.open.set()

    inside(run)
    assert said == []
