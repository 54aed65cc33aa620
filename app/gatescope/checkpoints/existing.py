"""A checkpoint under the manifest of a model that is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.structure.arrange import Arrangement, Arranger, refuse
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.kinds import Embedding, FoundRecurrent, Linear, Part
from gatescope.checkpoints.structure.notation import type_of
from gatescope.checkpoints.structure.options import Options
from gatescope.checkpoints.structure.questions import Asked, questions, sequences_of
from gatescope.checkpoints.understand import weights_of
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_v1 import ManifestV1
from gatescope.pipeline.model import Model

_WEIGHTED = frozenset(
    {"embedding", "linear", "conv1d", "crf", "batch_norm", "layer_norm", "rms_norm", "prelu", "lstm", "gru", "rnn"}
)


def under(
    stated: Manifest | ManifestV1, read: Checkpoint, options: Options
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights that a manifest's model is made of, under its names, and what is to note.

    Where the checkpoint has other names, its layers are taken in their order, type by type.

    Raises:
        InvalidInput: the layers of the two are not the same.
        WeightsError: there is no recurrent layer.
    """
    if stated.factory is not None:
        return read.weights, ()
    contents = Contents.of(read.weights)
    if isinstance(stated, Manifest) and not any((options.prefix, options.head, options.embedding)):
        own = weights_of(stated, contents, read.weights)
        if all(_prefix(layer) in _prefixes(own) for layer in stated.layers if layer.type in _WEIGHTED):
            return own, ()
    parts = _served(Arranger(contents, options).arrangements()[0], stated)
    return _renamed(parts, stated, read.weights)


def stored_sample(model: Model, given: GivenSample) -> dict[str, Any]:
    """The sample as a model's own request and reply have it, batch first.

    Raises:
        InvalidInput: its inputs are not those of the model.
    """
    size = None if model.vocabulary is None else len(model.vocabulary)
    asked = Asked(size, model.vocabulary, sample=given)
    question = questions(asked)[0]
    request: dict[str, Any] = {"text": list(given.texts)} if given.texts is not None else {}
    rows = sequences_of(asked, given, time_first=False) or []
    if given.texts is None:
        _check_width(model, rows)
        request["inputs"] = [each.tolist() for each in rows]
    if given.static is not None:
        request["static_inputs"] = given.static.tolist()
    if given.state is not None:
        request["initial_state"] = {name: value.tolist() for name, value in given.state.items()}
    shape = model.pipeline.prediction_shape(1)
    width = model.spec.output_size if shape is None else shape[-1]
    per_step = shape is None or len(shape) > 1
    expected = question.rows(width, per_step=per_step)
    if expected is None:
        given_shape = np.shape(given.expected) if isinstance(given.expected, np.ndarray) else len(given.expected)
        refuse("sample", f"its expected values have shape {given_shape}, but the model predicts {width} values")
    return {"request": request, "expected": [each.tolist() for each in expected], "tolerance": given.tolerance}


def _check_width(model: Model, rows: Sequence[np.ndarray]) -> None:
    if isinstance(model.manifest.input, FeatureInputs):
        names = model.manifest.input.names
        if surplus := {row.shape[1] for row in rows} - {len(names)}:
            refuse("sample", f"its inputs have {min(surplus)} features a time step, but the model takes {len(names)}")


def _served(found: Arrangement, stated: Manifest | ManifestV1) -> list[Part]:
    """The parts of the checkpoint that the manifest has layers for."""
    parts: list[Part] = [*found.before, *found.recurrent, *found.behind]
    if found.embedding is not None:
        parts.insert(0, found.embedding)
    if isinstance(stated, ManifestV1):
        has_tokens = stated.input.kind == "tokens"
        if stated.head is None:
            parts = [part for part in parts if part not in found.behind]
        elif not found.behind:
            refuse("head", "the manifest has a [head], but no layer of the checkpoint stands behind its LSTM")
        return [part for part in parts if has_tokens or not isinstance(part, Embedding)]
    return parts


def _renamed(
    parts: Sequence[Part], stated: Manifest | ManifestV1, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    targets = _targets(stated, parts)
    kinds = [type_of(part) or "" for part in parts]
    if kinds != [kind for kind, _ in targets]:
        refuse(
            "prefix",
            f"the manifest has the layers {', '.join(kind for kind, _ in targets)}, but the checkpoint has "
            f"{', '.join(kinds)}",
        )
    renamed: dict[str, Tensor] = {}
    for part, (_, prefix) in zip(parts, targets, strict=True):
        own = part.names if isinstance(part, FoundRecurrent) else _own(part, weights)
        renamed |= {f"{prefix}.{name}" if prefix else name: weights[full] for name, full in own.items()}
    taken = ", ".join(f"{part.path or '(top)'} as {prefix}" for part, (_, prefix) in zip(parts, targets, strict=True))
    return renamed, (f"Layers: {taken}.",)


def _targets(stated: Manifest | ManifestV1, parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Type and prefix of each layer with weights."""
    if isinstance(stated, Manifest):
        return [(layer.type, _prefix(layer)) for layer in stated.layers if layer.type in _WEIGHTED]
    head = [part for part in parts if isinstance(part, Linear)]
    targets = [("embedding", "embedding")] if any(isinstance(part, Embedding) for part in parts) else []
    return [*targets, ("lstm", "lstm"), *(("linear", f"head.{2 * index}") for index in range(len(head)))]


def _own(part: Part, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Own name of each weight of a part -> its name in the checkpoint."""
    start = f"{part.path}." if part.path else ""
    own = {name.removeprefix(start): name for name in weights if name.startswith(start)}
    return {short: name for short, name in own.items() if "." not in short}


def _prefix(layer: Any) -> str:
    return str(layer.name if layer.weights is None else layer.weights)


def _prefixes(weights: Mapping[str, Tensor]) -> set[str]:
    return {name.rpartition(".")[0] for name in weights}
