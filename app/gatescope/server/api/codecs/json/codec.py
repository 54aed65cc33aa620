"""JSON: the first choice for replies, and what most requests come in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from gatescope.server.api import offload
from gatescope.server.api.codecs.codec import BodyReader, Fields, ReplyKind, ReplyWriter
from gatescope.server.api.codecs.json import inputs, parsing, writing
from gatescope.server.api.messages import Content
from gatescope.server.api.schema.arrays import Sequences
from gatescope.server.api.schema.shapes import Expected


class Json(BodyReader, ReplyWriter):
    """Every sequence of a reply has its true length, without padding."""

    media_type = "application/json"
    writes: ClassVar[frozenset[ReplyKind]] = frozenset(("prediction", "trace", "analysis", "intervention"))
    is_text = True
    max_loop_bytes = offload.MAX_LOOP_BYTES

    def decode(self, content: bytes) -> Fields:
        """The fields of a JSON object."""
        return parsing.fields_of(content)

    def sequences(self, content: bytes, expected: Expected) -> Sequences | None:
        """The `inputs` of a body that has nothing else; numbers are read without making an object of each."""
        return inputs.sequences(content, expected)

    def template_key(self, content: bytes) -> bytes:
        """The body without its numbers and spaces."""
        return inputs.skeleton_of(content)

    def template_numbers(
        self,
        content: bytes,
        key: bytes,  # noqa: ARG002 - the numbers stand everywhere
        largest: float | None,
    ) -> np.ndarray | None:
        """All numbers of `inputs`."""
        return inputs.numbers_of(content, largest)

    def is_template(self, key: bytes) -> bool:
        """Whether such a body has `inputs` alone."""
        return inputs.is_inputs_alone(key)

    def encode(self, reply: Fields) -> bytes:
        """The reply as one text."""
        return writing.dumps(_without_padding(reply))

    def encode_pieces(self, reply: Fields) -> Sequence[Content]:
        """The same text, in pieces."""
        return writing.pieces(_without_padding(reply))


def _without_padding(reply: Fields) -> Fields:
    if "trace" in reply:
        lengths = {"sequence_lengths": reply["sequence_lengths"]}
        inner = _without_padding(reply["trace"] | lengths)
        return reply | {"trace": {name: value for name, value in inner.items() if name not in lengths}}
    if "signals" not in reply:
        return reply
    parts = _unpadded(reply["time_steps"], reply["sequence_lengths"])
    return reply | {"signals": {name: _cut(values, parts) for name, values in reply["signals"].items()}}


def _unpadded(steps: list[int], lengths: list[int]) -> list[slice]:
    """Which part of the time axis each sequence has; the steps go up or down."""
    upwards = steps[0] <= steps[-1]
    ordered = steps if upwards else steps[::-1]
    counts = [bisect_left(ordered, length) for length in lengths]
    return [slice(count) if upwards else slice(len(steps) - count, None) for count in counts]


def _cut(values: np.ndarray, parts: list[slice]) -> np.ndarray | list[np.ndarray]:
    """(batch, layer, direction, time, unit) without the padding: as it is where there is none, else row by row."""
    rows = [row[:, :, part] for row, part in zip(values, parts, strict=True)]
    return values if all(row.shape == values.shape[1:] for row in rows) else rows
