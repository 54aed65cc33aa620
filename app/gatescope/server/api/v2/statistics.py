"""`GET /v2/models/stats`: what the models were asked since they were loaded, and how long it took."""

from __future__ import annotations

from typing import Any

from gatescope.pipeline.model import Model
from gatescope.server.api import reply
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.v2.infer import known
from gatescope.server.serving.statistics import Computing, Duration, Statistics

_NEVER = {"count": 0, "ns": 0}


async def all_statistics(request: Request) -> Reply:
    """Of every version of every model that answers."""
    engine = request.context.engine
    models = [model for entry in engine.entries() for model in entry.loaded.values()]
    return reply.of_json({"model_stats": [_of(model, engine.statistics(model)) for model in models]})


async def model_statistics(request: Request, name: str, version: str | None = None) -> Reply:
    """Of one version of a model, or of all that answer."""
    engine = request.context.engine
    with known():
        model = engine.model(name, version)
    models = engine.entry(name).loaded.values() if version is None else [model]
    return reply.of_json({"model_stats": [_of(model, engine.statistics(model)) for model in models]})


def _of(model: Model, counted: Statistics) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": counted.last_inference_ms,
        "inference_count": counted.inference_count,
        "execution_count": counted.execution_count,
        "inference_stats": {
            "success": _duration(counted.success),
            "fail": _duration(counted.fail),
            "queue": _duration(counted.queue),
            **_computing(counted.computing),
            "cache_hit": _NEVER,
            "cache_miss": _NEVER,
        },
        "response_stats": {},
        "batch_stats": [{"batch_size": size, **_computing(counted.batches[size])} for size in sorted(counted.batches)],
        "memory_usage": [],
    }


def _computing(computing: Computing) -> dict[str, Any]:
    return {
        "compute_input": _duration(computing.input),
        "compute_infer": _duration(computing.infer),
        "compute_output": _duration(computing.output),
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}
