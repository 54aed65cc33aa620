"""`/metrics`: counts and durations of requests, and what is served, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gatescope.server.api.admission import Admission
from gatescope.server.api.messages import Reply, Request
from gatescope.server.repository.entry import Entry
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.trace_store import Traces


class Metrics:
    """The service's own registry, so that two applications in one process do not mix.

    Args:
        engine: asked whenever somebody looks.
        traces: that are stored.
        admission: of requests.
    """

    def __init__(self, engine: Engine, traces: Traces, admission: Admission) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gatescope_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "gatescope_request_seconds", "Time to answer", ("method", "route"), registry=self.registry
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.registry.register(_Models(engine.entries))
        self._gauge("gatescope_queries_waiting", "Queries that wait for the device", lambda: engine.waiting)
        self._gauge("gatescope_requests_waiting", "Requests that wait to be admitted", lambda: admission.waiting)
        self._gauge("gatescope_stored_traces", "Traces that are stored", lambda: len(traces))
        self._gauge("gatescope_stored_trace_bytes", "How large they are together", lambda: traces.bytes)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the path's template, never the path that was sent."""
        known = self._known.get((method, route, status))
        if known is None:
            known = self._requests.labels(method, route, str(status)), self._seconds.labels(method, route)
            self._known[method, route, status] = known
        requests, durations = known
        requests.inc()
        durations.observe(seconds)

    def _gauge(self, name: str, meaning: str, value: Callable[[], int]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(value)


class _Models(Collector):
    """What the entries say at the moment; models come and go."""

    def __init__(self, entries: Callable[[], list[Entry]]) -> None:
        self._entries = entries

    def collect(self) -> Iterator[Metric]:
        methods = GaugeMetricFamily(
            "gatescope_trace_method", "1 for the way to each model's gates", labels=("model", "version", "method")
        )
        loaded = GaugeMetricFamily("gatescope_versions_loaded", "Versions that answer", labels=("model",))
        loads = CounterMetricFamily("gatescope_loads", "Versions loaded, or not", labels=("model", "outcome"))
        for entry in self._entries():
            for version, model in entry.loaded.items():
                methods.add_metric((entry.name, version, model.trace_method), 1)
            loaded.add_metric((entry.name,), len(entry.loaded))
            loads.add_metric((entry.name, "loaded"), entry.loads)
            loads.add_metric((entry.name, "failed"), entry.failures)
        yield from (methods, loaded, loads)


async def exposition(request: Request) -> Reply:
    """Counts and durations of requests, and what is served, in Prometheus's text format."""
    return Reply(200, (generate_latest(request.context.metrics.registry),), CONTENT_TYPE_LATEST)
