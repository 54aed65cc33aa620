"""`InProcess`: the service in this process, as a transport of httpx."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import httpx
from fastapi import FastAPI

from gatescope.server.main import create_app
from gatescope.server.settings import Settings


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
