"""What `gatescope inspect` says: everything that is in a checkpoint, and what an import would make of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from gatescope.checkpoints.formats import checkpoint
from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.structure.parts import Parts
from gatescope.errors import AppError


def report(file: Path) -> dict[str, Any]:
    """The contents of a checkpoint, as JSON has it; sizes are under PyTorch's own names.

    Raises:
        CheckpointError: the checkpoint cannot be read.
    """
    read = checkpoint.read(file)
    contents = Contents.of(read.weights)
    return {
        "parameters": sum(value.numel() for value in read.weights.values()),
        "notes": list(read.notes),
        "lstms": [{"path": lstm.path, "kind": lstm.kind, **lstm.spec.arguments} for lstm in contents.lstms],
        "embeddings": [asdict(table) for table in contents.embeddings],
        "linear_layers": [asdict(layer) for layer in contents.linear_layers],
        "others": [asdict(part) for part in contents.others],
        "import": _import(contents),
    }


def _import(contents: Contents) -> dict[str, Any]:
    try:
        parts = Parts.choose(contents, Options())
        meant = infer_manifest.of(parts, Options())
    except AppError as error:
        return {"refused": str(error)}
    return {
        "lstm": [lstm.path for lstm in parts.stack.lstms],
        "embedding": None if parts.embedding is None else parts.embedding.path,
        "head": [layer.path for layer in parts.head],
        "unused": [part.path for part in parts.unused(contents)],
        "notes": [*parts.notes, *meant.notes],
    }
