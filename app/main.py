"""`create_app`: the one place where the parts are joined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import structlog
import torch
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from app.api import openapi, problems, routes
from app.api.context import Context
from app.api.direct import Direct
from app.api.inspector import Inspector
from app.api.keys import Administration, Keys
from app.api.limits import Limits
from app.api.metrics import Metrics
from app.api.middleware import EXPOSED, Guarded, Keyed, Observed
from app.api.patience import Patience
from app.api.quick import Quick
from app.api.ways import Ways
from app.errors import AppError, InvalidInput
from app.repository.repository import Repository
from app.serving.engine import LocalEngine
from app.serving.sessions import Sessions
from app.serving.stores.memory import MemoryStore
from app.serving.stores.redis import RedisStore
from app.serving.stores.store import SessionStore
from app.serving.traces import Traces
from app.settings import Settings

log = structlog.get_logger(__name__)

_VARY = b"vary: Origin\r\n"  # as `CORSMiddleware` says of every reply


def create_app(settings: Settings | None = None) -> FastAPI:
    """The whole service as an ASGI application; its models are loaded when it starts."""
    settings = settings or Settings()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    repository = Repository(settings.models_dir, device_of(settings.device), allow_code=settings.allow_code)
    engine = LocalEngine(repository, settings.max_queue_size, settings.max_batch_size, watch=settings.watch)
    sessions = Sessions(engine, _session_store(settings), settings.session_idle_timeout_s)
    traces = Traces(settings.trace_store_bytes, settings.trace_store_timeout_s)
    app = FastAPIOffline(
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # /metrics and our own log tell all of it
        title="Gatescope",
        summary="Predictions and gate-by-gate traces of trained torch.nn.LSTM models.",
        lifespan=_lifespan(engine, sessions),
        exception_handlers={
            AppError: problems.on_app_error,
            HTTPException: partial(problems.on_http_exception, routes.methods_at),
            Exception: problems.on_unforeseen,
        },
    )
    keys = Keys(settings.api_keys)
    administration = Administration(Keys(settings.admin_keys), keys, settings.cors_origins)
    app.state.context = Context(
        engine, _limits(settings), administration, sessions, traces, Patience(settings.request_timeout_s)
    )
    app.state.metrics = Metrics(engine, traces)
    app.include_router(routes.router())
    inspector = Inspector()
    app.add_api_route("/", inspector.page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/inspector", inspector)
    app.openapi = openapi.document(app)  # type: ignore[method-assign]
    ways = routes.ways()
    app.state.quick = Quick(
        app.state.context, app.state.metrics, ways, _let_in(settings), _VARY if settings.cors_origins else b""
    )
    stack = _within_ours(app.build_middleware_stack, settings, ways, app.state.metrics)
    app.build_middleware_stack = stack  # type: ignore[method-assign]
    return app


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


def _limits(settings: Settings) -> Limits:
    return Limits(**{name: getattr(settings, name) for name in Limits.__dataclass_fields__})


def _let_in(settings: Settings) -> Keys:
    """The keys of which a request needs one; there may be none."""
    return Keys(settings.api_keys + settings.admin_keys if settings.api_keys else ())


def _session_store(settings: Settings) -> SessionStore:
    """Where the setting says.

    Raises:
        InvalidInput: it is neither `memory` nor the address of a Redis.
    """
    if settings.session_store == "memory":
        return MemoryStore(settings.max_sessions)
    try:
        return RedisStore(settings.session_store, settings.max_sessions, settings.session_idle_timeout_s)
    except ValueError as error:
        message = "GATESCOPE_SESSION_STORE is 'memory' or the address of a Redis, redis://host:port/database"
        raise InvalidInput(f"{message}: {error}") from error


def _lifespan(engine: LocalEngine, sessions: Sessions) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(engine.start())
        loading.add_done_callback(_log_failure)
        yield
        loading.cancel()
        await engine.stop()
        await sessions.stop()

    return lifespan


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("loading the models failed", exc_info=error)


def _within_ours(
    framework: Callable[[], ASGIApp], settings: Settings, ways: Ways, metrics: Metrics
) -> Callable[[], ASGIApp]:
    """The replacement for `app.build_middleware_stack`: our layers lie around all of FastAPI's.

    So hot requests pass through none of those.
    """

    def build() -> ASGIApp:
        app: ASGIApp = Direct(framework(), ways)  # from the inside out
        if keys := _let_in(settings):
            app = Keyed(app, keys)
        app = Guarded(app)  # inside CORS, so that pages can read its answers, too
        if settings.cors_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=EXPOSED,
            )
        return Observed(app, metrics)

    return build
