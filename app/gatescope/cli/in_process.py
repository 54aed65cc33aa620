"""`InProcess`: the service in this process, without a server's limits, as a transport of httpx."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

import httpx
from fastapi import FastAPI

from gatescope.pipeline.model import Model
from gatescope.server.api.limits import Limits
from gatescope.server.api.v1.models import info
from gatescope.server.main import create_app
from gatescope.server.settings import Settings

_YEARS_S = 1e9

UNLIMITED = {
    "max_body_bytes": sys.maxsize,
    "max_time_steps": sys.maxsize,
    "max_batch_steps": sys.maxsize,
    "max_trace_bytes": sys.maxsize,
    "request_timeout_s": _YEARS_S,
}
"""What protects a server from its clients: whoever computes in a process of their own needs none of it."""


class InProcess(httpx.BaseTransport):
    """Carries requests to a service in this process, which begins and ends with it.

    Args:
        settings: of the service; its limits are lifted, nobody needs a key, and nothing is watched.
        model: the only one that is loaded; all of them where it is None.

    Raises:
        AppError: the service cannot begin.
    """

    def __init__(self, settings: Settings, model: str | None = None) -> None:
        alone = settings.model_copy(update={"api_keys": (), "admin_keys": (), "watch": False} | UNLIMITED)
        app = create_app(alone, only=None if model is None else (model,))
        self._asgi, self._context = httpx.ASGITransport(app), app.state.context
        self._lifespan, self._runner = AsyncExitStack(), asyncio.Runner()
        try:
            self._runner.run(self._begin(app))
        except BaseException:
            self.close()
            raise

    @property
    def limits(self) -> Limits:
        """Of the service: none that matter."""
        limits: Limits = self._context.limits
        return limits

    def model(self, name: str) -> Model:
        """A model of the service; raises `ModelNotFound`, `ModelUnavailable`."""
        model: Model = self._context.engine.model(name)
        return model

    def info(self, name: str) -> dict[str, Any]:
        """The ModelInfo of it; raises `ModelNotFound`."""
        return info(self._context.engine.entry(name), None).model_dump(mode="json")

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
