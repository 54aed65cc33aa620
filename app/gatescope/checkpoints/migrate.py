"""`migrate`: a manifest of format 1 becomes one of format 2, if every version then predicts the same, bit for bit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gatescope import padding
from gatescope.checkpoints import toml
from gatescope.checkpoints.staging import hidden
from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_file import FILE, read_manifest
from gatescope.pipeline.manifest_v1 import ManifestV1
from gatescope.pipeline.model import Model, versions_in
from gatescope.pipeline.query import Answer, Query

OLD = "model.toml.v1"
"""What the manifest of format 1 is called afterwards."""

_CPU = torch.device("cpu")
_LENGTHS = (7, 1, 4)  # of the random sequences that predictions are compared of


def migrate(folder: Path, *, allow_code: bool = False) -> list[str] | None:
    """Rewrite a model's manifest in format 2. The file appears whole or not at all; the old one is kept beside it.

    Args:
        folder: of the model.
        allow_code: whether the manifest may name a factory, that is, have code run.

    Returns:
        The versions that were compared; None of a manifest that is of format 2 already.

    Raises:
        ModelError: a version cannot be loaded, or predicts something else with the new manifest.
        OSError: the folder cannot be read or written.
    """
    stated = read_manifest(folder)
    if not isinstance(stated, ManifestV1):
        return None
    before = (folder / FILE).read_bytes()
    versions = versions_in(folder)
    if not versions:
        raise WeightsError(f"{folder.name} has no weights, which say what its layers are")
    models = [Model.load(folder, version, _CPU, allow_code=allow_code) for version in versions]
    _check_layers(models)
    with hidden(folder.parent) as staging:
        staged = staging / folder.name
        staged.mkdir()
        _write(staged / FILE, toml.dumps(models[0].manifest, "migrate").encode())
        shutil.copymode(folder / FILE, staged / FILE)
        manifest = read_manifest(staged)
        for model in models:
            again = Model.load(folder, model.version, _CPU, allow_code=allow_code, manifest=manifest)
            _compare(model, again)
        _keep(folder, before, staged)
        (staged / FILE).replace(folder / FILE)
    return versions


def _check_layers(models: list[Model]) -> None:
    """One manifest is of all versions."""
    first = models[0]
    for model in models[1:]:
        if model.manifest != first.manifest:
            raise ManifestError(
                f"version '{model.version}' of {model.name} has other layers ({_names(model.manifest)}) than version "
                f"'{first.version}' ({_names(first.manifest)}), and a manifest of format 2 lists those of all: move "
                "one of the two to a model of its own"
            )


def _names(manifest: Manifest) -> str:
    return ", ".join(f"{layer.name}: {layer.type}" for layer in manifest.layers)


def _compare(before: Model, after: Model) -> None:
    """Raise `ManifestError` unless both answer random inputs with the same bits."""
    for query in _queries(before):
        pairs = zip(_bits(before.pipeline.answer(query)), _bits(after.pipeline.answer(query)), strict=True)
        if any(one != other for one, other in pairs):
            raise ManifestError(
                f"version '{before.version}' of {before.name} predicts something else with the new manifest"
            )


def _bits(answer: Answer) -> Iterator[bytes]:
    """What an answer holds."""
    predictions = [answer.prediction, *(answer.heads or {}).values()]
    for prediction in predictions:
        if prediction is not None:
            yield from (_bytes(value) for value in (prediction.values, prediction.choices) if value is not None)
    yield from (_bytes(value) for value in (answer.output, *(answer.final_state or ())) if value is not None)


def _bytes(value: Tensor) -> bytes:
    return value.contiguous().numpy().tobytes()


def _queries(model: Model) -> Iterator[Query]:
    """A ragged batch, and one of the steps that a custom module is tried with."""
    random = torch.Generator().manual_seed(0)
    steps = model.manifest.trial_steps
    for lengths in ((steps, steps),) if model.manifest.factory else (_LENGTHS, (5, 5)):
        rows = [_sequence(model, length, random) for length in lengths]
        inputs, longest = padding.pad(rows)
        yield Query(inputs, longest, output=True, final_state=True)


def _sequence(model: Model, steps: int, random: torch.Generator) -> Tensor:
    """(time, feature) raw values, or (time,) ids."""
    inputs = model.manifest.input
    if isinstance(inputs, FeatureInputs):
        return torch.stack([_column(feature, steps, random) for feature in inputs.features], dim=1)
    return torch.randint(model.pipeline.vocabulary_size or 1, (steps,), generator=random)


def _column(feature: Feature, steps: int, random: torch.Generator) -> Tensor:
    if feature.categories:
        drawn = torch.randint(len(feature.categories), (steps,), generator=random)
        return torch.tensor(feature.categories, dtype=torch.float64)[drawn]
    normal = torch.randn(steps, generator=random, dtype=torch.float64)
    return feature.mean + feature.std * normal if feature.period is None else feature.period * normal


def _keep(folder: Path, before: bytes, staged: Path) -> None:
    """Put the old manifest beside the new one, unless somebody has changed it meanwhile."""
    if (folder / FILE).read_bytes() != before:
        raise ManifestError(f"{folder.name}/{FILE} was changed while it was looked at: migrate it again")
    kept = folder / OLD
    if kept.exists() and kept.read_bytes() != before:
        raise ManifestError(f"{folder.name}/{OLD} is there already, and is another manifest: move it away first")
    _write(staged / OLD, before)
    shutil.copymode(folder / FILE, staged / OLD)
    (staged / OLD).replace(kept)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
