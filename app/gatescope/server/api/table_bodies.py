"""Tables as bodies of requests: CSV and Parquet, read as the command line reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from starlette.datastructures import QueryParams

from gatescope import extras
from gatescope.errors import InvalidInput, Place, Unavailable, UnsupportedMediaType
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.model import Model
from gatescope.pipeline.pipeline import predicts_next_step
from gatescope.server.api.codecs.codec import Fields
from gatescope.server.api.messages import Head
from gatescope.server.api.parameters import TABLE
from gatescope.server.api.places import refuse
from gatescope.server.api.schema.field_names import check_known
from gatescope.server.api.schema.shapes import ShapeError
from gatescope.server.serving.stored import Note
from gatescope.tables.files import read_table
from gatescope.tables.pairs import fill_of, mapping_of
from gatescope.tables.sequences import Reading, Sequences, Wanted, interpret
from gatescope.tables.table import Table

Read = TypeVar("Read")

CSV = "text/csv"
FORMATS = {
    CSV: ".csv",
    "application/vnd.apache.parquet": ".parquet",
}
"""The media types of tables, and what files of them are called."""

MOST_CELLS = 20_000_000
"""Of a Parquet table: a small body can hold any number of them."""


def is_table(head: Head) -> bool:
    """Whether the body is said to be a table."""
    return media_type(head) in FORMATS


def suffix_of(head: Head) -> str:
    """What a file with such a body is called.

    Raises:
        UnsupportedMediaType: it is no table, or comes compressed.
    """
    given = media_type(head) or CSV
    if given not in FORMATS:
        raise UnsupportedMediaType(f"a table comes as {', '.join(FORMATS)}, not as {given}")
    check_encoding(head)
    return FORMATS[given]


def check_encoding(head: Head) -> None:
    """Refuse a body that comes compressed; raises `UnsupportedMediaType`."""
    encoding = head.text(b"content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(f"send the body as it is, without 'Content-Encoding: {encoding}'")


def reading_of(head: Head, beside: Collection[str] = ()) -> Reading:
    """What the query says about the table.

    Args:
        head: of the request.
        beside: what else may stand in the query.

    Raises:
        InvalidInput: it says something else.
    """
    query = QueryParams(head.query_values)
    check_query(query, (*TABLE, *beside))
    return reading_in(query)


def reading_in(query: Mapping[str, str]) -> Reading:
    """What these parameters say about a table; raises `InvalidInput`."""
    day_first = query.get("day_first")
    if day_first not in {None, "true", "false"}:
        raise InvalidInput.at(Place(("query", "day_first"), f"must be true or false, not {day_first!r}"))
    mapping, fill = _option("map", mapping_of, query), _option("fill", fill_of, query)
    is_day_first = None if day_first is None else day_first == "true"
    return Reading(mapping, query.get("timestamps"), query.get("id"), is_day_first, fill)


def check_query(query: QueryParams, known: Collection[str]) -> None:
    """Refuse a query that says something else; raises `InvalidInput`."""
    try:
        check_known(query, known)
    except ShapeError as error:
        raise InvalidInput.at(*(Place(("query", *place.loc), place.message) for place in error.places)) from None


def wanted_of(model: Model) -> Wanted:
    """What a table must have for this model.

    Raises:
        InvalidInput: the model reads tokens.
    """
    inputs, static, head = model.manifest.input, model.manifest.static, model.manifest.head
    if not isinstance(inputs, FeatureInputs):
        refuse(f"model '{model.name}' reads tokens, which stand in no table", "inputs")
    return Wanted(
        model.name,
        tuple(inputs.names),
        () if head is None else tuple(head.names),
        head is not None and predicts_next_step(head),
        frozenset(inputs.missing),
        () if head is None else tuple(head.quantiles),
        derived=frozenset(inputs.derived),
        static=() if static is None else tuple(static.names),
    )


def table_in(content: bytes, suffix: str) -> Table:
    """The table of a body.

    Raises:
        InvalidInput: it cannot be read; the place is named.
        Unavailable: what reads tables is not installed.
    """
    try:
        return read_table(content, f"table{suffix}", MOST_CELLS)
    except ModuleNotFoundError as error:
        raise Unavailable(f"this server reads no tables: {extras.missing(error) or error}") from error


def fields_of(content: bytes, suffix: str, reading: Reading, wanted: Wanted) -> tuple[Fields, tuple[Note, ...]]:
    """The predict body that a table is, and what was assumed when it was read.

    Raises:
        InvalidInput, Unavailable: as `table_in`, or it does not fit the model.
    """
    found = interpret(table_in(content, suffix), wanted, reading)
    return found.request(), notes_of(found)


def notes_of(found: Sequences) -> tuple[Note, ...]:
    """What was assumed when a table was read."""
    notes: list[Note] = [
        {"code": "filled" if note in found.filled else "table", "message": note} for note in found.notes
    ]
    return tuple(notes)


def media_type(head: Head) -> str:
    """Of the body, as the head says; empty where it says nothing."""
    return (head.text(b"content-type") or "").partition(";")[0].strip().lower()


def _option(name: str, read: Callable[[str | None], Read], query: Mapping[str, str]) -> Read:
    try:
        return read(query.get(name) or None)
    except ValueError as error:
        raise InvalidInput.at(Place(("query", name), str(error))) from None
