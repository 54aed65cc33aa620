"""`/metrics`: counts and durations of requests, and what is served, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate

from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gatescope.server.repository.entry import Entry
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.trace_store import Traces

_BOUNDS = Histogram.DEFAULT_BUCKETS  # seconds, the last is infinite


class Metrics:
    """The service's own registry, so that two applications in one process do not mix.

    Args:
        engine: asked whenever somebody looks.
        traces: that are stored.
    """

    def __init__(self, engine: Engine, traces: Traces) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self.registry.register(_Models(engine.entries))
        self._gauge("gatescope_queries_waiting", "Queries that wait for the device", lambda: engine.waiting)
        self._gauge("gatescope_stored_traces", "Traces that are stored", lambda: len(traces))
        self._gauge("gatescope_stored_trace_bytes", "How large they are together", lambda: traces.bytes)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the path's template, never the path that was sent."""
        self._requests.observe(method, route, status, seconds)

    def _gauge(self, name: str, meaning: str, value: Callable[[], int]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(value)


class _Durations:
    """How long the requests of a route took: how many at most as long as each bound, and as the one before it not."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts, self.seconds = [0] * len(_BOUNDS), 0.0


class _Requests(Collector):
    """Counted on the event loop alone: the library's own counters lock and look up more than a request can spare."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._durations: defaultdict[tuple[str, str], _Durations] = defaultdict(_Durations)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one."""
        self._answered[method, route, status] += 1
        durations = self._durations[method, route]
        durations.counts[bisect_left(_BOUNDS, seconds)] += 1
        durations.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily("gatescope_requests", "Requests answered", labels=("method", "route", "status"))
        for (method, route, status), count in self._answered.items():
            answered.add_metric((method, route, str(status)), count)
        took = HistogramMetricFamily("gatescope_request_seconds", "Time to answer", labels=("method", "route"))
        for labels, durations in self._durations.items():
            counts = zip(_BOUNDS, accumulate(durations.counts), strict=True)
            took.add_metric(
                labels, [(str(bound).replace("inf", "+Inf"), count) for bound, count in counts], durations.seconds
            )
        yield from (answered, took)


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


async def exposition(request: Request) -> Response:
    """Counts and durations of requests, and what is served, in Prometheus's text format."""
    metrics: Metrics = request.app.state.metrics
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
