"""`Connection`: one and the same API, in this process or at the URL of a running server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from app.errors import AppError
from app.main import create_app
from app.settings import Settings

JSON = "application/json"


class Refused(AppError):
    """The service answered with an error, or not at all."""


class Connection:
    """Asks the API synchronously; a context manager.

    Args:
        url: of a running server; None serves the models of `settings` in this process, without a socket.
        settings: for the service in this process.
        key: an API key of the server.
    """

    def __init__(self, url: str | None, settings: Settings, key: str | None = None) -> None:
        self._runner = asyncio.Runner()
        headers = {b"Authorization": f"Bearer {key}".encode(errors="surrogateescape")} if key else {}
        self._opened = _remote(url, headers) if url else _in_process(settings)
        self._client: httpx.AsyncClient | None = None

    def __enter__(self) -> Self:
        try:
            self._client = self._runner.run(self._opened.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.run(self._opened.__aexit__(None, None, None))
        self._runner.close()

    def get(self, path: str) -> Any:
        """The JSON that stands there; raises `Refused`."""
        return self._ask("GET", path).json()

    def post(self, path: str, body: dict[str, Any], accept: str = JSON) -> bytes:
        """The reply's bytes in this format; raises `Refused`. NaN is posted too: the API then says where it stands."""
        headers = {"Accept": accept, "Content-Type": JSON}
        return self._ask("POST", path, content=json.dumps(body), headers=headers).content

    def _ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if self._client is None:
            raise RuntimeError("the connection is not open")
        try:
            reply = self._runner.run(self._client.request(method, path, **arguments))
        except httpx.HTTPError as error:
            raise Refused(f"no answer from {self._client.base_url}: {error}") from error
        if reply.is_error:
            raise Refused(_detail(reply))
        return reply


def _detail(reply: httpx.Response) -> str:
    try:
        problem = reply.json()
        return f"{problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.reason_phrase}"


@asynccontextmanager
async def _remote(url: str, headers: dict[bytes, bytes]) -> AsyncIterator[httpx.AsyncClient]:
    try:
        base_url = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Refused(f"--url {url}: {error}") from error
    async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=None) as client:  # noqa: S113 - the server has a deadline
        yield client


@asynccontextmanager
async def _in_process(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings.model_copy(update={"api_keys": (), "admin_keys": (), "watch": False}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://in-process") as client,
    ):
        await app.state.context.engine.loaded()
        yield client
