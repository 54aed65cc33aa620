"""The server and its models, as clients of the protocol ask for them before they infer."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any

from fastapi import Request

from gatescope.errors import NotReady
from gatescope.pipeline.model import Model
from gatescope.server.api import context
from gatescope.server.api.v2 import signature
from gatescope.server.api.v2.infer import known
from gatescope.server.api.v2.signature import TensorInfo
from gatescope.server.serving.sessions import refusal

_PACKAGE = "gatescope"
_PLATFORM = "pytorch_lstm"

EXTENSIONS = (
    "sequence",
    "sequence(string_id)",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
"""What goes beyond the protocol itself, under the names that Triton gave it."""


async def server_live() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


async def server_ready(request: Request) -> dict[str, bool]:
    """Every model was loaded or given up, and requests are taken; 503 before that and while shutting down."""
    if not context.of(request).engine.ready:
        raise NotReady("the service is loading its models, or is shutting down")
    return {"ready": True}


async def server_metadata() -> dict[str, Any]:
    """The server, and what it knows beyond the protocol."""
    return {"name": _PACKAGE, "version": version_of(_PACKAGE), "extensions": list(EXTENSIONS)}


async def model_ready(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Whether a model answers: 200 if it does."""
    model = _model(request, name, version)
    return {"name": model.name, "version": model.version, "ready": True}


async def model_metadata(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """Which tensors a model takes and gives; the batch comes first, and -1 is for the client to choose."""
    model = _model(request, name, version)
    return {
        "name": model.name,
        "versions": list(context.of(request).engine.entry(name).loaded),
        "platform": _PLATFORM,
        "inputs": [_tensor(tensor) for tensor in signature.inputs(model).values()],
        "outputs": [_tensor(tensor) for tensor in signature.outputs(model).values()],
    }


async def model_config(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
    """How a model is served: its tensors without the batch, and how requests are put together."""
    model = _model(request, name, version)
    # a configuration names one kind of scheduling, though a model that can be streamed takes requests of both kinds:
    # clients look here for whether there are sequences, and send single requests whatever stands here
    scheduling = "dynamic_batching" if refusal(model) else "sequence_batching"
    return {
        "name": model.name,
        "platform": _PLATFORM,
        "max_batch_size": context.of(request).limits.max_batch_size,
        "input": [_configured(tensor) | {"optional": tensor.optional} for tensor in signature.inputs(model).values()],
        "output": [_configured(tensor) for tensor in signature.outputs(model).values()],
        scheduling: {},
    }


def _model(request: Request, name: str, version: str | None) -> Model:
    with known():
        return context.of(request).engine.model(name, version)


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _configured(tensor: TensorInfo) -> dict[str, Any]:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": tensor.shape[1:]}
