"""`import_checkpoint`: a checkpoint from a training script -> a model, or a version of one, in the folder of models."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from gatescope.checkpoints import card, example, toml
from gatescope.checkpoints.formats import checkpoint
from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.staging import hidden, made
from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.options import DESCRIBING, NONE, Options, check, given
from gatescope.checkpoints.structure.parts import Parts
from gatescope.errors import InvalidInput, Place, VersionExists
from gatescope.pipeline import manifest as manifests
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.model import FILE, Model

__all__ = ["Imported", "Options", "import_checkpoint"]

CARD = "README.md"
OTHER_NAMES = (manifests.FILE, CARD, infer_manifest.VOCABULARY_FILE, Path(infer_manifest.EXAMPLE_FILE).parts[0])
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Imported:
    """A model, or a version of one, that is there now."""

    name: str
    version: str
    folder: Path  # of the model
    notes: tuple[str, ...]  # what was found and guessed, a sentence each
    request: dict[str, Any]  # a complete predict body to try


def import_checkpoint(
    file: Path,
    models: Path,
    name: str,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    allow_code: bool = False,
) -> Imported:
    """Write a checkpoint as `models/<name>`, or as a new version of the model that is there.

    It is written into a hidden folder, loaded from there and asked, and only then given its name; whatever fails,
    nothing is left behind.

    Args:
        file: the checkpoint, as `checkpoint.read` takes it.
        models: the folder of models; made if it is not there.
        name: of the model.
        options: what is known. Of a model that is there, the manifest says all but where the parts are.
        allow_code: whether the manifest that is there may name a factory, whose module then takes all weights.

    Raises:
        InvalidInput: a name or an option cannot be, or does not fit the checkpoint.
        VersionExists: there is this version already.
        ModelError: the checkpoint cannot be read, or does not fit the manifest that is there.
        OSError: the folder cannot be written.
    """
    check(name, options)
    folder = models / name
    if (folder / manifests.FILE).exists():
        return _add(file, folder, options, allow_code=allow_code)
    if os.path.lexists(folder):
        message = f"'{name}' is in the folder of models already, but is no model: it has no {manifests.FILE}"
        raise InvalidInput.at(Place(("name",), message))
    return _create(file, folder, options)


def _create(file: Path, folder: Path, options: Options) -> Imported:
    if options.version in OTHER_NAMES:
        raise InvalidInput.at(Place(("version",), f"'{options.version}' is the name of another part of a model"))
    read = checkpoint.read(file)
    parts = Parts.choose(Contents.of(read.weights), options)
    meant = infer_manifest.of(parts, options)
    version, notes = options.version or "1", (*read.notes, *parts.notes, *meant.notes)
    with made(folder.parent), hidden(folder.parent) as staging:
        staged = staging / folder.name
        staged.mkdir()
        _write(staged / manifests.FILE, toml.dumps(meant.manifest).encode())
        if options.vocabulary:
            _write(staged / infer_manifest.VOCABULARY_FILE, ("\n".join(options.vocabulary) + "\n").encode())
        request = example.request(meant.manifest, meant.manifest.read_vocabulary(staged))
        (staged / infer_manifest.EXAMPLE_FILE).parent.mkdir()
        _write(staged / infer_manifest.EXAMPLE_FILE, json.dumps(request).encode())
        (staged / version).mkdir()
        _save(parts.weights(read.weights), staged / version)
        model = Model.load(staged, version, _CPU)
        example.prove(model, request)
        _write(staged / CARD, card.write(model, notes).encode())
        _publish(staged, folder)
    return Imported(folder.name, version, folder, notes, request)


def _add(file: Path, folder: Path, options: Options, *, allow_code: bool) -> Imported:
    for field in given(options, DESCRIBING):
        message = f"model '{folder.name}' is there already: leave this out, or change its {manifests.FILE}"
        raise InvalidInput.at(Place((field,), message))
    manifest = Manifest.read(folder)
    version = options.version or _next_version(folder)
    if os.path.lexists(folder / version):
        raise _exists(folder, version)
    read = checkpoint.read(file)
    weights, notes = _under(manifest, read, options)
    request = example.request(manifest, manifest.read_vocabulary(folder))
    with hidden(folder) as staged:
        _save(weights, staged)
        example.prove(Model.load(folder, staged.name, _CPU, allow_code=allow_code), request)
        _publish(staged, folder / version)
    added = f"Added as version {version} of '{folder.name}', under its manifest."
    return Imported(folder.name, version, folder, (*read.notes, *notes, added), request)


def _under(manifest: Manifest, read: Checkpoint, options: Options) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights that a manifest's model is made of, and what was guessed."""
    if manifest.factory is not None:
        return read.weights, ()
    if manifest.head is None:
        options = replace(options, head=(NONE,))
    if isinstance(manifest.input, FeatureInputs):
        options = replace(options, embedding=NONE)
    parts = Parts.choose(Contents.of(read.weights), options)
    if manifest.head is not None and not parts.head:
        raise InvalidInput.at(Place(("head",), f"the manifest has a [head], but {parts.headless}"))
    return parts.weights(read.weights), parts.notes


def _save(weights: Mapping[str, Tensor], version: Path) -> None:
    _write(version / FILE, save(dict(weights)))


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(staged: Path, target: Path) -> None:
    """Give what is complete its name, unless something else has got it meanwhile."""
    try:
        staged.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise VersionExists(f"'{target.parent.name}/{target.name}' is there already") from None


def _exists(folder: Path, version: str) -> VersionExists:
    return VersionExists(f"model '{folder.name}' has a version '{version}' already: take another, or none for the next")


def _next_version(folder: Path) -> str:
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal() and len(path.name) < 18]  # noqa: PLR2004
    return str(max(numbers, default=0) + 1)
