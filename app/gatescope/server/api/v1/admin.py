"""`PUT /v1/models/{name}`, `POST …/load` and `…/unload`: what is served, changed while the service runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.datastructures import QueryParams

from gatescope.checkpoints.structure import options
from gatescope.checkpoints.structure.options import Options
from gatescope.errors import InvalidInput, Place, UnsupportedMediaType
from gatescope.server.api import reply
from gatescope.server.api.messages import Head, Reply, Request
from gatescope.server.api.schema.field_names import check_known
from gatescope.server.api.schema.replies import UploadReply
from gatescope.server.api.schema.shapes import ShapeError
from gatescope.server.api.v1 import models


async def load(request: Request, name: str, version: str | None = None) -> Reply:
    """Read a model's folder anew and load this version, or all of them, beside what answers; then swap.

    Where that fails, the reply is 422 with the reason, and what answered before goes on.
    """
    return reply.of_schema(models.info(await request.context.engine.load(name, version), version))


async def unload(request: Request, name: str, version: str | None = None) -> Reply:
    """Serve this version of a model, or all of them, no more, until it is loaded again or its files change.

    Requests that have begun are answered.
    """
    return reply.of_schema(models.info(await request.context.engine.unload(name, version), version))


async def upload(request: Request, name: str, version: str | None = None) -> Reply:
    """Make a checkpoint, the body, a version of this model and serve it: safetensors or a state dict of `torch.save`.

    What the checkpoint does not say is guessed, and `notes` tell what; parameters of the query overrule guesses.
    A model that is there already keeps its manifest, which the checkpoint must fit.
    """
    engine, limits = request.context.engine, request.context.limits
    _check_media_type(request.head)
    with _placed({"name"} if version is None else {"name", "version"}):
        query = QueryParams(request.head.query_values)
        asked = _options(query, {} if version is None else {"version": version})
        options.check(name, asked)
        checkpoint = request.pieces(limits.max_upload_bytes, limits.request_timeout_s)
        imported = await engine.upload(name, checkpoint, asked)
    location = f"/v1/models/{quote(name)}/versions/{quote(imported.version)}"
    told = models.info(engine.entry(name), imported.version)
    uploaded = UploadReply(**dict(told), notes=list(imported.notes))
    return reply.of_schema(uploaded, HTTPStatus.CREATED, [(b"location", location.encode())])


def _check_media_type(head: Head) -> None:
    """Anything may be a checkpoint, but not what a browser's form makes of one, nor what is compressed."""
    given, encoding = head.text(b"content-type") or "", head.text(b"content-encoding") or "identity"
    if encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"send the body as it is, without 'Content-Encoding: {encoding}'")
    if given.lower().startswith("multipart/"):
        raise UnsupportedMediaType(f"send the file itself as the body, as `curl -T FILE` does, not as {given}")


def _options(query: QueryParams, in_path: dict[str, Any]) -> Options:
    """The query as options; the values of a list are separated by commas, or given one by one."""
    known = {field.name: field.default for field in dataclasses.fields(Options) if field.name not in in_path}
    try:
        check_known(query, known)
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
