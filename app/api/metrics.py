"""`/metrics`: counts and durations of requests, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.api import context
from app.repository.repository import Entry


class Metrics:
    """The service's own registry, so that two applications in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self.requests = Counter("gatescope_requests", "Requests answered", labels, registry=self.registry)
        self.methods = Gauge(
            "gatescope_trace_method",
            "1 for the way to each model's gates",
            ("model", "version", "method"),
            registry=self.registry,
        )
        self.seconds = Histogram("gatescope_request_seconds", "Time to answer", labels[:2], registry=self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the path's template, never the path that was sent."""
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)

    def tell_methods(self, entries: Iterable[Entry]) -> None:
        """Set which way to its gates every loaded model takes now."""
        self.methods.clear()
        for model in (model for entry in entries for model in entry.loaded.values()):
            self.methods.labels(model.name, model.version, model.trace_method).set(1)


async def exposition(request: Request) -> Response:
    """Counts and durations of requests in Prometheus's text format."""
    metrics: Metrics = request.app.state.metrics
    metrics.tell_methods(context.of(request).engine.entries())
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
