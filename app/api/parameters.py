"""Parameters of routes: which ones an endpoint has on a path, and the headers that every route knows."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any

from fastapi import Path

from app.api.context import TIMEOUT_HEADER
from app.api.middleware import REQUEST_ID

_IN_PATH: dict[str, Any] = {
    "name": Annotated[
        str, Path(description="One of /v1/models.", openapi_examples={"pos-tagger": {"value": "pos-tagger"}})
    ],
    "version": Annotated[
        str, Path(description="One of the model's `versions`.", openapi_examples={"1": {"value": "1"}})
    ],
}

HEADERS: dict[str, dict[str, Any]] = {
    REQUEST_ID: {
        "name": REQUEST_ID,
        "in": "header",
        "required": False,
        "description": "Echoed in the reply and written to the log; made up where it is not given.",
        "schema": {"type": "string", "maxLength": 128},
    },
    TIMEOUT_HEADER: {
        "name": TIMEOUT_HEADER,
        "in": "header",
        "required": False,
        "description": "Milliseconds after which the request is answered 504; at most what the server allows.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
"""As OpenAPI describes them."""


def on_path(endpoint: Callable[..., Awaitable[Any]], path: str) -> Callable[..., Awaitable[Any]]:
    """The endpoint with those of its parameters that this path has, so that no other one is read from the query."""

    @wraps(endpoint)
    async def served(**given: Any) -> Any:
        return await endpoint(**given)

    signature = inspect.signature(endpoint, eval_str=True)
    served.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            parameter.replace(annotation=_IN_PATH.get(name, parameter.annotation), default=inspect.Parameter.empty)
            for name, parameter in signature.parameters.items()
            if name not in _IN_PATH or f"{{{name}}}" in path
        ]
    )
    return served
