"""`/v2/repository`: which models there are, loaded and unloaded as by `/v1`'s administration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gatescope.errors import AppError, InvalidInput, Place
from gatescope.server.api import reply
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.v2 import message
from gatescope.server.api.v2.schemas import RepositoryRequest
from gatescope.server.repository.entry import Entry

_FILE = "file:"
_LONGEST_NAME = 64


async def repository_index(request: Request) -> Reply:
    """Every version of every model with its state; with `ready`, only those that answer."""
    asked = await _read(request)
    listed = [told for entry in request.context.engine.entries() for told in _listed(entry)]
    return reply.of_json([told for told in listed if told["state"] == "READY" or not asked.ready])


async def load_model(request: Request, name: str) -> Reply:
    """Read a model's folder anew and load it beside what answers; it is ready when this is answered."""
    asked = await _read(request)
    with _failing_to(f"load '{name}'"):
        _check(asked.parameters or {})
        await request.context.engine.load(name, None)
    return reply.of_json({})


async def unload_model(request: Request, name: str) -> Reply:
    """Serve a model no more, until it is loaded again or its files change."""
    await _read(request)
    with _failing_to(f"unload '{name}'"):
        await request.context.engine.unload(name, None)
    return reply.of_json({})


async def _read(request: Request) -> RepositoryRequest:
    asked: RepositoryRequest = message.schema_of(await message.read(request), RepositoryRequest)
    return asked


def _check(parameters: dict[str, Any]) -> None:
    """Refuse files and configurations: what is served lies in the model's folder, and nowhere else."""
    for name in parameters:
        if name == "config" or name.startswith(_FILE):
            text = "is not supported: a model is what lies in its folder; PUT /v1/models/{name} uploads a checkpoint"
            raise InvalidInput.at(Place(("parameters", name[:_LONGEST_NAME]), text))


@contextmanager
def _failing_to(do: str) -> Iterator[None]:
    """Say of an error what clients of the protocol look for: what it was that failed."""
    try:
        yield
    except AppError as error:
        raise type(error)(f"failed to {do}: {error.detail}", error.places) from None


def _listed(entry: Entry) -> list[dict[str, str]]:
    """Its versions, or that it has none."""
    versions: list[str | None] = list(entry.versions) or [None]
    return [
        {
            "name": entry.name,
            "version": version or "",
            "state": entry.state(version).upper(),
            "reason": entry.reason(version) or "",
        }
        for version in versions
    ]
