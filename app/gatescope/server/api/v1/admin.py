"""`PUT /v1/models/{name}`, `POST …/load` and `…/unload`: what is served, changed while the service runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response
from starlette.datastructures import QueryParams

from gatescope.checkpoints.structure import options
from gatescope.checkpoints.structure.options import Options
from gatescope.errors import InvalidInput, Place, UnsupportedMediaType
from gatescope.server.api import body, context, fields
from gatescope.server.api.nested import ShapeError
from gatescope.server.api.schemas import ModelInfo, UploadReply
from gatescope.server.api.v1 import models


async def authorized(request: Request) -> None:
    """Stop a request that may not change what is served, before anything of it is read."""
    context.of(request).administration.check(request.headers)


async def load(request: Request, name: str, version: str | None = None) -> ModelInfo:
    """Read a model's folder anew and load this version, or all of them, beside what answers; then swap.

    Where that fails, the reply is 422 with the reason, and what answered before goes on.
    """
    with context.hold_on(request) as held:
        held.watch()
        return models.info(await context.of(request).engine.load(name, version), version)


async def unload(request: Request, name: str, version: str | None = None) -> ModelInfo:
    """Serve this version of a model, or all of them, no more, until it is loaded again or its files change.

    Requests that have begun are answered.
    """
    with context.hold_on(request) as held:
        held.watch()
        return models.info(await context.of(request).engine.unload(name, version), version)


async def upload(request: Request, response: Response, name: str, version: str | None = None) -> UploadReply:
    """Make a checkpoint, the body, a version of this model and serve it: safetensors or a state dict of `torch.save`.

    What the checkpoint does not say is guessed, and `notes` tell what; parameters of the query overrule guesses.
    A model that is there already keeps its manifest, which the checkpoint must fit.
    """
    engine, limits = context.of(request).engine, context.of(request).limits
    _check_media_type(request.headers.get("content-type", ""))
    with _placed({"name"} if version is None else {"name", "version"}):
        asked = _options(request.query_params, {} if version is None else {"version": version})
        options.check(name, asked)
        with context.hold_on(request):
            checkpoint = body.chunks(request, limits.max_upload_bytes, limits.request_timeout_s)
            imported = await engine.upload(name, checkpoint, asked)
    response.headers["Location"] = f"/v1/models/{quote(name)}/versions/{quote(imported.version)}"
    told = models.info(engine.entry(name), imported.version)
    return UploadReply(**dict(told), notes=list(imported.notes))


def _check_media_type(given: str) -> None:
    """Anything may be a checkpoint, but not what a browser's form makes of one."""
    if given.lower().startswith("multipart/"):
        raise UnsupportedMediaType(f"send the file itself as the body, as `curl -T FILE` does, not as {given}")


def _options(query: QueryParams, in_path: dict[str, Any]) -> Options:
    """The query as options; the values of a list are separated by commas, or given one by one."""
    known = {field.name: field.default for field in dataclasses.fields(Options) if field.name not in in_path}
    try:
        fields.check(query, known)
    except ShapeError as error:
        raise InvalidInput.at(*(Place(("query", *place.loc), place.message) for place in error.places)) from None
    given = dict(in_path)
    for name, default in known.items():
        values = query.getlist(name)
        if default == () and values:
            given[name] = tuple(values[0].split(",") if len(values) == 1 else values)
        elif len(values) > 1:
            raise InvalidInput.at(Place(("query", name), f"is given {len(values)} times"))
        elif values:
            given[name] = values[0]
    return Options(**given)


@contextmanager
def _placed(in_path: Collection[str]) -> Iterator[None]:
    """Say of each option that cannot be where in the request it stands."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput.at(*(_of_request(place, in_path) for place in error.places)) from None


def _of_request(place: Place, in_path: Collection[str]) -> Place:
    if place.loc[0] in ("header", "query"):
        return place
    return Place(("path" if place.loc[0] in in_path else "query", *place.loc), place.message)
