"""What `gatescope inspect` says: everything that is in a checkpoint, and what an import would make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatescope.checkpoints import sources
from gatescope.checkpoints.formats import checkpoint
from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.graphs import read_graph, understand_graph
from gatescope.checkpoints.keras.file import SavedModel, is_keras, read_model
from gatescope.checkpoints.keras.source import KerasSource
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.kinds import CRF, Conv1d, Norm, Other
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.understand import Understood, understand
from gatescope.errors import AppError, CheckpointError

OTHERS = (Conv1d, Norm, CRF, Other)


def report(file: Path) -> dict[str, Any]:
    """The contents of a checkpoint, as JSON has it; sizes are under PyTorch's own names.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    source = sources.find(file)
    if source.graph is not None:
        return _of_graph(source.graph, source.path)
    keras = KerasSource(file) if is_keras(file) else None
    try:
        read = checkpoint.read(file) if keras is None else keras.read()
    except CheckpointError as error:
        if keras is None:
            raise
        return _of_arrays(read_model(file), str(error))
    contents = Contents.of(read.weights)
    return {
        "parameters": sum(value.numel() for value in read.weights.values()),
        "notes": list(read.notes),
        "lstms": [{"path": lstm.path, "kind": lstm.kind, **lstm.spec.arguments} for lstm in contents.lstms],
        "embeddings": [asdict(table) for table in contents.embeddings],
        "linear_layers": [asdict(layer) for layer in contents.linear_layers],
        "others": [asdict(part) | {"kind": part.kind} for part in contents.parts if isinstance(part, OTHERS)],
        "import": _import(contents, read, keras),
    }


def _of_graph(kind: str, file: Path) -> dict[str, Any]:
    """The same of a graph; what is not recurrent is not taken apart."""
    read = read_graph(kind, file)
    return {
        "parameters": read.described.parameters,
        "notes": list(read.notes),
        "lstms": [
            {"path": name, "kind": spec.cell.name, **spec.arguments} for name, spec in read.described.specs.items()
        ],
        "embeddings": [],
        "linear_layers": [],
        "others": [],
        "import": _would_be(lambda: understand_graph(read, Options(), None)),
    }


def _of_arrays(saved: SavedModel, refusal: str) -> dict[str, Any]:
    """What is in a Keras file whose model is not served: its weights as they are stored."""
    shapes: dict[str, dict[str, list[int]]] = {}
    for path, values in saved.stored.held.arrays.items():
        place, _, name = path.rpartition("/")
        shapes.setdefault(place, {})[name] = list(values.shape)
    kind = "weights of a Keras layer"
    return {
        "parameters": sum(values.size for values in saved.stored.held.arrays.values()),
        "notes": list(saved.notes),
        "lstms": [],
        "embeddings": [],
        "linear_layers": [],
        "others": [{"path": path, "shapes": own, "kind": kind, "reason": None} for path, own in shapes.items()],
        "import": {"refused": refusal},
    }


def _import(contents: Contents, read: Checkpoint, keras: KerasSource | None) -> dict[str, Any]:
    understood = understand if keras is None else keras.understood
    return _would_be(lambda: understood(contents, read, Options(), None))


def _would_be(understood: Callable[[], Understood]) -> dict[str, Any]:
    try:
        meant = understood()
    except AppError as error:
        return {"refused": str(error)}
    manifest = meant.manifest
    return {
        "layers": [layer.model_dump(exclude_unset=True) for layer in manifest.layers],
        **({} if manifest.graph is None else {"graph": manifest.graph.model_dump(exclude_unset=True)}),
        "heads": [head.model_dump(exclude_unset=True) for head in manifest.heads],
        "not_computed": [each.model_dump() for each in manifest.not_computed],
        "notes": list(meant.notes),
    }
