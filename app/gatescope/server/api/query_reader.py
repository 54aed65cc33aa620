"""`QueryReader`: the body of a hot request -> the query that it states; by a template where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api import body, offload, query, sequences, table_bodies
from gatescope.server.api.codecs.codec import BodyReader, Fields
from gatescope.server.api.codecs.templates import MAX_BODY_BYTES, MAX_KEY_BYTES, Template, Templates
from gatescope.server.api.edits import notes_on
from gatescope.server.api.limits import Limits
from gatescope.server.api.messages import Request
from gatescope.server.api.notes import notes_of
from gatescope.server.api.row_labels import labels_of
from gatescope.server.api.schema.elements import INPUTS
from gatescope.server.api.schema.requests import DEFAULT_LAYOUT, PredictRequest
from gatescope.server.api.schema.shapes import Expected
from gatescope.server.serving.row_labels import NO_LABELS, RowLabels
from gatescope.server.serving.stored import Note
from gatescope.tables.sequences import Reading, Wanted

Schema = TypeVar("Schema", bound=PredictRequest)


class ReadQuery(NamedTuple, Generic[Schema]):
    """What a body asks for."""

    query: Query
    tokens: list[list[str]] | None
    """What a model of tokens reads, as it was written."""
    request: Schema
    """The request itself; without `inputs` where a template read them."""
    notes: tuple[Note, ...] = ()
    """What was assumed when it was read."""
    labels: RowLabels = NO_LABELS
    """What it says about its sequences."""


class QueryReader(Generic[Schema]):
    """Reads the bodies of one endpoint.

    Args:
        schema: of the bodies.
        to_query: what a request of this schema means; it is also given what `read` is given behind the model.
    """

    def __init__(self, schema: type[Schema], to_query: Callable[..., Query]) -> None:
        self._schema, self._to_query = schema, to_query
        self._templates: Templates[Schema] = Templates()

    async def read(self, request: Request, model: Model, *further: Any) -> ReadQuery[Schema]:
        """What the body of a request asks of this model; `further` is what else the query follows from.

        Raises:
            UnsupportedMediaType: it comes in another format, or compressed.
            BodyTooLarge, InvalidJSON: as their names say.
            InvalidInput: it does not fit the schema or the model; every place is named.
            ReplyTooLarge, TraceTooLarge: the answer would have more bytes than the server makes.
        """
        limits = request.context.limits
        if request.head.find(table_bodies.is_table):
            return await self._read_table(request, model, limits, *further)
        reader = request.head.find(body.reader_of)
        content = await request.content(limits.max_body_bytes)
        return await self.decode(content, reader, model, limits, *further)

    async def decode(
        self, content: bytes, reader: BodyReader, model: Model, limits: Limits, *further: Any
    ) -> ReadQuery[Schema]:
        """The same of a body that has arrived."""
        if len(content) <= MAX_BODY_BYTES and model.takes_any_numbers:
            return self._read_by_template(content, reader, model, limits, *further)
        is_long = len(content) > offload.MAX_LOOP_BYTES
        return await offload.run(is_long, self._decode, content, reader, model, limits, *further)

    def of_fields(self, fields: Fields, model: Model, limits: Limits, *further: Any) -> ReadQuery[Schema]:
        """The same of the fields of a body."""
        asked = body.validate(fields, self._schema, query.expected(model).within(limits))
        return self._of_request(asked, model, limits, *further)

    async def _read_table(self, request: Request, model: Model, limits: Limits, *further: Any) -> ReadQuery[Schema]:
        """The same of a table, for which the query says how it is read."""
        suffix, reading = table_bodies.suffix_of(request.head), table_bodies.reading_of(request.head)
        wanted = table_bodies.wanted_of(model)
        content = await request.content(limits.max_body_bytes)
        return await asyncio.to_thread(self._of_table, content, suffix, reading, wanted, model, limits, *further)

    def _of_table(
        self,
        content: bytes,
        suffix: str,
        reading: Reading,
        wanted: Wanted,
        model: Model,
        limits: Limits,
        *further: Any,
    ) -> ReadQuery[Schema]:
        fields, notes = table_bodies.fields_of(content, suffix, reading, wanted)
        read = self.of_fields(fields, model, limits, *further)
        return read._replace(notes=(*notes, *read.notes))

    def _read_by_template(
        self, content: bytes, reader: BodyReader, model: Model, limits: Limits, *further: Any
    ) -> ReadQuery[Schema]:
        key = reader.template_key(content)
        template = self._templates.get(model, key)
        if template is not None:
            numbers = reader.template_numbers(content, key, template.largest)
            if numbers is not None and len(numbers) == template.numbers:
                return ReadQuery(template.filled(numbers), None, template.kept)
        asked = self._decode(content, reader, model, limits, *further)
        said = asked.request
        is_plain = not asked.query.is_ragged and said.layout == DEFAULT_LAYOUT and said.columns is None
        is_plain = is_plain and asked.labels == NO_LABELS and not asked.query.interventions
        if is_plain and len(key) <= MAX_KEY_BYTES and reader.is_template(key):
            without_inputs = said.model_copy(update={"inputs": None})
            largest = query.expected(model).doubles.get(INPUTS)
            self._templates.put(model, key, Template.of(asked.query, without_inputs, largest))
        return asked

    def _decode(
        self, content: bytes, reader: BodyReader, model: Model, limits: Limits, *further: Any
    ) -> ReadQuery[Schema]:
        expected: Expected = query.expected(model).within(limits)
        request = body.decode(content, reader, self._schema, expected)
        return self._of_request(request, model, limits, *further)

    def _of_request(self, request: Schema, model: Model, limits: Limits, *further: Any) -> ReadQuery[Schema]:
        stated, tokens = self._to_query(request, model, limits, *further), sequences.tokens_of(request, model)
        labels = labels_of(request, stated.sequence_lengths.tolist(), model)
        notes = (*notes_of(request, model, tokens), *notes_on(stated, model))
        return ReadQuery(stated, tokens, request, notes, labels)
