"""`POST /v1/models/{name}/tables`: what a table means to a model, before anything is computed."""

from __future__ import annotations

import asyncio

from gatescope.errors import InvalidInput
from gatescope.server.api import reply, table_bodies
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.schema.replies import PreviewedSequence, TablePreview, TableProblem, UnmappedFeature
from gatescope.tables.columns import Columns
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
    await request.checked()
    return reply.of_schema(await asyncio.to_thread(_preview, content, suffix, wanted, reading))


def _preview(content: bytes, suffix: str, wanted: Wanted, reading: Reading) -> TablePreview:
    table: Table | None = None
    try:
        table = table_bodies.table_in(content, suffix)
        found = interpret(table, wanted, reading)
    except InvalidInput as error:
        mapping, not_found = _mapped(table, wanted, reading)
        problems = _problems(table, error)
        notes = [] if table is None else list(table.notes)
        return TablePreview(
            columns=_columns(table), mapping=mapping, not_found=not_found, notes=notes, problems=problems
        )
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


def _mapped(table: Table | None, wanted: Wanted, reading: Reading) -> tuple[dict[str, str], list[UnmappedFeature]]:
    """Feature or output -> column, and the features without one; nothing of a table without names."""
    if table is None or not table.has_names:
        return {}, []
    try:
        columns = Columns(table, reading.mapping)
    except InvalidInput:  # it maps a column that is not there
        return {}, []
    names = (*wanted.features, *wanted.static)
    missing = [
        UnmappedFeature(name=name, nearest=near, map=f"{name}={near[0]}" if near else None)
        for name, near in columns.missing(names).items()
    ]
    every = dict.fromkeys((*names, *wanted.outputs))
    return {name: column for name in every if (column := columns.find(name)) is not None}, missing


def _problems(table: Table | None, error: InvalidInput) -> list[TableProblem]:
    """Each with its cell, where it is of one."""
    made = []
    for place in error.places if table is not None else ():
        row = next((part for part in place.loc if isinstance(part, int)), None)
        column = next((part for part in place.loc[1:] if isinstance(part, str)), None)
        message = str(error) if row is None and column is None else place.message
        if table is not None and row is not None:
            message = f"{table.place(row, column)}: {message}"
        made.append(TableProblem(message=message, row=row, column=column))
    return made or [TableProblem(message=str(error))]


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
