"""A manifest written for people: TOML with a comment where there is something left to fill in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.tokens import TokenInputs

_SCALE = "# mean = 20.5, std = 4.1 beside a name: if the model was trained on (value − mean) / std"
_UNSCALE = (
    '# mean = [20.5] and std = [4.1], a number per name: if the targets were scaled; predicts = "next_step": if the\n'
    "# prediction at step t is of step t + 1"
)


def dumps(manifest: Manifest) -> str:
    """The manifest of an imported model as TOML."""
    return "\n".join(_lines(manifest)) + "\n"


def _lines(manifest: Manifest) -> Iterator[str]:
    yield "# Written by `gatescope import`; docs/models.md says what else may stand here."
    yield from _fields(manifest, "description", "task")
    yield from ("", "[input]")
    yield from _features(manifest.input) if isinstance(manifest.input, FeatureInputs) else _tokens(manifest.input)
    if manifest.head is not None:
        yield from ("", "[head]", *_fields(manifest.head, "steps", "activation"))
        yield from ("", "[output]", *_fields(manifest.output, "names", "labels", "predicts"))
    if manifest.task == "regression":
        yield _UNSCALE
    for example in manifest.examples:
        yield from ("", "[[examples]]", *_fields(example, "title", "file"))


def _features(inputs: FeatureInputs) -> Iterator[str]:
    yield 'kind = "features"'
    yield "features = ["
    yield from (f"  {{ name = {_value(feature.name)} }}," for feature in inputs.features)
    yield "]"
    yield _SCALE


def _tokens(inputs: TokenInputs) -> Iterator[str]:
    yield 'kind = "tokens"'
    yield from _fields(inputs, "vocabulary", "characters", "file", "size", "unknown", "unknown_token")


def _fields(of: Any, *names: str) -> Iterator[str]:
    """The fields that were set, in this order."""
    for name in names:
        if name in of.model_fields_set and getattr(of, name) is not None:
            yield f"{name} = {_value(getattr(of, name))}"


def _value(value: str | int | tuple[str, ...]) -> str:
    """A value in TOML, whose strings are JSON's but for U+007F."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
