"""How a chain of layers is written in one line, as `--layers` takes it and messages show it.

`embedding,lstm,last,relu,fc,softplus`: each is the path of a layer in the checkpoint, or a function without weights.
`residual(PATH)` is a recurrent layer to whose output its input is added. `parallel(A|B)` are recurrent layers that read
the same, side by side; `parallel(A|B)=add` is their sum. `PATH=TYPE` says of which of several types a layer is.
`directions=sum` says what is made of the two directions. `static` puts the static inputs beside what comes before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, get_args

from gatescope.checkpoints.structure.kinds import CRF, Conv1d, Embedding, FoundRecurrent, Linear, Norm, Part
from gatescope.pipeline.layers.activation import Function
from gatescope.pipeline.layers.pool import How

FUNCTIONS = get_args(Function)
POOLS = get_args(How)
MERGES = ("sum", "mean", "max", "forward", "reverse", "swap")
ONE_HOT, STATIC = "one_hot", "static"

_GROUP = re.compile(r"(residual|parallel)\((.*)\)(?:=(concat|add))?")
_TYPES = {Embedding: "embedding", Linear: "linear", Conv1d: "conv1d", CRF: "crf"}

Layer = dict[str, Any]
"""One entry of `[[layers]]`."""


def type_of(part: Part) -> str | None:
    """The type of the layer that a part is, the first of several that it may be of; None of what is no layer."""
    if isinstance(part, Norm):
        return part.types[0]
    return part.spec.cell.name if isinstance(part, FoundRecurrent) else _TYPES.get(type(part))


class Unreadable(ValueError):
    """A token that is neither a path of the checkpoint nor a function."""


def split(text: str) -> tuple[str, ...]:
    """The tokens of a line; commas within brackets do not count."""
    return tuple(token.strip() for token in re.split(r",(?![^(]*\))", text) if token.strip())


def expand(tokens: Sequence[str], parts: Mapping[str, Part], learned: Mapping[str, Mapping[str, str]]) -> list[Layer]:
    """The layers that a line of tokens means.

    Args:
        tokens: of the line.
        parts: of the checkpoint, by path.
        learned: path of a recurrent layer -> its state -> the weight that is its initial value.

    Raises:
        Unreadable: a token is none.
    """
    layers: list[Layer] = []
    for token in tokens:
        layers += expand_one(token, layers, parts, learned)
    return layers


def expand_one(
    token: str, before: Sequence[Layer], parts: Mapping[str, Part], learned: Mapping[str, Mapping[str, str]]
) -> list[Layer]:
    """The layers that one token means behind those that are there; raises `Unreadable`."""
    return _Expansion(parts, learned, before).of(token)


class _Expansion:
    """Of one token, behind the layers that are there."""

    def __init__(
        self, parts: Mapping[str, Part], learned: Mapping[str, Mapping[str, str]], before: Sequence[Layer]
    ) -> None:
        self._parts, self._learned = parts, learned
        self._names = {layer["name"] for layer in before}
        self._before = before[-1]["name"] if before else "inputs"

    def of(self, token: str) -> list[Layer]:
        if (group := _GROUP.fullmatch(token)) is not None:
            return self._group(group[1], group[2].split("|"), group[3] or "concat")
        path, _, variant = token.partition("=")
        if path in self._parts or path in {"", "(top)"}:
            return [self._weighted(path.removeprefix("(top)"), variant)]
        return [self._function(token, path, variant)]

    def _group(self, kind: str, paths: list[str], join: str) -> list[Layer]:
        if kind == "residual":
            path, _, variant = paths[0].partition("=")
            inner = self._weighted(path, variant)
            added = {"name": self._new("residual"), "type": "add", "inputs": [self._before, inner["name"]]}
            return [inner, added]
        split = [path.partition("=") for path in paths]
        towers = [{**self._weighted(path, variant), "inputs": [self._before]} for path, _, variant in split]
        joined = {"name": self._new("parallel"), "type": join, "inputs": [tower["name"] for tower in towers]}
        return [*towers, joined]

    def _weighted(self, path: str, variant: str) -> Layer:
        part = self._parts.get(path)
        if part is None:
            raise Unreadable(path)
        kind = type_of(part)
        if kind is None:
            raise Unreadable(path)
        name = self._new(path or kind)
        layer: Layer = {"name": name, "type": kind}
        if variant and isinstance(part, Norm):
            layer["type"] = variant
        elif variant:
            layer["nonlinearity" if isinstance(part, FoundRecurrent) else "padding"] = variant
        if name != path:
            layer["weights"] = path
        if isinstance(part, FoundRecurrent):
            layer |= {f"initial_{state}": weight for state, weight in self._learned.get(path, {}).items()}
        return layer

    def _function(self, token: str, name: str, variant: str) -> Layer:
        if name in FUNCTIONS and not variant:
            return {"name": self._new(name), "type": "activation", "function": name}
        if name in POOLS and not variant:
            return {"name": self._new(name), "type": "pool", "how": name}
        if name == "directions" and variant in MERGES:
            return {"name": self._new("directions"), "type": "directions", "how": variant}
        if token == ONE_HOT:
            return {"name": self._new(ONE_HOT), "type": ONE_HOT}
        if token == STATIC:
            return {"name": self._new("with_static"), "type": "concat", "inputs": [self._before, STATIC]}
        raise Unreadable(token)

    def _new(self, name: str) -> str:
        """A name that no layer has."""
        numbered = (f"{name}.{number}" for number in count(2))
        return name if name not in self._names else next(each for each in numbered if each not in self._names)
