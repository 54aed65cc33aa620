"""What a wire format is: the base classes that a codec picks from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from gatescope.server.api.codecs import arrays
from gatescope.server.api.messages import Content
from gatescope.server.api.schema.arrays import Sequences
from gatescope.server.api.schema.shapes import Expected
from gatescope.server.serving.chunking import Chunk

Fields = dict[str, Any]
"""A body: what JSON has, and arrays."""

ReplyKind = Literal["prediction", "trace", "tokens", "analysis", "intervention"]


class Codec:
    """One wire format."""

    media_type: ClassVar[str]
    writes: ClassVar[frozenset[ReplyKind]] = frozenset()
    """The kinds of replies that it can write."""
    is_text: ClassVar[bool] = False
    """Whether the OpenAPI document describes its bodies as text."""


class BodyReader(Codec, ABC):
    """A codec that reads the bodies of requests. Only `decode` is needed; the rest makes repeated bodies cheap."""

    @abstractmethod
    def decode(self, content: bytes) -> Fields:
        """The fields of a body.

        Raises:
            InvalidJSON, InvalidInput: it is not in this format, or holds what no request has.
        """

    def sequences(self, content: bytes, expected: Expected) -> Sequences | None:  # noqa: ARG002 - subclasses read it
        """The `inputs` of a body that has nothing else, where this is faster than `decode`; else None."""
        return None

    def template_key(self, content: bytes) -> bytes:  # noqa: ARG002 - subclasses read it
        """All that a body says beside its numbers; empty where that cannot be told."""
        return b""

    def template_numbers(
        self,
        content: bytes,  # noqa: ARG002 - subclasses read it
        key: bytes,  # noqa: ARG002 - likewise
        largest: float | None,  # noqa: ARG002 - likewise
    ) -> np.ndarray | None:
        """All numbers of a body, flat; None where they must be checked one by one.

        Args:
            content: the body.
            key: its template's.
            largest: how large each may be, for float64; None for float32.
        """
        return None

    def is_template(self, key: bytes) -> bool:  # noqa: ARG002 - subclasses read it
        """Whether a valid body with this key has no other numbers than those of `inputs`."""
        return False


class ReplyWriter(Codec, ABC):
    """A codec that writes a reply at once."""

    max_loop_bytes: int
    """Bytes of arrays that may be written on the event loop; more are written on another thread."""

    @abstractmethod
    def encode(self, reply: Fields) -> Content:
        """The reply in this format."""

    def encode_pieces(self, reply: Fields) -> Sequence[Content]:
        """A large reply in this format, in one piece or more; not for the event loop to call."""
        return [self.encode(reply)]

    def is_large(self, reply: Fields) -> bool:
        """Whether the reply must be written on another thread, by `encode_pieces`."""
        return arrays.size_of(reply) > self.max_loop_bytes


class StreamWriter(Codec, ABC):
    """A codec that writes a trace while it is computed."""

    @abstractmethod
    def stream(
        self, header: Fields, chunks: AsyncIterator[Chunk], end: Callable[[], Fields]
    ) -> AsyncGenerator[bytes, None]:
        """The reply in pieces.

        Args:
            header: what is known before the first step.
            chunks: of the batch, each asked for when the client has taken what was written of the one before.
            end: answers what is known after the last step.
        """

    @abstractmethod
    def failure(self, problem: bytes) -> bytes:
        """The last piece of a reply that breaks off: a problem in JSON."""


class TokenWriter(Codec, ABC):
    """A codec that writes the tokens of a text while they are drawn."""

    @abstractmethod
    def stream(
        self, steps: AsyncGenerator[Sequence[Fields], None], end: Callable[[], Fields]
    ) -> AsyncGenerator[bytes, None]:
        """The reply in pieces.

        Args:
            steps: the tokens of each step.
            end: answers the reply that is known after the last step.
        """

    @abstractmethod
    def failure(self, problem: bytes) -> bytes:
        """The last piece of a reply that breaks off: a problem in JSON."""
