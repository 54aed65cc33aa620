"""`Translation`: the layers and weights of a manifest, as the layers of a Keras model become them one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

from gatescope.checkpoints.keras.configuration import Configuration
from gatescope.checkpoints.keras.file import tensor
from gatescope.checkpoints.keras.nodes import Node
from gatescope.errors import CheckpointError
from gatescope.names import quoted
from gatescope.pipeline.graph import INPUTS, STATIC

Kind = Literal["ids", "sequence", "vector", "mask"]

RANKS = {"sequence": 3, "vector": 2, "ids": 2}
"""Axes of a value, the batch with them."""


@dataclass(frozen=True)
class Value:
    """What stands between two layers."""

    name: str  # of the manifest's layer that gives it, or `inputs` or `static`
    kind: Kind


@dataclass
class Translation:
    """What has been translated so far."""

    major: int
    """Keras 2 or 3."""
    arrays: Mapping[tuple[str, str], np.ndarray]
    """Place and role of a variable -> its array."""
    mask_values: tuple[float, ...] = ()
    """Of the `Masking` layers."""
    scales_inputs: bool = False
    """Whether a `Normalization` that reads the inputs may become the scaling of the features."""
    layers: list[dict[str, Any]] = field(default_factory=list)
    """Of the manifest."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    masked: float | None = None
    """The number of a `Masking` layer that reads the inputs."""
    padding: int | None = None
    """The id that an embedding masks."""
    scaling: tuple[np.ndarray, np.ndarray] | None = None
    """Mean and std of a `Normalization` that alone reads the inputs: it becomes the scaling of the features."""
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, kind: str, given: list[Value], made: Kind, **stated: Any) -> Value:
        """Put a layer at the end of the manifest."""
        if any(layer["name"] == name for layer in self.layers) or name in (INPUTS, STATIC):
            raise CheckpointError(f"its layer {quoted(name)} has the name of something else; rename it and save again")
        self.layers.append({"name": name, "type": kind, "inputs": [value.name for value in given], **stated})
        return Value(name, made)

    def take(self, node: Node, inner: str, role: str, *shape: int | None) -> Tensor:
        """A variable of a layer, as a tensor of this shape."""
        return tensor(self.arrays[f"{node.place}{inner}", role], node.name, role, *shape)

    def function(self, name: str, given: Value, function: str) -> Value:
        """Put a function behind a value; the value itself where it changes nothing."""
        if function == "linear":
            return given
        return self.add(name, "activation", [given], given.kind, function=function)


def only(node: Node, given: list[Value], *kinds: Kind) -> Value:
    """The one value that a layer reads."""
    if len(given) != 1 or given[0].kind not in kinds:
        found = ", ".join(value.kind for value in given)
        served = " or ".join(kinds)
        raise CheckpointError(
            f"its layer {quoted(node.name)} ({node.kind}) reads {found or 'nothing'}, where {served} is served"
        )
    return given[0]


def configuration(node: Node) -> Configuration:
    """What is stated of a layer."""
    return Configuration(node.name, node.kind, node.stated)


def inside(node: Node, config: Configuration, stated: Any) -> Node:
    """A layer inside a layer, such as that of `Bidirectional`."""
    match stated:
        case {"class_name": str(kind), "config": dict(own)}:
            return Node(
                node.name, kind, own, node.inputs, node.place, node.top, node.trainable, node.weights, node.arguments
            )
    raise config.refusal("has no layer inside; the file is damaged, save the model again")
