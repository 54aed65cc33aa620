"""What every route works with, kept on the application by `create_app`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import HTTPConnection

from gatescope.server.api.admission import Admission
from gatescope.server.api.limits import Limits
from gatescope.server.api.metrics import Metrics
from gatescope.server.serving.background import Background
from gatescope.server.serving.corpora import Corpora
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.jobs import Jobs
from gatescope.server.serving.owner import Owner
from gatescope.server.serving.sessions import Sessions
from gatescope.server.serving.trace_store import Traces


@dataclass(frozen=True)
class Context:
    """What stands behind the API, and the operator's rules for it."""

    engine: Engine
    limits: Limits
    sessions: Sessions
    traces: Traces
    background: Background
    jobs: Jobs
    corpora: Corpora
    admission: Admission
    metrics: Metrics

    def of_jobs(self) -> Context:
        """The same for work that no connection waits for: it stands behind what clients wait for."""
        return replace(self, engine=self.engine.background, background=self.jobs.background)


OWNER = "gatescope.owner"
"""Where the scope of a WebSocket holds whose it is."""


def owner_of(websocket: HTTPConnection) -> Owner:
    """Who opened a WebSocket."""
    owner: Owner = websocket.scope[OWNER]
    return owner


def of(request: HTTPConnection) -> Context:
    """The context of the application that serves this request, or this WebSocket."""
    context: Context = request.app.state.context
    return context
