"""`read_run`: the folder of a neuralhydrology run -> its weights and a complete manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gatescope.checkpoints.companions import plain
from gatescope.checkpoints.companions.plain import Unreadable
from gatescope.checkpoints.companions.run_config import CELLS, RunConfig, is_run, read_config
from gatescope.checkpoints.companions.run_layers import RunLayers
from gatescope.checkpoints.companions.run_scaler import RunScaler
from gatescope.checkpoints.companions.scaling import Affine
from gatescope.errors import InvalidInput, Place

CONFIGS = ("config.yml", "config.yaml")

_EPOCH = re.compile(r"model_epoch(\d{1,9})\.pt")
_UNIT = re.compile(r".+?[(\[]([^()\[\]]+)[)\]]")
_LOWEST = -3.4028234663852886e38
"""Of a target that is not clipped: no float32 is lower."""

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Recipe:
    """What a run's folder says about its model."""

    weights: Path
    manifest: Mapping[str, Any]
    """Of format 2, complete but for examples, for `Manifest.model_validate`."""
    notes: tuple[str, ...]
    config: RunConfig
    rename: Mapping[str, str]
    """Weights that the manifest's layers know under another name: old -> new; mostly empty."""

    def fitted(self, shapes: Mapping[str, Sequence[int]]) -> Recipe:
        """The recipe for the weights that are there, under the names that this version of neuralhydrology gave them.

        Args:
            shapes: of all weights in the file, by name.

        Raises:
            InvalidInput: a weight is missing, or has another shape than the configuration says; both are named.
        """
        layers = RunLayers(self.config, shapes)
        try:
            layers.check(shapes)
        except Unreadable as error:
            raise InvalidInput.at(Place(("checkpoint",), f"{self.weights.name}: {error}")) from None
        return replace(self, manifest={**self.manifest, "layers": layers.layers})


def read_run(folder: Path, weights: Path | None = None) -> Recipe | None:
    """The recipe of a run's folder; None where it is no run.

    Args:
        folder: with config.yml, train_data/train_data_scaler.yml and model_epoch*.pt.
        weights: which file of weights; that of the last epoch when left out.

    Raises:
        InvalidInput: it is a run, but cannot be served or lacks a file; the file, the key and the remedy are named.
    """
    try:
        config = _config(folder)
        return None if config is None else _recipe(folder, config, weights)
    except Unreadable as error:
        raise InvalidInput.at(Place(("checkpoint",), f"{folder.name}/{error}")) from None


def _config(folder: Path) -> tuple[str, Mapping[str, Any]] | None:
    """The configuration and its file's name, None where the folder is no run."""
    name = next((name for name in CONFIGS if (folder / name).is_file()), None)
    if name is None:
        return None
    try:
        stated = plain.load(folder / name)
    except Unreadable as error:
        if not _epochs(folder):
            return None
        raise Unreadable(f"{name}: {error}") from None
    return (name, stated) if is_run(stated) else None


def _recipe(folder: Path, found: tuple[str, Mapping[str, Any]], weights: Path | None) -> Recipe:
    name, stated = found
    try:
        config = read_config(stated)
    except Unreadable as error:
        raise Unreadable(f"{name}: {error}") from None
    chosen, notes = (weights, []) if weights is not None else _last_epoch(folder)
    scaler, layers = RunScaler.read(folder), RunLayers(config, None)
    manifest = {**_manifest(config, scaler, _experiment(stated, folder)), "layers": layers.layers}
    if layers.ignored:
        manifest["ignored"] = layers.ignored
    said = f"A neuralhydrology run: {config.model}, that is {CELLS[config.model]}; scaled as {scaler.name} says."
    return Recipe(chosen, manifest, (said, *notes, *config.notes, _window_note(config)), config, layers.rename)


def _epochs(folder: Path) -> dict[int, Path]:
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}") from None
    return {int(match[1]): path for path in paths if (match := _EPOCH.fullmatch(path.name))}


def _last_epoch(folder: Path) -> tuple[Path, list[str]]:
    epochs = _epochs(folder)
    if not epochs:
        raise Unreadable("model_epoch….pt: is missing; give the file of weights")
    last = epochs[max(epochs)]
    if len(epochs) == 1:
        return last, []
    return last, [f"Weights: {last.name}, the last of {len(epochs)} epochs (give another file for another epoch)."]


def _window_note(config: RunConfig) -> str:
    """How the run was trained, which says how its predictions are to be read."""
    many = "the last step" if config.predict_last_n == 1 else f"the last {config.predict_last_n} steps"
    return f"Window: trained on sequences of {config.window} steps, predicting {many}; earlier steps are warm-up."


def _experiment(stated: Mapping[str, Any], folder: Path) -> str:
    name = stated.get("experiment_name")
    usable = isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME
    return f"neuralhydrology run {name if usable else folder.name}"


def _manifest(config: RunConfig, scaler: RunScaler, experiment: str) -> dict[str, Any]:
    """All of the manifest but its layers."""
    of_static = f" and {len(config.static)} static attributes" if config.static else ""
    stated: dict[str, Any] = {
        "format": 2,
        "description": f"{', '.join(config.targets)} from {', '.join(config.dynamic)}{of_static} ({experiment})",
        "window": config.window,
        "warmup_steps": max(0, config.window - config.predict_last_n),
        "input": {
            "kind": "features",
            "features": [_feature(name, scaler.of(name, "dynamic_inputs")) for name in config.dynamic],
        },
    }
    if config.static:
        stated["static"] = {"features": [_feature(name, scaler.of_static(name)) for name in config.static]}
    if config.head == "regression":
        stated["heads"] = [_head(config, [scaler.of(name, "target_variables") for name in config.targets])]
    else:
        stated["not_computed"] = [{"name": "head", "kind": f"a head of type {config.head}", "place": "behind"}]
    return stated


def _feature(name: str, scaled: Affine) -> dict[str, Any]:
    unit = {"unit": _unit(name)} if _unit(name) else {}
    return {"name": name, **unit, "mean": scaled.mean, "std": scaled.std}


def _head(config: RunConfig, scaled: Sequence[Affine]) -> dict[str, Any]:
    head: dict[str, Any] = {
        "task": "regression",
        "names": list(config.targets),
        "units": [_unit(name) for name in config.targets],
        "mean": [each.mean for each in scaled],
        "std": [each.std for each in scaled],
    }
    if config.clipped:
        head["minimum"] = [0.0 if name in config.clipped else _LOWEST for name in config.targets]
    return head


def _unit(name: str) -> str:
    """`mm/h` of `QObs(mm/h)`; empty where the name has none."""
    match = _UNIT.fullmatch(name)
    return match[1] if match else ""
