"""`POST /v1/models/{name}/tables`: what a table means to a model, before anything is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from gatescope import extras
from gatescope.errors import InvalidInput, Place, Unavailable, UnsupportedMediaType
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.pipeline import predicts_next_step
from gatescope.server.api import reply
from gatescope.server.api.messages import Head, Reply, Request
from gatescope.server.api.parameters import TABLE
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.field_names import check_known
from gatescope.server.api.schema.replies import PreviewedSequence, TablePreview, TableProblem
from gatescope.server.api.schema.shapes import ShapeError
from gatescope.tables.files import read_table
from gatescope.tables.pairs import fill_of, mapping_of
from gatescope.tables.sequences import Reading, Sequences, Wanted, interpret
from gatescope.tables.table import Table

Read = TypeVar("Read")

FORMATS = {
    "text/csv": ".csv",
    "text/plain": ".csv",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.apache.arrow.file": ".arrow",
}
"""The media types of tables, and what files of them are called."""


async def preview_table(request: Request, name: str, version: str | None = None) -> Reply:
    """How a table, the body, is read for this model: its columns, what is wrong with it, and the request of it.

    A table that cannot be read is answered 200, too, with `problems` and without a `request`.
    """
    model = request.context.engine.model(name, version)
    suffix, reading = _suffix(request.head), _reading(QueryParams(request.head.query_values))
    if not isinstance(model.manifest.input, FeatureInputs):
        refuse(f"model '{model.name}' reads tokens, which stand in no table", "inputs")
    content = await request.content(request.context.limits.max_body_bytes)
    return reply.of_schema(await asyncio.to_thread(_preview, content, suffix, _wanted(model), reading))


def _suffix(head: Head) -> str:
    given = (head.text(b"content-type") or "text/csv").partition(";")[0].strip().lower()
    if given not in FORMATS:
        raise UnsupportedMediaType(f"a table comes as {', '.join(FORMATS)}, not as {given}")
    encoding = head.text(b"content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"send the body as it is, without 'Content-Encoding: {encoding}'")
    return FORMATS[given]


def _reading(query: QueryParams) -> Reading:
    try:
        check_known(query, TABLE)
    except ShapeError as error:
        raise InvalidInput.at(*(Place(("query", *place.loc), place.message) for place in error.places)) from None
    day_first = query.get("day_first")
    if day_first not in {None, "true", "false"}:
        raise InvalidInput.at(Place(("query", "day_first"), f"must be true or false, not {day_first!r}"))
    mapping, fill = _of("map", mapping_of, query), _of("fill", fill_of, query)
    is_day_first = None if day_first is None else day_first == "true"
    return Reading(mapping, query.get("timestamps"), query.get("id"), is_day_first, fill)


def _of(name: str, read: Callable[[str | None], Read], query: QueryParams) -> Read:
    try:
        return read(query.get(name) or None)
    except ValueError as error:
        raise InvalidInput.at(Place(("query", name), str(error))) from None


def _wanted(model: Model) -> Wanted:
    inputs, head = model.manifest.input, model.manifest.head
    features = inputs.features if isinstance(inputs, FeatureInputs) else ()
    return Wanted(
        model.name,
        tuple(feature.name for feature in features),
        () if head is None else tuple(head.names),
        head is not None and predicts_next_step(head),
        frozenset(feature.name for feature in features if feature.missing != "refuse"),
    )


def _preview(content: bytes, suffix: str, wanted: Wanted, reading: Reading) -> TablePreview:
    table: Table | None = None
    try:
        table = read_table(content, f"table{suffix}")
        found = interpret(table, wanted, reading)
    except ModuleNotFoundError as error:
        raise Unavailable(f"this server reads no tables: {extras.missing(error) or error}") from error
    except InvalidInput as error:
        return TablePreview(columns=_columns(table), problems=[_problem(error)])
    return TablePreview(
        columns=_columns(table),
        mapping=found.mapping,
        sequences=_sequences(found),
        horizon=found.horizon,
        notes=list(found.notes),
        request=found.request(),
    )


def _columns(table: Table | None) -> list[str]:
    return [] if table is None else [str(name) for name in table.frame.columns]


def _problem(error: InvalidInput) -> TableProblem:
    place: Mapping[str, Any] = {}
    if error.places:
        _, *where = error.places[0].loc
        place = {"row": next((part for part in where if isinstance(part, int)), None)}
        place = place | {"column": next((part for part in where if isinstance(part, str)), None)}
    return TableProblem(message=str(error), **place)


def _sequences(found: Sequences) -> list[PreviewedSequence]:
    made = []
    for index, values in enumerate(found.inputs):
        stamps = None if found.timestamps is None else found.timestamps[index]
        made.append(
            PreviewedSequence(
                id=None if found.ids is None else found.ids[index],
                time_steps=len(values),
                first=stamps[0] if stamps else None,
                last=stamps[-1] if stamps else None,
            )
        )
    return made
