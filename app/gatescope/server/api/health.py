"""`/health/live` and `/health/ready`, for those who watch over the process."""

from __future__ import annotations

from gatescope.errors import NotReady
from gatescope.server.api import reply
from gatescope.server.api.messages import Reply, Request


async def live(request: Request) -> Reply:  # noqa: ARG001 - whoever asks
    """The process answers."""
    return reply.of_json({"status": "live"})


async def ready(request: Request) -> Reply:
    """Every model was loaded or given up, and requests are taken; 503 before that and while shutting down."""
    check_ready(request)
    return reply.of_json({"status": "ready"})


def check_ready(request: Request) -> None:
    """Raise `NotReady` where requests are not taken."""
    if not request.context.engine.ready:
        raise NotReady("the service is loading its models, or is shutting down")
