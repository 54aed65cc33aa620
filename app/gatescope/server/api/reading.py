"""`Reading`: the body of a hot request -> the query that it states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query
from gatescope.server.api import aside, body, dense, query, tensors
from gatescope.server.api.limits import Limits
from gatescope.server.api.messages import Request
from gatescope.server.api.nested import Expected
from gatescope.server.api.schemas import DEFAULT_LAYOUT, PredictRequest
from gatescope.server.api.templates import LONGEST_KEY, MOST_BYTES, Template, Templates, may_have_templates

Schema = TypeVar("Schema", bound=PredictRequest)


class Asked(NamedTuple, Generic[Schema]):
    """What a body asks for."""

    query: Query
    tokens: list[list[str]] | None
    """What a model of tokens reads, as it was written."""
    request: Schema | None
    """The request itself; None of one that has nothing but `inputs`."""


class TemplateReader(Protocol):
    """What a wire format knows of bodies that differ in their numbers only."""

    def key(self, content: bytes) -> bytes:
        """All that a body says beside its numbers; empty where that cannot be told."""

    def numbers(self, content: bytes, key: bytes) -> np.ndarray | None:
        """All numbers as float32, flat; None where they must be looked at one by one."""

    def is_template(self, key: bytes) -> bool:
        """Whether a sound body with this key has no other numbers than those of `inputs`."""


class _Json:
    """Bodies in JSON that have `inputs`, a rectangle of numbers, and nothing else."""

    @staticmethod
    def key(content: bytes) -> bytes:
        return dense.skeleton_of(content)

    @staticmethod
    def numbers(content: bytes, key: bytes) -> np.ndarray | None:  # noqa: ARG004 - the numbers stand everywhere in it
        return dense.numbers_of(content)

    @staticmethod
    def is_template(key: bytes) -> bool:
        return dense.is_inputs_alone(key)


class _Safetensors:
    """Bodies in safetensors with one tensor, `inputs` in float32; whatever else they say stands in their head."""

    @staticmethod
    def key(content: bytes) -> bytes:
        return tensors.head_of(content)

    @staticmethod
    def numbers(content: bytes, key: bytes) -> np.ndarray | None:
        return dense.floats_behind(content, len(key))

    @staticmethod
    def is_template(key: bytes) -> bool:
        described = {name: value for name, value in tensors.described_in(key).items() if name != tensors.METADATA}
        return described.keys() == {"inputs"} and described["inputs"]["dtype"] == "F32"


_TEMPLATE_READERS: dict[body.Decode, TemplateReader] = {body.from_json: _Json(), tensors.fields_of: _Safetensors()}


class Reading(Generic[Schema]):
    """Reads the bodies of one endpoint.

    Args:
        schema: of the bodies.
        to_query: what a request of this schema means.
    """

    def __init__(self, schema: type[Schema], to_query: Callable[[Schema, Model, Limits], Query]) -> None:
        self._schema, self._to_query = schema, to_query
        self._templates: Templates[Schema | None] = Templates()

    async def read(self, request: Request, model: Model) -> Asked[Schema]:
        """What the body of a request asks of this model.

        Raises:
            UnsupportedMediaType: it comes in another format, or compressed.
            BodyTooLarge, InvalidJSON: as their names say.
            InvalidInput: it does not fit the schema or the model; every place is named.
            ReplyTooLarge, TraceTooLarge: the answer would have more bytes than the server makes.
        """
        decode = body.decoder(request.head)
        limits = request.context.limits
        content = await request.content(limits.max_body_bytes)
        if len(content) <= MOST_BYTES and may_have_templates(model):
            return self._by_template(content, decode, model, limits)
        return await self.decoded(content, decode, model, limits)

    async def decoded(self, content: bytes, decode: body.Decode, model: Model, limits: Limits) -> Asked[Schema]:
        """The same of a body that has arrived."""
        if len(content) <= MOST_BYTES and may_have_templates(model):
            return self._by_template(content, decode, model, limits)
        return await aside.run(len(content) > aside.MOST_BYTES, self._asked, content, decode, model, limits)

    def _by_template(self, content: bytes, decode: body.Decode, model: Model, limits: Limits) -> Asked[Schema]:
        reader = _TEMPLATE_READERS[decode]
        key = reader.key(content)
        template = self._templates.get(model, key)
        if template is not None:
            numbers = reader.numbers(content, key)
            if numbers is not None and len(numbers) == template.numbers:
                return Asked(template.filled(numbers), None, template.kept)
        asked = self._asked(content, decode, model, limits)
        is_plain = not asked.query.is_ragged and asked.request is not None and asked.request.layout == DEFAULT_LAYOUT
        if is_plain and len(key) <= LONGEST_KEY and reader.is_template(key):
            kept = None if decode is body.from_json else asked.request
            self._templates.put(model, key, Template.of(asked.query, kept))
        return asked

    def _asked(self, content: bytes, decode: body.Decode, model: Model, limits: Limits) -> Asked[Schema]:
        expected: Expected = query.expected(model).within(limits)
        request = body.decoded(content, decode, self._schema, expected)
        return Asked(self._to_query(request, model, limits), query.tokens_of(request, model), request)
