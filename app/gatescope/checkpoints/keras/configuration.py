"""`Configuration`: what a Keras file says of one layer, read key by key; what nobody has read stops the import.

A key that is not known may change the numbers. So after a layer has been translated, every key that was not read, and
is not known to matter in training only, must have the value of "nothing": null or false.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from gatescope.errors import CheckpointError
from gatescope.names import LONGEST_NAME, printable, quoted

T = TypeVar("T")

LONGEST_JSON = 16 * 2**20
MOST_LEVELS = 64

OF_TRAINING = frozenset(
    {
        "activity_regularizer",
        "batch_input_shape",
        "batch_shape",
        "cache_kernel",
        "dropout",
        "dtype",
        "implementation",
        "input_length",
        "input_shape",
        "momentum",
        "name",
        "noise_shape",
        "optional",
        "ragged",
        "rate",
        "recurrent_dropout",
        "renorm_momentum",
        "seed",
        "sparse",
        "stddev",
        "supports_masking",
        "synchronized",
        "trainable",
        "unit_forget_bias",
        "unroll",
        "virtual_batch_size",
        "zero_output_for_mask",
    }
)
"""Keys that say how a layer was trained, built or called, and nothing of what it computes of a whole sequence."""

SUFFIXES_OF_TRAINING = ("_initializer", "_regularizer", "_constraint")


class Configuration:
    """The configuration of one layer.

    Args:
        layer: its name, for messages.
        kind: its class.
        stated: the keys and values.
    """

    def __init__(self, layer: str, kind: str, stated: Mapping[str, Any]) -> None:
        self.layer, self.kind, self._stated = layer, kind, stated
        self._read: set[str] = set()

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The value of this key, the default where it is missing.

        Raises:
            CheckpointError: it is of another type.
        """
        self._read.add(key)
        value: Any = self._stated.get(key, default)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self.refusal(f"has {key} = {_shown(value)}, which is no {kind.__name__}")
        return value

    def need(self, key: str, kind: type[T]) -> T:
        """The same of a key that must be there."""
        if key not in self._stated:
            raise self.refusal(f"has no {key}; the file is damaged, save the model again")
        return self.get(key, kind, kind())

    def raw(self, key: str, default: Any = None) -> Any:
        """The value, of whatever type."""
        self._read.add(key)
        return self._stated.get(key, default)

    def expect(self, key: str, *allowed: Any, why: str) -> None:
        """Refuse any value but these, the first of which stands for a missing key."""
        value = self.raw(key, allowed[0])
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise self.refusal(f"has {key} = {_shown(value)}: {why}")

    def finish(self) -> None:
        """Refuse what was not read."""
        for key, value in self._stated.items():
            is_known = key in self._read or key in OF_TRAINING or key.endswith(SUFFIXES_OF_TRAINING)
            if not is_known and value is not None and value is not False:
                raise self.refusal(f"has {printable(key)} = {_shown(value)}, which is not known here")

    def refusal(self, message: str) -> CheckpointError:
        """The error that says this of the layer."""
        return CheckpointError(f"its layer {quoted(self.layer)} ({printable(self.kind)}) {message}")


def parsed(content: bytes | str, what: str) -> Mapping[str, Any]:
    """A JSON object whose nesting and length are bounded.

    Raises:
        CheckpointError: it is none.
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        if len(text) > LONGEST_JSON or _depth(text) > MOST_LEVELS:
            raise CheckpointError(f"its {what} is nested deeper than {MOST_LEVELS}, or too long")
        found = json.loads(text, parse_int=_number, parse_constant=_constant)
    except (ValueError, RecursionError):
        raise CheckpointError(f"its {what} is no JSON: the file is damaged, save the model again") from None
    if not isinstance(found, Mapping):
        raise CheckpointError(f"its {what} is no JSON object: the file is damaged, save the model again")
    return found


def name_of(value: Any, what: str) -> str:
    """A text that can be a name; raises `CheckpointError`."""
    if not isinstance(value, str) or not value or len(value) > LONGEST_NAME or not value.isprintable():
        raise CheckpointError(f"{what} is called {_shown(value)}, which is no name: the file is damaged")
    return value


def _depth(text: str) -> int:
    """How deep brackets are nested at most; those within texts count, too, which only makes it more."""
    deepest = level = 0
    for character in text:
        if character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def _number(text: str) -> int:
    if len(text) > 20:  # noqa: PLR2004 - digits of 64 bits
        raise ValueError("too long")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(text)


def _shown(value: Any) -> str:
    return printable(json.dumps(value, default=str)) if not isinstance(value, str) else quoted(value)
