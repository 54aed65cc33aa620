"""`opened_model`: a `.keras` or `.h5` file -> the model's configuration, and where the weights of its layers are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gatescope import zip_file
from gatescope.checkpoints.formats.checkpoint import MOST_BYTES
from gatescope.checkpoints.keras import hdf5
from gatescope.checkpoints.keras.configuration import parsed
from gatescope.checkpoints.keras.hdf5 import Hdf5
from gatescope.errors import CheckpointError
from gatescope.names import listed, printable, quoted
from gatescope.pipeline.finite import is_finite
from gatescope.source import Source, opened
from gatescope.zip_file import StoredZip

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
RESAVE = 'save the whole model again: model.save("model.keras")'
MOST_CONFIG_BYTES = 16 * 2**20

FLOATS = (np.float16, np.float32, np.float64)


class Variable(NamedTuple):
    """One variable of a layer."""

    top: str  # the layer of the model that it belongs to, by name
    place: str  # where a `.keras` file has the variables of the layer: "layers/lstm/cell"
    role: str  # "kernel", "bias", …
    trainable: bool


class Stored(Protocol):
    """The weights of a file."""

    @property
    def held(self) -> Hdf5:
        """All that the file has, whether or not a layer uses it."""

    def find(self, variables: Sequence[Variable]) -> list[np.ndarray]:
        """The array of each variable; raises `CheckpointError` where one is missing, or there are more."""


@dataclass(frozen=True)
class SavedModel:
    """What a file holds."""

    config: Mapping[str, Any]
    """`class_name` and `config` of the model."""
    major: int
    """Keras 2 or 3."""
    stored: Stored
    notes: tuple[str, ...]


def is_keras(path: Path) -> bool:
    """Whether a file looks like one that Keras wrote; what cannot be read is none."""
    try:
        with opened(path, MOST_BYTES) as source:
            begins = source.at(0, len(hdf5.BEGINS))
            if not begins.startswith(zip_file.BEGINS):
                return begins == hdf5.BEGINS
            return CONFIG in {member.filename for member in StoredZip(source).all}
    except CheckpointError:
        return False


def read_model(path: Path) -> SavedModel:
    """The model in a file; the content says which of the two kinds it is.

    Raises:
        CheckpointError: it is damaged, holds no whole model, or was saved in a way that is not read.
    """
    try:
        with opened(path, MOST_BYTES) as source:
            is_zip = source.at(0, len(zip_file.BEGINS)) == zip_file.BEGINS
            return _from_zip(source) if is_zip else _from_hdf5(source)
    except CheckpointError as error:
        raise CheckpointError(f"{printable(path.name or str(path))}: {error}") from None


def _from_zip(source: Source) -> SavedModel:
    stored = StoredZip(source)
    named = {member.filename: member for member in stored.all}
    if len({name.lower() for name in named}) != len(stored.all):
        raise CheckpointError(f"its zip directory names something twice; {RESAVE}")
    stored.check_stored("Keras", RESAVE)
    if WEIGHTS not in named:
        others = listed([name for name in named if name not in (CONFIG, METADATA)])
        raise CheckpointError(f"it has no {WEIGHTS}, only {others or 'a configuration'}; {RESAVE}")
    texts = {}
    for name in (CONFIG, METADATA):
        if name not in named or named[name].file_size > MOST_CONFIG_BYTES:
            raise CheckpointError(f"its {name} is missing or too long; {RESAVE}")
        texts[name] = parsed(stored.content(named[name]), name)
    version, major = _version(texts[METADATA].get("keras_version"))
    if major < 3:  # noqa: PLR2004 - the first whose places of weights are known
        raise CheckpointError(
            f"it was saved as .keras by Keras {version}, which places weights in another way than Keras 3: save it as "
            '.h5, model.save("model.h5"), or load and save it with Keras 3'
        )
    weights = named[WEIGHTS]
    held = hdf5.read(source, stored.start(weights), weights.file_size)
    return SavedModel(texts[CONFIG], major, _ByPlace(held), (f"A model of Keras {version}, saved as .keras.",))


def _from_hdf5(source: Source) -> SavedModel:
    held = hdf5.read(source)
    top = held.texts.get("", {})
    if "model_config" not in top:
        raise CheckpointError(f"it holds weights alone, and not the model that they belong to; {RESAVE}")
    stated = top["model_config"]
    weights = held.texts.get("model_weights", {})
    version, major = _version(top.get("keras_version", weights.get("keras_version")))
    config = parsed(stated if isinstance(stated, str) else "", "model_config")
    return SavedModel(config, major, _ByName(held), (f"A model of Keras {version}, saved as .h5.",))


def _version(stated: Any) -> tuple[str, int]:
    major = stated.partition(".")[0] if isinstance(stated, str) else ""
    if major not in ("2", "3"):
        shown = quoted(stated) if isinstance(stated, str) else "nothing"
        raise CheckpointError(f"it says {shown} of the version of Keras that saved it; 2 and 3 are read")
    return printable(stated), int(major)


@dataclass(frozen=True)
class _ByPlace:
    """The weights of a `.keras` file, under the classes of the layers, which are numbered."""

    held: Hdf5

    def find(self, variables: Sequence[Variable]) -> list[np.ndarray]:
        counts: dict[str, int] = {}
        names = []
        for variable in variables:
            number = counts.setdefault(variable.place, 0)
            names.append(f"{variable.place}/vars/{number}")
            counts[variable.place] += 1
        seeds = {name for name in self.held.arrays if "/seed_generator/" in name}  # of dropout
        _compare(names, set(self.held.arrays) - seeds)
        return [self.held.arrays[name] for name in names]


@dataclass(frozen=True)
class _ByName:
    """The weights of a `.h5` file, under the names of the layers, each layer's in the order of a list."""

    held: Hdf5

    def find(self, variables: Sequence[Variable]) -> list[np.ndarray]:
        of_layer: dict[str, list[Variable]] = {}
        for variable in variables:
            of_layer.setdefault(variable.top, []).append(variable)
        places = {each: name for own in of_layer.values() for each, name in self._named(own)}
        _compare(list(places.values()), set(self.held.arrays))
        return [self.held.arrays[places[variable]] for variable in variables]

    def _named(self, variables: Sequence[Variable]) -> Iterable[tuple[Variable, str]]:
        """The variables of one layer, those that are not trained last, with their places."""
        group = f"model_weights/{variables[0].top}"
        ordered = sorted(variables, key=lambda variable: not variable.trainable)
        names = self.held.names(group, "weight_names")
        roles = [name.rpartition("/")[2].partition(":")[0] for name in names]
        if roles != [variable.role for variable in ordered]:
            wanted = ", ".join(variable.role for variable in ordered)
            raise CheckpointError(
                f"the file has {listed(roles) or 'nothing'} of its layer {quoted(variables[0].top)}, but the "
                f"configuration says {wanted}: it is damaged; {RESAVE}"
            )
        return zip(ordered, [f"{group}/{name}" for name in names], strict=True)


def _compare(expected: Sequence[str], stored: set[str]) -> None:
    if missing := sorted(set(expected) - stored):
        raise CheckpointError(f"it lacks the weights {listed(missing)}, which its configuration has; {RESAVE}")
    if surplus := sorted(stored - set(expected)):
        raise CheckpointError(f"it holds the weights {listed(surplus)}, which no layer of its configuration has")


def tensor(values: np.ndarray, layer: str, role: str, *shape: int | None) -> Tensor:
    """An array as a tensor of this shape; None of an axis that may have any length.

    Raises:
        CheckpointError: it has another shape, or holds what is no weight.
    """
    fits = values.ndim == len(shape) and all(
        wanted is None or wanted == size for wanted, size in zip(shape, values.shape, strict=True)
    )
    if not fits or not values.size:
        wanted = " × ".join("any" if each is None else str(each) for each in shape)
        message = f"the {role} of its layer {quoted(layer)} has shape {list(values.shape)}, not {wanted}"
        raise CheckpointError(f"{message}: the weights are not those of the configuration; {RESAVE}")
    if values.dtype not in FLOATS:
        raise CheckpointError(f"the {role} of its layer {quoted(layer)} holds {values.dtype}, which is not served")
    made = torch.from_numpy(values.astype(np.float32))
    if not is_finite(made):
        raise CheckpointError(f"the {role} of its layer {quoted(layer)} holds NaN or Infinity: training diverged")
    return made
