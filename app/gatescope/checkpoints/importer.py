"""`import_checkpoint`: a checkpoint from a training script -> a model, or a version of one, in the folder of models."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gatescope.checkpoints import card, example, given_sample, sources, toml
from gatescope.checkpoints.existing import stored_sample, under
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.graphs import read_graph, understand_graph
from gatescope.checkpoints.keras.source import KerasSource
from gatescope.checkpoints.sources import Source
from gatescope.checkpoints.staging import hidden, made
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.infer_manifest import EXAMPLE_FILE
from gatescope.checkpoints.structure.inputs import VOCABULARY_FILE
from gatescope.checkpoints.structure.options import DESCRIBING, Options, check
from gatescope.checkpoints.structure.options import given as options_given
from gatescope.checkpoints.understand import Understood, weights_of
from gatescope.errors import InvalidInput, Place, VersionExists
from gatescope.pipeline import graph_files, manifest_file
from gatescope.pipeline import sample as sample_file
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_file import read_manifest
from gatescope.pipeline.manifest_v1 import ManifestV1
from gatescope.pipeline.model import FILE, Model
from gatescope.pipeline.sample import DEFAULT_TOLERANCE, Sample, Verified, verify

__all__ = ["Imported", "Options", "import_checkpoint"]

CARD = "README.md"
OTHER_NAMES = (manifest_file.FILE, CARD, VOCABULARY_FILE, Path(EXAMPLE_FILE).parts[0])
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Imported:
    """A model, or a version of one, that is there now."""

    name: str
    version: str
    folder: Path  # of the model
    notes: tuple[str, ...]  # what was found and guessed, a sentence each
    request: dict[str, Any]  # a complete predict body to try
    predicts: bool  # whether it gives predictions, not its recurrent layers' outputs alone
    verified: Verified | None  # how its predictions were compared with numbers of the training code


class _GraphContent(NamedTuple):
    """A graph's file."""

    kind: str
    content: bytes


_Payload = Mapping[str, Tensor] | _GraphContent
"""What a version's file is made of: weights, or a graph's file."""


@dataclass(frozen=True)
class _Taken:
    """What a new model is made of."""

    meant: Understood
    notes: tuple[str, ...]
    payload: _Payload


def import_checkpoint(  # noqa: PLR0913 - what an import is given
    file: Path,
    models: Path,
    name: str,
    options: Options = Options(),  # noqa: B008 - frozen
    *,
    sample: Path | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    allow_code: bool = False,
    force: bool = False,
) -> Imported:
    """Write a checkpoint as `models/<name>`, or as a new version of the model that is there.

    It is written into a hidden folder, loaded from there and asked, and only then given its name; whatever fails,
    nothing is left behind.

    Args:
        file: the checkpoint, or a folder of a training run.
        models: the folder of models; made if it is not there.
        name: of the model.
        options: what is known. Of a model that is there, the manifest says all but where the parts are.
        sample: inputs, and what the training code computed of them; see `given_sample`.
        tolerance: how far predictions may be from the sample, as a part of its largest expected value.
        allow_code: whether the manifest that is there may name a factory, whose module then takes all weights.
        force: whether to replace what is there: the version that the options name, or else the whole model.

    Raises:
        InvalidInput: a name, an option or the sample cannot be, or does not fit the checkpoint.
        VersionExists: there is this version already.
        ModelError: the checkpoint cannot be read, or does not fit the manifest that is there.
        OSError: a file cannot be read, or the folder cannot be written.
    """
    check(name, options)
    given = None if sample is None else given_sample.read(sample, tolerance)
    source = sources.find(file)
    folder = models / name
    is_model = (folder / manifest_file.FILE).exists()
    if os.path.lexists(folder) and not is_model:
        message = f"'{name}' is in the folder of models already, but is no model: it has no {manifest_file.FILE}"
        raise InvalidInput.at(Place(("name",), message))
    if is_model and not (force and options.version is None):
        return _add(source, folder, options, given, allow_code=allow_code, force=force)
    return _create(source, folder, options, given, force=force)


def _create(
    source: Source | KerasSource, folder: Path, options: Options, given: GivenSample | None, *, force: bool
) -> Imported:
    if options.version in OTHER_NAMES:
        raise InvalidInput.at(Place(("version",), f"'{options.version}' is the name of another part of a model"))
    taken = _taken(source, options, given)
    meant, notes, version = taken.meant, taken.notes, options.version or "1"
    with made(folder.parent), hidden(folder.parent) as staging:
        staged = staging / folder.name
        staged.mkdir()
        _write(staged / manifest_file.FILE, toml.dumps(meant.manifest).encode())
        if meant.entries:
            _write(staged / VOCABULARY_FILE, ("\n".join(meant.entries) + "\n").encode())
        for each in meant.manifest.examples:
            request = example.request(meant.manifest, meant.manifest.read_vocabulary(staged))
            (staged / str(each.file)).parent.mkdir()
            _write(staged / str(each.file), json.dumps(request).encode())
        (staged / version).mkdir()
        with _saved(taken.payload, staged / version):
            model = _proven(staged, version, taken.payload, meant.sample or meant.unchecked, allow_code=False)
        _write(staged / CARD, card.write(model, notes).encode())
        _publish(staged, folder, staging / "replaced" if force else None)
    return _imported(model, version, folder, notes, model.examples[0]["request"])


def _add(
    source: Source | KerasSource,
    folder: Path,
    options: Options,
    given: GivenSample | None,
    *,
    allow_code: bool,
    force: bool,
) -> Imported:
    for field in options_given(options, DESCRIBING):
        message = f"model '{folder.name}' is there already: leave this out, or change its {manifest_file.FILE}"
        raise InvalidInput.at(Place((field,), message))
    stated = read_manifest(folder)
    version = options.version or _next_version(folder)
    if os.path.lexists(folder / version) and not force:
        raise _exists(folder, version)
    payload, notes = _further(source, stated, options)
    with hidden(folder) as staging:
        staged = staging / version
        staged.mkdir()
        with _saved(payload, staged):
            model = _proven(folder, str(staged.relative_to(folder)), payload, given, allow_code=allow_code)
        _publish(staged, folder / version, staging / "replaced" if force else None)
    added = f"Added as version {version} of '{folder.name}', under its manifest."
    request = model.examples[0]["request"] if model.examples else example.request(model.manifest, model.vocabulary)
    return _imported(model, version, folder, (*notes, added), request)


def _taken(source: Source | KerasSource, options: Options, given: GivenSample | None) -> _Taken:
    """What a new model is made of."""
    if source.graph is not None:
        graph = read_graph(source.graph, source.path)
        meant = understand_graph(graph, options, given)
        return _Taken(
            meant, (*source.notes, *graph.notes, *meant.notes), _GraphContent(source.graph, graph.file.content)
        )
    read = source.read()
    contents = Contents.of(read.weights)
    meant = source.understood(contents, read, options, given)
    return _Taken(meant, (*read.notes, *meant.notes), weights_of(meant.manifest, contents, read.weights))


def _further(
    source: Source | KerasSource, stated: Manifest | ManifestV1, options: Options
) -> tuple[_Payload, tuple[str, ...]]:
    """What a further version of a model is made of, and what is to note."""
    wanted = stated.graph.format if isinstance(stated, Manifest) and stated.graph is not None else None
    if wanted != source.graph:
        has, given = ("weights of layers" if kind is None else f"a graph ({kind})" for kind in (wanted, source.graph))
        raise InvalidInput.at(Place(("name",), f"the model that is there is made of {has}, but the file holds {given}"))
    if source.graph is not None:
        return _GraphContent(source.graph, read_graph(source.graph, source.path).file.content), source.notes
    source.check(stated, options)
    read = source.read()
    weights, notes = under(stated, read, options)
    return weights, (*read.notes, *notes)


def _imported(model: Model, version: str, folder: Path, notes: tuple[str, ...], request: dict[str, Any]) -> Imported:
    return Imported(folder.name, version, folder, notes, request, model.pipeline.head is not None, model.verified)


def _proven(
    folder: Path,
    version: str,
    payload: _Payload,
    sample: dict[str, Any] | GivenSample | None,
    *,
    allow_code: bool,
) -> Model:
    """The model with what is saved, asked once; with a sample, its predictions are that one's.

    Raises:
        InvalidInput: it answers not what the sample expects.
        WeightsError: it answers NaN or Infinity.
    """
    weights = None
    if not isinstance(payload, _GraphContent):  # a graph is read from its file
        weights = {name: value.float() if value.is_floating_point() else value for name, value in payload.items()}
    model = Model.load(folder, version, _CPU, allow_code=allow_code, weights=weights)
    if sample is None:
        example.prove(model, example.request(model.manifest, model.vocabulary))
        return model
    stored = stored_sample(model, sample) if isinstance(sample, GivenSample) else sample
    taken = Sample.model_validate(stored)
    at_any_distance = taken.model_copy(update={"tolerance": math.inf})  # how far off it is, is told here
    found = replace(verify(at_any_distance, model.pipeline, model.vocabulary), tolerance=taken.tolerance)
    if found.max_error > taken.tolerance:
        message = (
            f"the model's predictions are off by {found.max_error:.2g} of the largest value that it expects; "
            f"{taken.tolerance:g} is allowed"
        )
        raise InvalidInput.at(Place(("sample",), message))
    taken = taken.model_copy(update={"max_error": found.max_error})
    _write(folder / version / sample_file.FILE, taken.model_dump_json(indent=1).encode())
    return replace(model, verified=found, examples=[*model.examples, taken.example])


@contextmanager
def _saved(payload: _Payload, version: Path) -> Iterator[None]:
    """Write weights on another thread meanwhile, or a graph at once; at the end they are on the disk."""
    if isinstance(payload, _GraphContent):
        _write(version / graph_files.NAMES[payload.kind], payload.content)
        yield
        return
    with ThreadPoolExecutor(max_workers=1) as thread:
        saving = thread.submit(_save, payload, version / FILE)
        yield
        saving.result()


def _save(weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file(dict(weights), path)
    except SafetensorError as error:  # as a full disk is told
        raise OSError(f"{path.name} cannot be written: {error}") from error
    path.chmod(0o644)  # save_file writes for its owner alone, but a container serves as another user
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(staged: Path, target: Path, replaced: Path | None) -> None:
    """Give what is complete its name; what has it already is moved aside first, or refused."""
    if replaced is not None and os.path.lexists(target):
        target.rename(replaced)
    try:
        staged.rename(target)
    except OSError as error:
        if replaced is not None and os.path.lexists(replaced):
            replaced.rename(target)
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise VersionExists(f"'{target.parent.name}/{target.name}' is there already") from None


def _exists(folder: Path, version: str) -> VersionExists:
    return VersionExists(f"model '{folder.name}' has a version '{version}' already: take another, or none for the next")


def _next_version(folder: Path) -> str:
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal() and len(path.name) < 18]  # noqa: PLR2004
    return str(max(numbers, default=0) + 1)
