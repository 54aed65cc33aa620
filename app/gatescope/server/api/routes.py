"""Every route of the API, in one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.datastructures import Default
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.routing import compile_path

from gatescope.analysis import registry
from gatescope.analysis.analysis import Analysis
from gatescope.server.api import codecs, health, metrics, parameters, table_bodies
from gatescope.server.api.corpora import sources
from gatescope.server.api.messages import Endpoint, Head
from gatescope.server.api.problems import MEDIA_TYPE, PROTOCOL, Problem, ProtocolError
from gatescope.server.api.schema.analyses import AnalysisList, AnalysisReply, request_of, stored_request_of
from gatescope.server.api.schema.backtest_reply import BacktestReply
from gatescope.server.api.schema.corpora import (
    CorpusList,
    CorpusReply,
    CorpusRequest,
    CorpusStarted,
    SearchReply,
    SearchRequest,
    UnitReply,
)
from gatescope.server.api.schema.intervene_reply import InterveneReply
from gatescope.server.api.schema.job_replies import JobReply, JobStarted
from gatescope.server.api.schema.replies import (
    ExplainReply,
    Health,
    ModelInfo,
    ModelList,
    PredictReply,
    SessionList,
    SessionReply,
    States,
    StepReply,
    StoredTraceInfo,
    StoredTraceReply,
    TablePreview,
    TraceReply,
    TraceValuesReply,
    UploadReply,
)
from gatescope.server.api.schema.requests import (
    ExplainRequest,
    InitialState,
    InterveneRequest,
    PredictRequest,
    SessionRequest,
    StepRequest,
    StoreTraceRequest,
    TraceRequest,
)
from gatescope.server.api.v1 import (
    admin,
    analyses,
    backtests,
    corpora,
    corpus_search,
    explain,
    intervene,
    jobs,
    models,
    predict,
    sessions,
    stream,
    tables,
    traces,
)
from gatescope.server.api.v2 import infer, message, metadata, repository, statistics
from gatescope.server.api.v2.schemas import InferReply, InferRequest

JSON, TEXT = codecs.JSON.media_type, "text/plain"
PREDICTION_TYPES = tuple(writer.media_type for writer in codecs.PREDICTION_WRITERS)
PREDICT_TYPES = (*PREDICTION_TYPES, *(writer.media_type for writer in codecs.TOKEN_WRITERS))
TRACE_TYPES = tuple(writer.media_type for writer in codecs.TRACE_WRITERS)
INTERVENTION_TYPES = tuple(writer.media_type for writer in codecs.INTERVENTION_WRITERS)
ANALYSIS_TYPES = tuple(writer.media_type for writer in codecs.ANALYSIS_WRITERS)
ACCEPTED = HTTPStatus.ACCEPTED.value
INFERENCE = "open inference protocol"
STRING, BINARY = {"type": "string"}, {"type": "string", "format": "binary"}
PATHS_KNOWN, LONGEST_KNOWN = 4096, 512
"""How many paths are remembered with their routes, and of how many characters at most."""

LONG = frozenset({"predict", "trace", "traces", "explain", "intervene", "analyses", "corpora"})
"""Tags of routes whose answer may take long."""

WEBSOCKET = "WEBSOCKET"
"""The method of a route that is one: OpenAPI does not know it."""


@dataclass(frozen=True)
class Route:
    """One endpoint: a coroutine that the exchange calls. `reads` and `writes` are for the OpenAPI document.

    One that `computes` needs a place to be admitted. One that `administers` changes what is served, which not everybody
    may. One that is `watching` is asked by those who look after the service: it has no deadline. One that `uploads`
    reads a body that is too large for memory: it takes as long as the client's network needs.
    """

    method: str
    path: str
    endpoint: Endpoint
    tag: str
    reads: type[BaseModel] | None = None
    writes: type[BaseModel] | None = None
    media_types: tuple[str, ...] = (JSON,)
    administers: bool = False
    status: HTTPStatus = HTTPStatus.OK
    computes: bool = False
    watching: bool = False
    uploads: bool = False

    @property
    def takes_long(self) -> bool:
        """Whether it takes as long as it takes: to load a model, or to send a large file."""
        return self.administers or self.uploads

    @property
    def may_be_job(self) -> bool:
        """Whether it may take long, and leaves nothing behind that its client would have to know of at once."""
        return self.computes and self.tag in LONG


def _of_model(route: Route) -> tuple[Route, Route]:
    """Every route of a model exists a second time for one of its versions."""
    versioned = route.path.replace("{name}", "{name}/versions/{version}")
    return route, Route(**(vars(route) | {"path": versioned}))


ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/models", models.list_models, "models", writes=ModelList),
    *_of_model(Route("GET", "/v1/models/{name}", models.get_model, "models", writes=ModelInfo)),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/predict",
            predict.predict,
            "predict",
            PredictRequest,
            PredictReply,
            PREDICT_TYPES,
            computes=True,
        )
    ),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/trace",
            predict.trace,
            "trace",
            TraceRequest,
            TraceReply,
            TRACE_TYPES,
            computes=True,
        )
    ),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/explain",
            explain.explain,
            "explain",
            ExplainRequest,
            ExplainReply,
            computes=True,
        )
    ),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/intervene",
            intervene.intervene,
            "intervene",
            InterveneRequest,
            InterveneReply,
            INTERVENTION_TYPES,
            computes=True,
        )
    ),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/tables",
            tables.preview_table,
            "predict",
            writes=TablePreview,
            computes=True,
        )
    ),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/backtest",
            backtests.backtest,
            "predict",
            reads=PredictRequest,
            writes=BacktestReply,
            computes=True,
        )
    ),
    Route("GET", "/v1/analyses", analyses.list_analyses, "analyses", writes=AnalysisList),
    *_of_model(
        Route(
            "POST",
            "/v1/models/{name}/analyses/{analysis}",
            analyses.analyse_model,
            "analyses",
            writes=AnalysisReply,
            media_types=ANALYSIS_TYPES,
            computes=True,
        )
    ),
    *_of_model(
        Route("POST", "/v1/models/{name}/load", admin.load, "administration", writes=ModelInfo, administers=True)
    ),
    *_of_model(
        Route("POST", "/v1/models/{name}/unload", admin.unload, "administration", writes=ModelInfo, administers=True)
    ),
    *_of_model(
        Route(
            "PUT",
            "/v1/models/{name}",
            admin.upload,
            "administration",
            writes=UploadReply,
            administers=True,
            uploads=True,
            status=HTTPStatus.CREATED,
        )
    ),
    Route(
        "POST",
        "/v1/sessions",
        sessions.open_session,
        "sessions",
        SessionRequest,
        SessionReply,
        status=HTTPStatus.CREATED,
    ),
    Route("GET", "/v1/sessions", sessions.list_sessions, "sessions", writes=SessionList),
    Route("GET", "/v1/sessions/{session_id}", sessions.get_session, "sessions", writes=SessionReply),
    Route("DELETE", "/v1/sessions/{session_id}", sessions.end_session, "sessions", status=HTTPStatus.NO_CONTENT),
    Route(
        "POST",
        "/v1/sessions/{session_id}/steps",
        sessions.take_step,
        "sessions",
        StepRequest,
        StepReply,
        PREDICTION_TYPES,
        computes=True,
    ),
    Route("GET", "/v1/sessions/{session_id}/state", sessions.get_state, "sessions", writes=States),
    Route(
        "PUT",
        "/v1/sessions/{session_id}/state",
        sessions.put_state,
        "sessions",
        InitialState,
        SessionReply,
    ),
    Route(WEBSOCKET, "/v1/sessions/{session_id}/stream", stream.stream, "sessions"),
    Route(
        "POST",
        "/v1/traces",
        traces.store_trace,
        "traces",
        StoreTraceRequest,
        StoredTraceReply,
        status=HTTPStatus.CREATED,
        computes=True,
    ),
    Route("GET", "/v1/traces/{trace_id}", traces.get_trace, "traces", writes=StoredTraceInfo),
    Route(
        "GET",
        "/v1/traces/{trace_id}/values",
        traces.get_trace_values,
        "traces",
        writes=TraceValuesReply,
        media_types=TRACE_TYPES,
    ),
    Route(
        "POST",
        "/v1/traces/{trace_id}/analyses/{analysis}",
        analyses.analyse_trace,
        "analyses",
        writes=AnalysisReply,
        media_types=ANALYSIS_TYPES,
        computes=True,
    ),
    Route("DELETE", "/v1/traces/{trace_id}", traces.delete_trace, "traces", status=HTTPStatus.NO_CONTENT),
    Route(
        "POST",
        "/v1/corpora",
        corpora.begin_corpus,
        "corpora",
        CorpusRequest,
        CorpusStarted,
        status=HTTPStatus.ACCEPTED,
        uploads=True,
    ),
    Route("GET", "/v1/corpora", corpora.list_corpora, "corpora", writes=CorpusList),
    Route("GET", "/v1/corpora/{corpus_id}", corpora.get_corpus, "corpora", writes=CorpusReply),
    Route("DELETE", "/v1/corpora/{corpus_id}", corpora.delete_corpus, "corpora", status=HTTPStatus.NO_CONTENT),
    Route(
        "POST",
        "/v1/corpora/{corpus_id}/search",
        corpus_search.search_corpus,
        "corpora",
        SearchRequest,
        SearchReply,
        computes=True,
    ),
    Route("GET", "/v1/corpora/{corpus_id}/units/{unit}", corpus_search.get_corpus_unit, "corpora", writes=UnitReply),
    Route(
        "POST",
        "/v1/corpora/{corpus_id}/analyses/{analysis}",
        corpus_search.analyse_corpus,
        "corpora",
        writes=AnalysisReply,
        media_types=ANALYSIS_TYPES,
        computes=True,
    ),
    Route("GET", "/v1/jobs/{job_id}", jobs.get_job, "jobs", writes=JobReply),
    Route("DELETE", "/v1/jobs/{job_id}", jobs.cancel_job, "jobs", status=HTTPStatus.NO_CONTENT),
    Route("GET", "/v2", metadata.server_metadata, INFERENCE),
    Route("GET", "/v2/health/live", metadata.server_live, INFERENCE, watching=True),
    Route("GET", "/v2/health/ready", metadata.server_ready, INFERENCE, watching=True),
    Route("GET", "/v2/models/stats", statistics.all_statistics, INFERENCE),  # before the model that may have this name
    *_of_model(Route("GET", "/v2/models/{name}", metadata.model_metadata, INFERENCE)),
    *_of_model(Route("GET", "/v2/models/{name}/ready", metadata.model_ready, INFERENCE)),
    *_of_model(Route("GET", "/v2/models/{name}/config", metadata.model_config, INFERENCE)),
    *_of_model(Route("GET", "/v2/models/{name}/stats", statistics.model_statistics, INFERENCE)),
    *_of_model(
        Route(
            "POST",
            "/v2/models/{name}/infer",
            infer.infer,
            INFERENCE,
            InferRequest,
            InferReply,
            message.FORMATS,
            computes=True,
        )
    ),
    Route("POST", "/v2/repository/index", repository.repository_index, INFERENCE),
    Route("POST", "/v2/repository/models/{name}/load", repository.load_model, INFERENCE, administers=True),
    Route(
        "POST",
        "/v2/repository/models/{name}/unload",
        repository.unload_model,
        INFERENCE,
        administers=True,
    ),
    Route("GET", "/health/live", health.live, "health", writes=Health, watching=True),
    Route("GET", "/health/ready", health.ready, "health", writes=Health, watching=True),
    Route("GET", "/metrics", metrics.exposition, "health", media_types=(TEXT,), watching=True),
)


ANALYSE: dict[Endpoint, Callable[[Analysis], type[BaseModel]]] = {
    analyses.analyse_model: request_of,
    analyses.analyse_trace: stored_request_of,
    corpus_search.analyse_corpus: stored_request_of,
}
"""The endpoints that run an analysis, whose parameters they read, and what they read of each."""


class Routes:
    """Finds the route of a request."""

    def __init__(self) -> None:
        self._compiled = [(route, compile_path(route.path)[0]) for route in ROUTES]
        self._known = lru_cache(PATHS_KNOWN)(self._find)

    def find(self, head: Head) -> None:
        """Set the head's route and the values of its path; it has none where the framework alone knows the path."""
        method = "GET" if head.method == "HEAD" else head.method
        find = self._known if len(head.path) <= LONGEST_KNOWN else self._find
        head.route, head.path_values = find(method, head.path)

    def methods_at(self, path: str) -> list[str]:
        """What a path takes; nothing where no route has it."""
        methods = {route.method for route, pattern in self._compiled if pattern.match(path)} - {WEBSOCKET}
        return sorted(methods)

    def _find(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        for route, pattern in self._compiled:
            if route.method == method and (match := pattern.match(path)) is not None:
                return route, match.groupdict()
        return None, {}


def router() -> APIRouter:
    """The routes as FastAPI takes them."""
    result = APIRouter()
    for route in ROUTES:
        if route.method == WEBSOCKET:
            result.add_api_websocket_route(route.path, route.endpoint)
            continue
        endpoint = parameters.described(route.endpoint, route.path)
        result.add_api_route(
            route.path,
            endpoint,
            methods=[route.method],
            status_code=route.status,
            tags=[route.tag],
            operation_id=f"{route.endpoint.__name__}{'_version' if '{version}' in route.path else ''}",
            response_model_exclude_none=False,
            responses=_responses(route),
            response_class=PlainTextResponse if route.media_types == (TEXT,) else Default(JSONResponse),
            openapi_extra=_request(route),
        )
    return result


def _responses(route: Route) -> dict[int | str, dict[str, Any]]:
    form = (JSON, ProtocolError) if route.path.startswith(PROTOCOL) else (MEDIA_TYPE, Problem)
    problem = {"description": "What is wrong, and where", "content": {form[0]: {"schema": _reference(form[1])}}}
    if route.writes is None:
        return {"default": problem}
    content = _content(route.media_types, route.writes)
    answers = {route.status.value: {"description": "The answer", "content": content}, "default": problem}
    if route.may_be_job:
        started = {JSON: {"schema": _reference(JobStarted)}}
        answers[ACCEPTED] = {"description": "A job, where `Prefer: respond-async` asks for one", "content": started}
    return answers


def _request(route: Route) -> dict[str, Any] | None:
    if route.endpoint is admin.upload:
        file = {"application/octet-stream": {"schema": BINARY}}
        return {"requestBody": {"required": True, "content": file}, "parameters": parameters.of_upload(route.path)}
    if route.endpoint is tables.preview_table:
        return {"requestBody": {"required": True, "content": _tables()}, "parameters": parameters.of_table()}
    if route.endpoint is traces.get_trace_values:
        return {"parameters": parameters.of_values()}
    if route.endpoint is corpus_search.get_corpus_unit:
        return {"parameters": parameters.of_corpus_unit()}
    if route.endpoint in ANALYSE:
        return {"requestBody": {"required": True, "content": _of_every_analysis(ANALYSE[route.endpoint])}}
    return None if route.reads is None else _schema_request(route, route.reads)


def _schema_request(route: Route, reads: type[BaseModel]) -> dict[str, Any]:
    may_hold_arrays = issubclass(reads, PredictRequest)
    media_types = [reader.media_type for reader in codecs.BODY_READERS] if may_hold_arrays else [JSON]
    content = _content(media_types, reads)
    if route.endpoint in {predict.predict, predict.trace, backtests.backtest}:
        of_query = parameters.of_backtest if route.endpoint is backtests.backtest else parameters.of_table
        return {"requestBody": {"required": True, "content": content | _tables()}, "parameters": of_query()}
    if route.endpoint is corpora.begin_corpus:
        content |= {kind: {"schema": STRING if kind.startswith("text/") else BINARY} for kind in sources.MEDIA_TYPES}
        return {"requestBody": {"required": True, "content": content}, "parameters": parameters.of_corpus_upload()}
    return {"requestBody": {"required": True, "content": content}}


def _of_every_analysis(schema_of: Callable[[Analysis], type[BaseModel]]) -> dict[str, Any]:
    """How bodies look that state the parameters of an analysis."""
    schemas = [_reference(schema_of(analysis)) for analysis in registry.analyses().values()]
    content: dict[str, Any] = {reader.media_type: {"schema": BINARY} for reader in codecs.BODY_READERS}
    return content | {JSON: {"schema": {"oneOf": schemas}}}


def _tables() -> dict[str, Any]:
    """How bodies that are tables look."""
    return {kind: {"schema": STRING if kind == table_bodies.CSV else BINARY} for kind in table_bodies.FORMATS}


def _content(media_types: Iterable[str], schema: type[BaseModel]) -> dict[str, Any]:
    """How bodies in these formats look: JSON has a schema, other formats are text or bytes."""
    texts = [codec.media_type for codec in codecs.CODECS if codec.is_text]
    schemas = {JSON: _reference(schema)} | {name: STRING for name in texts if name != JSON}
    return {name: {"schema": schemas.get(name, BINARY)} for name in media_types}


def _reference(schema: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema.__name__}"}
