"""`KerasModel`: what a Keras file becomes: layers of a manifest, their weights, and what the model is asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gatescope.checkpoints.keras.file import SavedModel, read_model
from gatescope.checkpoints.keras.layers import translate
from gatescope.checkpoints.keras.nodes import Given, Node, Nodes, nodes_of
from gatescope.checkpoints.keras.translation import Translation, Value, configuration
from gatescope.checkpoints.keras.variables import variables_of
from gatescope.errors import CheckpointError, ManifestError, WeightsError
from gatescope.names import printable, quoted
from gatescope.pipeline.graph import INPUTS, STATIC, Graph
from gatescope.pipeline.layers.layer import Shape
from gatescope.pipeline.manifest import Manifest

_SEQUENCE, _FLAT = 2, 1  # axes of an input without the batch


@dataclass(frozen=True)
class KerasModel:
    """A model that was read."""

    layers: tuple[dict[str, Any], ...]
    """Of the manifest, in the order in which they run."""
    weights: dict[str, Tensor]
    outputs: tuple[str, ...]
    """The layers whose values are the model's outputs."""
    shapes: dict[str, Shape]
    """Of what each layer gives."""
    reads_tokens: bool
    width: int
    """How many numbers of a step come in; of tokens, how many ids there are."""
    static_width: int | None
    """How many numbers a sequence has once; None where the model takes none."""
    window: int | None
    """How many steps the configuration states."""
    padding: int | None
    masked: float | None
    scaling: tuple[np.ndarray, np.ndarray] | None
    """Mean and std of the features, where the model scales its inputs itself."""
    notes: tuple[str, ...]


def read(path: Path) -> KerasModel:
    """The model in a file.

    Raises:
        CheckpointError: the file cannot be read, or the model has what is not served; the layer is named.
    """
    saved = read_model(path)
    try:
        return _translated(saved)
    except (CheckpointError, ManifestError, WeightsError) as error:
        raise CheckpointError(f"{printable(path.name)}: {error}") from None


def _translated(saved: SavedModel) -> KerasModel:
    nodes = nodes_of(saved.config)
    variables = variables_of(nodes.layers)
    arrays = saved.stored.find(list(variables))
    held = {(variable.place, variable.role): array for variable, array in zip(variables, arrays, strict=True)}
    made = Translation(
        saved.major,
        held,
        mask_values=tuple(
            configuration(node).get("mask_value", float, 0.0) for node in nodes.layers if node.kind == "Masking"
        ),
        scales_inputs=_is_scaled_at_once(nodes),
    )
    values = _inputs(nodes)
    for node in nodes.layers:
        values[node.name] = translate(made, node, [values[name] for name in node.inputs])
    outputs = tuple(values[name].name for name in nodes.outputs)
    sequence = next(each for each in nodes.inputs if values[each.name].name == INPUTS)
    static = next((each for each in nodes.inputs if values[each.name].name == STATIC), None)
    reads_tokens = values[sequence.name].kind == "ids"
    width = _width(sequence, nodes, made, reads_tokens=reads_tokens)
    static_width = None if static is None or static.shape is None else static.shape[0]
    if outputs != tuple(dict.fromkeys(outputs)) or INPUTS in outputs or STATIC in outputs:
        raise CheckpointError("its outputs are its inputs, or one output twice: there is nothing to predict")
    _leave_out_defaults(made.layers)
    return KerasModel(
        tuple(made.layers),
        made.weights,
        outputs,
        _shapes(made, width, static_width, reads_tokens=reads_tokens),
        reads_tokens,
        width,
        static_width,
        None if sequence.shape is None else sequence.shape[0],
        made.padding,
        made.masked,
        made.scaling,
        (*saved.notes, "Its configuration states every layer.", *made.notes, *_mask_notes(made), *_precision(nodes)),
    )


def _mask_notes(made: Translation) -> list[str]:
    notes = []
    if made.padding is not None:
        notes.append(f"Padding: id {made.padding} is masked in Keras; leave it out of requests, which refuse it.")
    if made.masked is not None:
        notes.append(
            f"Masking: steps whose numbers are all {made.masked:g} are skipped in Keras; leave them out of requests, "
            "which refuse them."
        )
    return notes


def _precision(nodes: Nodes) -> list[str]:
    """A note of layers that Keras computes in another precision."""
    found = set()
    for node in nodes.layers:
        stated = node.stated.get("dtype")
        inner = stated.get("config") if isinstance(stated, Mapping) else None
        name = inner.get("name") if isinstance(inner, Mapping) else stated
        found.add(name if isinstance(name, str) else "float32")
    others = sorted(found - {"float32"})
    return (
        [f"Keras computes layers in {', '.join(map(printable, others))}; float32 is what is served."] if others else []
    )


def _is_scaled_at_once(nodes: Nodes) -> bool:
    """Whether a `Normalization` is the one layer that reads each input."""
    readers = [node for node in nodes.layers if any(name == each.name for each in nodes.inputs for name in node.inputs)]
    return len(readers) == 1 and readers[0].kind == "Normalization"


def _inputs(nodes: Nodes) -> dict[str, Value]:
    """What each input of the model is: ids or features of a sequence, or numbers that a sequence has once."""
    values: dict[str, Value] = {}
    for given in nodes.inputs:
        readers = [node for node in nodes.layers if given.name in node.inputs]
        axes = None if given.shape is None else len(given.shape)
        if any(node.kind == "Embedding" for node in readers):
            values[given.name] = Value(INPUTS, "ids")
        elif axes in (None, _SEQUENCE):
            values[given.name] = Value(INPUTS, "sequence")
        elif axes == _FLAT:
            values[given.name] = Value(STATIC, "vector")
        else:
            raise CheckpointError(
                f"its input {quoted(given.name)} has shape {given.shape}: (steps, features) is served"
            )
    names = [value.name for value in values.values()]
    if names.count(INPUTS) != 1 or names.count(STATIC) > 1:
        raise CheckpointError(
            f"it has {names.count(INPUTS)} inputs of sequences and {names.count(STATIC)} of vectors: one of sequences, "
            "and at most one of vectors, are served"
        )
    return values


def _width(given: Given, nodes: Nodes, made: Translation, *, reads_tokens: bool) -> int:
    readers = [node for node in nodes.layers if given.name in node.inputs]
    if reads_tokens:
        return int(next(node.stated["input_dim"] for node in readers if node.kind == "Embedding"))
    stated = given.shape[-1] if given.shape is not None else None
    if stated is not None:
        return stated
    return _read_width(readers, made)


def _read_width(readers: Sequence[Node], made: Translation) -> int:
    """How many numbers of a step the first layer with weights takes."""
    if made.scaling is not None:
        return len(made.scaling[0])
    for node in readers:
        for name, axis in (("weight_ih_l0", 1), ("weight", 1), ("running_mean", 0)):
            value = made.weights.get(f"{node.weights}.{name}")
            if value is not None and value.dim() > axis:
                return value.shape[axis] * _groups(node)
    raise CheckpointError(
        "it does not say how many features it takes: build it with keras.Input(shape), and save it again"
    )


def _groups(node: Node) -> int:
    groups = node.stated.get("groups", 1)
    return groups if node.kind == "Conv1D" and type(groups) is int else 1


def _leave_out_defaults(layers: list[dict[str, Any]]) -> None:
    """A layer that reads the one before it need not say so."""
    before = INPUTS
    for layer in layers:
        if layer["inputs"] == [before]:
            del layer["inputs"]
        before = layer["name"]


def _shapes(made: Translation, width: int, static_width: int | None, *, reads_tokens: bool) -> dict[str, Shape]:
    """What the layers give, found without a number being computed; widths that do not fit are refused."""
    given = {INPUTS: Shape(width, is_ids=reads_tokens)}
    if static_width is not None:
        given[STATIC] = Shape(static_width, is_sequence=False, is_static=True)
    stub = Manifest.model_validate(
        {"description": "-", "input": {"kind": "tokens", "vocabulary": "ids", "size": 1}, "layers": made.layers}
    )
    described = {name: torch.empty(value.shape, device="meta") for name, value in made.weights.items()}
    return Graph(stub.layers, given, described).shapes
