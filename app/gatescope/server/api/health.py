"""`/health/live` and `/health/ready`, for those who watch over the process."""

from __future__ import annotations

from fastapi import Request

from gatescope.errors import NotReady
from gatescope.server.api import context
from gatescope.server.api.schemas import Health


async def live() -> Health:
    """The process answers."""
    return Health(status="live")


async def ready(request: Request) -> Health:
    """Every model was loaded or given up, and requests are taken; 503 before that and while shutting down."""
    if not context.of(request).engine.ready:
        raise NotReady("the service is loading its models, or is shutting down")
    return Health(status="ready")
