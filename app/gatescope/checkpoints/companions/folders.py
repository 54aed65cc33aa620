"""`find`: the weights that a path means, and what Lightning and Hugging Face files beside them say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatescope.checkpoints.companions import plain
from gatescope.checkpoints.companions.hints import Hints, names_of, read_hints
from gatescope.checkpoints.companions.plain import Unreadable, listed
from gatescope.checkpoints.companions.vocabulary import find_labels, find_vocabulary, read_vocabulary
from gatescope.checkpoints.formats.shards import INDEX_SUFFIX, PART
from gatescope.errors import InvalidInput, Place

HPARAMS = "hparams.yaml"
CONFIG = "config.json"
HUGGING_FACE = (
    *("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""A folder's weights, the first that is there."""

VOCABULARIES = ("vocab.txt", "vocab.json", "tokenizer.json")
TOKENIZER = "tokenizer_config.json"
SUFFIXES = (".ckpt", ".pt", ".pth", ".safetensors", ".bin", ".pth.tar", ".onnx", ".pt2", ".keras", ".h5")
_NOT_WEIGHTS = re.compile(r"(?:optimizer|scheduler|training_args|rng_state|scaler)\b.*|optimizer_state.*")
_TASKS = {
    "single_label_classification": "classification",
    "multi_label_classification": "multi_label",
    "regression": "regression",
}
_MOST_FILES = 10_000


@dataclass(frozen=True)
class Found:
    """The file of weights, and what is said about the model beside it."""

    weights: Path
    hints: Hints
    notes: tuple[str, ...]


def find(path: Path) -> Found:
    """The weights that a file or a folder means, with the hints that stand beside them.

    A folder is Lightning's (`hparams.yaml`, `checkpoints/`), one of its `lightning_logs`, Hugging Face's (`config.json`
    beside `model.safetensors`, its index or `pytorch_model.bin`), or has one checkpoint. Of several checkpoints, the
    one that is called best is taken, else the one called last. Nothing is read but plain data.

    Raises:
        InvalidInput: the folder has no checkpoint or several; the files are named.
    """
    try:
        weights, notes = _weights(path) if path.is_dir() else (path, [])
        said, more = _beside(weights)
    except Unreadable as error:
        raise InvalidInput.at(Place(("checkpoint",), f"{path.name or path}: {error}")) from None
    return Found(weights, said, (*notes, *more))


def _weights(folder: Path) -> tuple[Path, list[str]]:
    for name in HUGGING_FACE:
        if (folder / name).is_file():
            return folder / name, []
    indexes = [path for path in _listing(folder) if path.name.endswith(INDEX_SUFFIX)]
    if len(indexes) == 1:
        return indexes[0], []
    versions = _versions(folder)
    if versions:
        return _weights(versions)
    for place in (folder, folder / "checkpoints"):
        found = _checkpoints(place)
        if found:
            return _one_of(found)
    raise Unreadable(f"has no checkpoint ({', '.join(SUFFIXES)}): give the file")


def _versions(folder: Path) -> Path | None:
    """The one run of `lightning_logs`, which has a folder for each."""
    logs = folder / "lightning_logs"
    within = logs if logs.is_dir() else folder
    runs = [each for each in _listing(within) if re.fullmatch(r"version_\d{1,9}", each.name) and each.is_dir()]
    having = [run for run in runs if _checkpoints(run / "checkpoints") or _checkpoints(run)]
    if len(having) > 1:
        raise Unreadable(f"has several runs with checkpoints, {listed(sorted(run.name for run in having))}: give one")
    return having[0] if having else None


def _one_of(found: list[Path]) -> tuple[Path, list[str]]:
    shards = [path for path in found if PART.search(path.name)]
    if shards:
        raise Unreadable(
            f"has parts of a checkpoint ({listed(path.name for path in shards)}) without their index: add it"
        )
    if len(found) == 1:
        return found[0], []
    for word in ("best", "last"):
        named = [path for path in found if re.search(rf"(?<![a-z]){word}", path.name.lower())]
        if len(named) == 1:
            others = listed(sorted(path.name for path in found if path != named[0]))
            return named[0], [f"Weights: {named[0].name}, the one called {word}; also there: {others}."]
    names = listed(sorted(path.name for path in found))
    raise Unreadable(f"has several checkpoints, {names}, and none or several are called best or last: give one")


def _checkpoints(folder: Path) -> list[Path]:
    def is_checkpoint(path: Path) -> bool:
        return path.name.lower().endswith(SUFFIXES) and not _NOT_WEIGHTS.fullmatch(path.name.lower())

    return [path for path in _listing(folder) if is_checkpoint(path) and path.is_file()]


def _listing(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found: list[Path] = []
    try:
        for path in folder.iterdir():
            found.append(path)
            if len(found) > _MOST_FILES:
                raise Unreadable(f"has more than {_MOST_FILES:,} files: give the file of weights")
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None
    return found


def _beside(weights: Path) -> tuple[Hints, list[str]]:
    """What the files beside the weights say."""
    notes: list[str] = []
    hints = Hints()
    for folder in (weights.parent, weights.parent.parent):
        if (folder / HPARAMS).is_file():
            hints = _of_lightning(folder / HPARAMS, notes)
            break
    if (weights.parent / CONFIG).is_file():
        hints = _of_hugging_face(weights.parent, notes).over(hints)
    return hints, notes


def _of_lightning(path: Path, notes: list[str]) -> Hints:
    data = _read(path, notes)
    if not isinstance(data, Mapping):
        return Hints()
    notes.append(f"Hyperparameters: read from {path.name}.")
    return _hints(data, notes)


def _hints(data: Mapping[Any, Any], notes: list[str]) -> Hints:
    hints, odd = read_hints(data)
    notes += odd
    vocabulary = find_vocabulary(data, hints.vocabulary_size)
    labels = None if hints.output_size is None else find_labels(data, hints.output_size)
    notes += vocabulary.notes + (() if labels is None else labels.notes)
    more = Hints(vocabulary=vocabulary.entries or (), labels=(labels.entries if labels else None) or ())
    return hints.over(more)


def _of_hugging_face(folder: Path, notes: list[str]) -> Hints:
    config = _read(folder / CONFIG, notes)
    if not isinstance(config, Mapping):
        return Hints()
    notes.append(f"Configuration: read from {CONFIG}.")
    hints, odd = read_hints(config)
    notes += odd
    labels = _labels(config, notes)
    found = Hints(labels=labels, task=_task(config), vocabulary=_vocabulary(folder, hints.vocabulary_size, notes))
    lowercase = _read(folder / TOKENIZER, notes) if (folder / TOKENIZER).is_file() else None
    tokenizer = read_hints(lowercase)[0] if isinstance(lowercase, Mapping) else Hints()
    return found.over(hints).over(Hints(lowercase=tokenizer.lowercase))


def _labels(config: Mapping[Any, Any], notes: list[str]) -> tuple[str, ...]:
    for key in ("id2label", "label2id"):
        stated = config.get(key)
        if isinstance(stated, (Mapping, list)) and stated:
            found = find_labels({key: stated}, len(stated))
            if found.entries is not None and names_of(found.entries) is not None:
                return found.entries
            notes.append(f"Labels: {CONFIG}'s {key} does not number them from 0; it is not used (--labels a,b,…).")
    return ()


def _task(config: Mapping[Any, Any]) -> str | None:
    stated = config.get("problem_type")
    if isinstance(stated, str) and stated in _TASKS:
        return _TASKS[stated]
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if any(isinstance(name, str) and name.endswith("ForTokenClassification") for name in names):
        return "tagging"
    return None


def _vocabulary(folder: Path, size: int | None, notes: list[str]) -> tuple[str, ...]:
    """Of the first file that has one; a tokenizer of parts of words has none that text could be split into."""
    for name in VOCABULARIES:
        if not (folder / name).is_file():
            continue
        try:
            found = read_vocabulary(folder / name)
        except InvalidInput as error:
            notes.append(f"Vocabulary: not used; {error.places[0].message}.")
            continue
        if size is not None and len(found.entries) > size:
            notes.append(
                f"Vocabulary: {name} is not used; it has {len(found.entries)} entries, and {CONFIG} says {size}."
            )
            continue
        notes += [f"Vocabulary: read from {name}.", *found.notes]
        return found.entries
    return ()


def _read(path: Path, notes: list[str]) -> Any:
    """The plain data of a file that only helps; where it cannot be read, a note says so."""
    try:
        return plain.load(path)
    except Unreadable as error:
        notes.append(f"{path.name} is not used: it {error}.")
        return None
