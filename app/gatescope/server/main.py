"""`create_app`: the one place where the parts are joined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from typing import TypeVar

import structlog
import torch
from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from gatescope.errors import InvalidInput
from gatescope.server import runtime
from gatescope.server.api import openapi, routes
from gatescope.server.api.admission import Admission
from gatescope.server.api.asgi import AsgiApplication
from gatescope.server.api.auth import Guard
from gatescope.server.api.context import Context
from gatescope.server.api.corpora import tracing
from gatescope.server.api.cors import Cors
from gatescope.server.api.edge import Edge
from gatescope.server.api.exchange import Exchange
from gatescope.server.api.inspector import Inspector
from gatescope.server.api.limits import ConnectionLimits, Limits
from gatescope.server.api.metrics import Metrics
from gatescope.server.api.routes import Routes
from gatescope.server.repository.repository import Repository
from gatescope.server.serving.background import Background
from gatescope.server.serving.corpora import Corpora
from gatescope.server.serving.jobs import Jobs
from gatescope.server.serving.local import LocalEngine
from gatescope.server.serving.session_stores.memory import MemoryStore
from gatescope.server.serving.session_stores.store import SessionStore
from gatescope.server.serving.sessions import Sessions
from gatescope.server.serving.trace_store import Traces
from gatescope.server.settings import Settings

Bounds = TypeVar("Bounds", Limits, ConnectionLimits)

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings | None = None, *, tune_process: bool = False, only: Collection[str] | None = None
) -> FastAPI:
    """The whole service as an ASGI application; its models are loaded when it starts.

    Args:
        settings: the operator's. Without them the environment's are read and the process is tuned, so that
            `uvicorn gatescope.server.main:create_app --factory` starts the service.
        tune_process: whether this process does nothing but serve, so that `runtime.py` may tune it.
        only: the models that are loaded; all of them by default.
    """
    if settings is None:
        settings, tune_process = Settings.of_environment(), True
    if tune_process:
        runtime.configure_process()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    repository = Repository(settings.models_dir, device_of(settings.device), allow_code=settings.allow_code, only=only)
    engine = LocalEngine(repository, settings.max_queue_size, settings.max_batch_size, watch=settings.watch)
    sessions = Sessions(engine, _session_store(settings), settings.session_idle_timeout_s)
    traces = Traces(settings.trace_store_bytes, settings.trace_store_timeout_s)
    background = Background()
    jobs = Jobs(settings.max_jobs, settings.job_store_bytes, settings.job_store_timeout_s)
    corpora = Corpora(settings.corpora_dir, settings.corpora_bytes)
    app = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # /metrics and our own log tell all of it
        title="Gatescope",
        summary="Predictions and gate-by-gate traces of trained torch.nn.LSTM models.",
        lifespan=_lifespan(engine, tune_process=tune_process),
    )
    app.include_router(routes.router())
    inspector = Inspector()
    app.add_api_route("/", inspector.page, methods=["GET"], include_in_schema=False)
    app.mount("/inspector", inspector)
    app.openapi = openapi.document(app)  # type: ignore[method-assign]
    admission = Admission(settings.max_queue_size, settings.admission_wait_ms / 1000)
    metrics = Metrics(engine, traces, admission)
    limits = _limits(Limits, settings)
    app.state.context = Context(engine, limits, sessions, traces, background, jobs, corpora, admission, metrics)
    cors = Cors(settings.cors_origins) if settings.cors_origins else None
    guard = Guard(settings.api_keys, settings.admin_keys, settings.allowed_hosts, cors)
    framework = _framework(app)
    known = Routes()
    exchange = Exchange(app.state.context, known, framework, guard, cors)
    app.state.edge = Edge(exchange, _limits(ConnectionLimits, settings))
    asgi = AsgiApplication(exchange, framework, guard, known)
    app.build_middleware_stack = lambda: asgi  # type: ignore[method-assign]
    return app


def _framework(app: FastAPI) -> ASGIApp:
    """FastAPI's routes without its middleware: what they raise is for the exchange to answer."""
    inner = AsyncExitStackMiddleware(app.router)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        await inner(scope, receive, send)

    return call


def device_of(wanted: str) -> torch.device:
    """The device that a setting names; `auto` is the GPU if there is one.

    Raises:
        InvalidInput: a GPU is wanted, and PyTorch has none.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        why = "sees no GPU" if torch.version.cuda else "is built without CUDA"
        raise InvalidInput(f"device 'cuda': PyTorch {torch.__version__} {why}; take 'cpu' or 'auto'")
    return torch.device(wanted)


def _limits(kind: type[Bounds], settings: Settings) -> Bounds:
    return kind(**{field.name: getattr(settings, field.name) for field in fields(kind)})


def _session_store(settings: Settings) -> SessionStore:
    """Where the setting says.

    Raises:
        InvalidInput: it is neither `memory` nor the address of a Redis.
    """
    if settings.session_store == "memory":
        return MemoryStore(settings.max_sessions)
    from gatescope.server.serving.session_stores.redis import RedisStore  # noqa: PLC0415 - a tenth of a second

    try:
        return RedisStore(settings.session_store, settings.max_sessions, settings.session_idle_timeout_s)
    except ValueError as error:
        message = "GATESCOPE_SESSION_STORE is 'memory' or the address of a Redis, redis://host:port/database"
        raise InvalidInput(f"{message}: {error}") from error


def _lifespan(engine: LocalEngine, *, tune_process: bool) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        here: Context = app.state.context
        loading = asyncio.create_task(_load(engine, here, tune_process=tune_process))
        yield
        loading.cancel()
        await here.jobs.stop()
        await here.background.stop()
        await engine.stop()
        await here.sessions.stop()

    return lifespan


async def _load(engine: LocalEngine, here: Context, *, tune_process: bool) -> None:
    try:
        await engine.start()
    except Exception:  # the service goes on: what is wrong with a model stands in its `reason`
        log.exception("loading the models failed")
        return
    tracing.resume(here)
    if tune_process:
        runtime.settle()
