"""The OpenAPI document: what FastAPI sees of the routes, and the bodies that they read and write themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.problems import Problem
from app.api.routes import ROUTES

EXAMPLES = {
    "PredictRequest": {"text": "I love China"},
    "TraceRequest": {"text": "I love China", "signals": ["forget_gate"], "units": "0:4"},
}
"""Bodies that work when pasted, for a model of text; /v1/models has complete ones of every model."""


def document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The replacement for `app.openapi`, which adds the schemas that only `ROUTES` knows."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, definition in _definitions().items():
                schemas.setdefault(name, definition)
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{}, {"key": []}]  # a server without keys is open
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi


def _definitions() -> dict[str, Any]:
    requests = {route.reads for route in ROUTES if route.reads}
    replies = {route.writes for route in ROUTES if route.writes} | {Problem}
    wanted: list[tuple[type[BaseModel], Any]] = [(schema, "validation") for schema in requests]
    wanted += [(schema, "serialization") for schema in replies]
    wanted.sort(key=lambda pair: pair[0].__name__)
    _, top = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    definitions: dict[str, Any] = top["$defs"]
    for name, example in EXAMPLES.items():
        definitions[name]["examples"] = [example]
    return definitions
