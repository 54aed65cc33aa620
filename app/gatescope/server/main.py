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

from gatescope.errors import AppError, InvalidInput
from gatescope.server import runtime
from gatescope.server.api import openapi, problems, routes
from gatescope.server.api.context import Context
from gatescope.server.api.direct import Direct
from gatescope.server.api.inspector import Inspector
from gatescope.server.api.keys import Administration, Keys
from gatescope.server.api.limits import Limits
from gatescope.server.api.metrics import Metrics
from gatescope.server.api.middleware import EXPOSED, Guarded, Keyed, Observed
from gatescope.server.api.patience import Patience
from gatescope.server.api.quick import Quick
from gatescope.server.api.ways import Ways
from gatescope.server.repository.repository import Repository
from gatescope.server.serving.local import LocalEngine
from gatescope.server.serving.session_stores.memory import MemoryStore
from gatescope.server.serving.session_stores.redis import RedisStore
from gatescope.server.serving.session_stores.store import SessionStore
from gatescope.server.serving.sessions import Sessions
from gatescope.server.serving.trace_store import Traces
from gatescope.server.settings import Settings

log = structlog.get_logger(__name__)

_VARY = b"vary: Origin\r\n"  # as `CORSMiddleware` says of every reply


def create_app(settings: Settings | None = None, *, tune_process: bool = False) -> FastAPI:
    """The whole service as an ASGI application; its models are loaded when it starts.

    Args:
        settings: the operator's. Without them the environment's are read and the process is tuned, so that
            `uvicorn gatescope.server.main:create_app --factory` starts the service.
        tune_process: whether this process does nothing but serve, so that `runtime.py` may tune it.
    """
    if settings is None:
        settings, tune_process = Settings(), True
    if tune_process:
        runtime.configure_process()
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
        lifespan=_lifespan(engine, sessions, tune_process=tune_process),
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


def _lifespan(
    engine: LocalEngine, sessions: Sessions, *, tune_process: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(engine, tune_process=tune_process))
        yield
        loading.cancel()
        await engine.stop()
        await sessions.stop()

    return lifespan


async def _load(engine: LocalEngine, *, tune_process: bool) -> None:
    try:
        await engine.start()
    except Exception:  # the service goes on: what is wrong with a model stands in its `reason`
        log.exception("loading the models failed")
        return
    if tune_process:
        runtime.settle()


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
