"""`Connection`: one and the same client, of the service in this process or of a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI

from gatescope.client import Client, ServiceError, Unreachable
from gatescope.client.body import JSON
from gatescope.errors import AppError, InvalidInput
from gatescope.server.main import create_app
from gatescope.server.settings import Settings


class Refused(AppError):
    """The service answered with an error, or not at all."""


class Connection:
    """Asks the API for the command line; a context manager.

    Args:
        url: of a running server; None serves the models of `settings` in this process, without a socket.
        settings: for the service in this process.
        key: an API key of the server.
    """

    def __init__(self, url: str | None, settings: Settings, key: str | None = None) -> None:
        self._client = _local(settings) if url is None else _remote(url, key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON that stands there; raises `Refused`."""
        try:
            return self._client.get(path)
        except AppError as error:
            raise _named(error) from error

    def post(self, path: str, body: Mapping[str, Any], accept: str = JSON) -> bytes:
        """The reply's bytes in this format; raises `Refused`. Only what asks may be posted: it may be sent twice."""
        try:
            return self._client.post(path, body, accept, repeatable=True)
        except AppError as error:
            raise _named(error) from error


class InProcess(httpx.BaseTransport):
    """Carries requests to a service in this process, which begins and ends with it.

    Raises:
        AppError: the service cannot begin.
    """

    def __init__(self, settings: Settings) -> None:
        app = create_app(settings)
        self._asgi = httpx.ASGITransport(app)
        self._lifespan, self._runner = AsyncExitStack(), asyncio.Runner()
        try:
            self._runner.run(self._begin(app))
        except BaseException:
            self.close()
            raise

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The service's reply."""
        return self._runner.run(self._answer(request))

    def close(self) -> None:
        """End the service."""
        self._runner.run(self._lifespan.aclose())
        self._runner.close()

    async def _begin(self, app: FastAPI) -> None:
        await self._lifespan.enter_async_context(app.router.lifespan_context(app))
        await app.state.context.engine.loaded()

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        reply = await self._asgi.handle_async_request(request)
        content = b"".join([chunk async for chunk in reply.aiter_raw()])
        return httpx.Response(reply.status_code, headers=reply.headers, stream=httpx.ByteStream(content))


def _local(settings: Settings) -> Client:
    """Without keys: whoever can start the service may ask it. Without a deadline of ours: the service has its own."""
    alone = settings.model_copy(update={"api_keys": (), "admin_keys": (), "watch": False})
    return Client("http://in-process", timeout_s=None, retries=0, transport=InProcess(alone))


def _remote(url: str, key: str | None) -> Client:
    try:
        return Client(url, key, timeout_s=None)
    except InvalidInput as error:
        raise Refused(f"--url {error}") from None


def _named(error: AppError) -> Refused:
    """With its stable name, unless it has no other than ours."""
    return Refused(str(error) if isinstance(error, ServiceError | Unreachable) else f"{type(error).__name__}: {error}")
