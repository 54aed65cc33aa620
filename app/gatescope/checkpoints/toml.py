"""A manifest of format 2 written for people: TOML with a comment where there is something left to fill in.

tomlkit, which writes comments too, takes 7.6 s for the names of 5,000 features and as many labels, this 0.1 s; tomli-w
writes no comments, and short tables in one line each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.graph import INPUTS
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.manifest import Manifest

_SCALE = "# mean = 20.5, std = 4.1 beside a name: if the model was trained on (value − mean) / std"
_UNSCALE = (
    '# mean = [20.5] and std = [4.1], a number per name: if the targets were scaled; predicts = "next_step": if the\n'
    "# prediction at step t is of step t + 1"
)
_TOP = ("description", "factory", "trial_steps", "default_version", "window", "warmup_steps", "ignored")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WIDEST = 110  # characters of a list in one line


def dumps(manifest: Manifest, command: str = "import") -> str:
    """A manifest as TOML: the fields that were set, but for those that are what is taken anyway.

    Args:
        manifest: of any model.
        command: of `gatescope`, which writes it.
    """
    return "\n".join(_lines(manifest, command)) + "\n"


def _lines(manifest: Manifest, command: str) -> Iterator[str]:
    yield f"# Written by `gatescope {command}`; docs/models.md says what else may stand here."
    yield "format = 2"
    stated = manifest.model_dump(exclude_unset=True, exclude_none=True)
    yield from _fields({name: stated[name] for name in _TOP if name in stated})
    if "factory_arguments" in stated:
        yield from ("", "[factory_arguments]", *_fields(stated["factory_arguments"]))
    yield from ("", "[input]", *_fields({"kind": manifest.input.kind} | stated["input"]))
    if isinstance(manifest.input, FeatureInputs) and not manifest.input.is_scaled:
        yield _SCALE
    if "static" in stated:
        yield from ("", "[static]", *_fields(stated["static"]))
    if "graph" in stated:
        yield from ("", "[graph]", *_fields(stated["graph"]))
    before = INPUTS
    for layer in manifest.layers:
        yield from ("", "[[layers]]", *_fields(_of_layer(layer, before)))
        before = layer.name
    for head in manifest.heads:
        yield from ("", "[[heads]]", *_fields(_set(head)), *_left_open(head))
    for name in ("not_computed", "examples"):
        for each in stated.get(name, ()):
            yield from ("", f"[[{name}]]", *_fields(each))


def _of_layer(layer: LayerConfig, before: str) -> dict[str, Any]:
    """What must be said of a layer that stands behind another."""
    stated = {"name": layer.name, "type": layer.type} | _set(layer)
    if layer.inputs == (before,) or not layer.inputs:
        stated.pop("inputs", None)
    if layer.weights == layer.name:
        del stated["weights"]
    return stated


def _left_open(head: HeadConfig) -> Iterator[str]:
    if head.task == "regression" and not head.mean and not head.std:
        yield _UNSCALE


def _set(config: LayerConfig | HeadConfig) -> dict[str, Any]:
    return config.model_dump(exclude_unset=True, exclude_none=True)


def _fields(stated: Mapping[str, Any]) -> Iterator[str]:
    for name, value in stated.items():
        yield f"{_key(name)} = {_field(value)}"


def _field(value: Any) -> str:
    """A value, a list with an entry a line where it would be too wide or holds tables."""
    inline = _value(value)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        return inline
    if len(inline) <= _WIDEST and not isinstance(value[0], Mapping):
        return inline
    return "\n".join(["[", *(f"  {_value(each)}," for each in value), "]"])


def _value(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(name)} = {_value(each)}' for name, each in value.items())} }}"
    if isinstance(value, str):  # JSON's strings are TOML's but for U+007F
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bool | int | float):
        return repr(value).lower()  # True, 1e-05, NaN as `nan`
    raise TypeError(f"TOML has no value for {type(value).__name__}")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)
