"""The OpenAPI document: what FastAPI sees of the routes, and the bodies that they read and write themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gatescope.analysis import registry
from gatescope.server.api import parameters
from gatescope.server.api.messages import REQUEST_ID
from gatescope.server.api.problems import Problem, ProtocolError
from gatescope.server.api.routes import ANALYSE, ROUTES
from gatescope.server.api.schema.job_replies import JobStarted

EXAMPLES = {
    "PredictRequest": {"text": "I love China"},
    "ExplainRequest": {"text": "I love China", "time_step": 1, "unit": 0},
    "TraceRequest": {"text": "I love China", "signals": ["forget_gate"], "units": "0:4"},
    "StoreTraceRequest": {"model": "pos-tagger", "text": "I love China"},
    "InferRequest": {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["I love China"]}],
        "outputs": [{"name": "prediction"}, {"name": "forget_gate"}],
    },
}
"""Bodies that work when pasted, for a model of text; /v1/models has complete ones of every model."""

WRITING = {
    "text": "ROMEO:",
    "horizon": 40,
    "sampling": {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "seed": 1, "samples": 2, "stop": ["\n\n"]},
}
"""One for a model that writes text, such as `shakespeare`."""

KEYS: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
}
"""The two ways to send a key."""


def document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The replacement for `app.openapi`, which adds the schemas that only `ROUTES` knows."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, definition in _definitions().items():
                schemas.setdefault(name, definition)
            schema["components"]["securitySchemes"] = KEYS
            schema["security"] = [{}, *({name: []} for name in KEYS)]  # a server without keys is open
            _describe_headers(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi


def _describe_headers(schema: dict[str, Any]) -> None:
    """Name on every operation the headers that it knows; a deadline is for what computes."""
    schema["components"]["parameters"] = parameters.HEADERS
    for methods in schema["paths"].values():
        for method, operation in methods.items():
            known = [REQUEST_ID] if method == "get" else parameters.HEADERS
            references = [{"$ref": f"#/components/parameters/{name}"} for name in known]
            operation.setdefault("parameters", []).extend(references)


def _definitions() -> dict[str, Any]:
    requests = {route.reads for route in ROUTES if route.reads}
    requests |= {request(analysis) for request in ANALYSE.values() for analysis in registry.analyses().values()}
    replies: set[type[BaseModel]] = {route.writes for route in ROUTES if route.writes}
    replies |= {JobStarted, Problem, ProtocolError}
    wanted: list[tuple[type[BaseModel], Any]] = [(schema, "validation") for schema in requests]
    wanted += [(schema, "serialization") for schema in replies]
    wanted.sort(key=lambda pair: pair[0].__name__)
    _, top = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = top["$defs"]
    for name, example in EXAMPLES.items():
        definitions[name]["examples"] = [example]
    definitions["PredictRequest"]["examples"].append(WRITING)
    return definitions
