"""`/metrics`: counts and durations of requests, and what is served, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gatescope.server.api.admission import Admission
from gatescope.server.api.messages import Reply, Request
from gatescope.server.repository.entry import Entry
from gatescope.server.serving.engine import Engine
from gatescope.server.serving.trace_store import Traces

BUCKETS_S = Histogram.DEFAULT_BUCKETS
"""The upper bounds of the histogram's buckets; the last is infinite."""

_BUCKETS = [floatToGoString(bound) for bound in BUCKETS_S]  # type: ignore[no-untyped-call]


class Metrics:
    """The service's own registry, so that two applications in one process do not mix.

    Args:
        engine: asked whenever somebody looks.
        traces: that are stored.
        admission: of requests.
    """

    def __init__(self, engine: Engine, traces: Traces, admission: Admission) -> None:
        self.registry = CollectorRegistry()
        self._requests = _Requests()
        self.registry.register(self._requests)
        self.registry.register(_Models(engine.entries))
        self._gauge("gatescope_queries_waiting", "Queries that wait for the device", lambda: engine.waiting)
        self._gauge("gatescope_requests_waiting", "Requests that wait to be admitted", lambda: admission.waiting)
        self._gauge("gatescope_stored_traces", "Traces that are stored", lambda: len(traces))
        self._gauge("gatescope_stored_trace_bytes", "How large they are together", lambda: traces.bytes)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is the path's template, never the path that was sent."""
        self._requests.observe(method, route, status, seconds)

    def _gauge(self, name: str, meaning: str, value: Callable[[], int]) -> None:
        Gauge(name, meaning, registry=self.registry).set_function(value)


class _Durations:
    """How long the requests of a route took."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(BUCKETS_S)
        """Of each bucket alone."""
        self.seconds = 0.0
        """Of all requests together."""


class _Requests(Collector):
    """Counts on the event loop alone: the locks of the library's own counters cost more (decision 22)."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, str, int]] = Counter()
        self._durations: defaultdict[tuple[str, str], _Durations] = defaultdict(_Durations)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one."""
        self._answered[method, route, status] += 1
        durations = self._durations[method, route]
        durations.counts[bisect_left(BUCKETS_S, seconds)] += 1
        durations.seconds += seconds

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily("gatescope_requests", "Requests answered", labels=("method", "route", "status"))
        for (method, route, status), count in self._answered.items():
            answered.add_metric((method, route, str(status)), count)
        seconds = HistogramMetricFamily("gatescope_request_seconds", "Time to answer", labels=("method", "route"))
        for labels, durations in self._durations.items():
            counts = accumulate(durations.counts)
            buckets = [*zip(_BUCKETS, counts, strict=True)]
            seconds.add_metric(labels, buckets, durations.seconds)
        yield from (answered, seconds)


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
