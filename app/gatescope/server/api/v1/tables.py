"""`POST /v1/models/{name}/tables`: what a table means to a model, before anything is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gatescope.errors import InvalidInput
from gatescope.server.api import reply, table_bodies
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.schema.replies import PreviewedSequence, TablePreview, TableProblem
from gatescope.tables.sequences import Reading, Sequences, Wanted, interpret
from gatescope.tables.table import Table


async def preview_table(request: Request, name: str, version: str | None = None) -> Reply:
    """How a table, the body, is read for this model: its columns, what is wrong with it, and the request of it.

    A table that cannot be read is answered 200, too, with `problems` and without a `request`.
    """
    model = request.context.engine.model(name, version)
    suffix, reading = table_bodies.suffix_of(request.head), table_bodies.reading_of(request.head)
    wanted = table_bodies.wanted_of(model)
    content = await request.content(request.context.limits.max_body_bytes)
    return reply.of_schema(await asyncio.to_thread(_preview, content, suffix, wanted, reading))


def _preview(content: bytes, suffix: str, wanted: Wanted, reading: Reading) -> TablePreview:
    table: Table | None = None
    try:
        table = table_bodies.table_in(content, suffix)
        found = interpret(table, wanted, reading)
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
