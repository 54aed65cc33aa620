"""The server and its models, as clients of the protocol ask for them before they infer."""

from __future__ import annotations

from importlib.metadata import version as version_of
from typing import Any

from gatescope.pipeline.model import Model
from gatescope.server.api import reply
from gatescope.server.api.health import check_ready
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.v2 import signature
from gatescope.server.api.v2.infer import known
from gatescope.server.api.v2.signature import TensorInfo
from gatescope.server.serving.sessions import refusal

_PACKAGE = "gatescope"

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


async def server_live(request: Request) -> Reply:  # noqa: ARG001 - whoever asks
    """The process answers."""
    return reply.of_json({"live": True})


async def server_ready(request: Request) -> Reply:
    """Every model was loaded or given up, and requests are taken; 503 before that and while shutting down."""
    check_ready(request)
    return reply.of_json({"ready": True})


async def server_metadata(request: Request) -> Reply:  # noqa: ARG001 - whoever asks
    """The server, and what it knows beyond the protocol."""
    return reply.of_json({"name": _PACKAGE, "version": version_of(_PACKAGE), "extensions": list(EXTENSIONS)})


async def model_ready(request: Request, name: str, version: str | None = None) -> Reply:
    """Whether a model answers: 200 if it does."""
    model = _model(request, name, version)
    return reply.of_json({"name": model.name, "version": model.version, "ready": True})


async def model_metadata(request: Request, name: str, version: str | None = None) -> Reply:
    """Which tensors a model takes and gives; the batch comes first, and -1 is for the client to choose."""
    model = _model(request, name, version)
    return reply.of_json(
        {
            "name": model.name,
            "versions": list(request.context.engine.entry(name).loaded),
            "platform": _platform(model),
            "inputs": [_tensor(tensor) for tensor in signature.inputs(model).values()],
            "outputs": [_tensor(tensor) for tensor in signature.outputs(model).values()],
        }
    )


async def model_config(request: Request, name: str, version: str | None = None) -> Reply:
    """How a model is served: its tensors without the batch, and how requests are put together."""
    model = _model(request, name, version)
    # a configuration names one kind of scheduling, though a model that can be streamed takes requests of both kinds:
    # clients look here for whether there are sequences, and send single requests whatever stands here
    scheduling = "dynamic_batching" if refusal(model) else "sequence_batching"
    return reply.of_json(
        {
            "name": model.name,
            "platform": _platform(model),
            "max_batch_size": request.context.limits.max_batch_size,
            "input": [
                _configured(tensor) | {"optional": tensor.optional} for tensor in signature.inputs(model).values()
            ],
            "output": [_configured(tensor) for tensor in signature.outputs(model).values()],
            scheduling: {},
        }
    )


def _model(request: Request, name: str, version: str | None) -> Model:
    with known():
        return request.context.engine.model(name, version)


def _platform(model: Model) -> str:
    """What computes it, by the cell of the first recurrent module."""
    return f"pytorch_{model.spec.cell.name}"


def _tensor(tensor: TensorInfo) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _configured(tensor: TensorInfo) -> dict[str, Any]:
    datatype = "STRING" if tensor.datatype == "BYTES" else tensor.datatype
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": tensor.shape[1:]}
