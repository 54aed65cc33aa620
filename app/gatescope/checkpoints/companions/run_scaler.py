"""`RunScaler`: the means and standard deviations of a neuralhydrology run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from gatescope.checkpoints.companions import plain
from gatescope.checkpoints.companions.plain import Unreadable, nearest, shown
from gatescope.checkpoints.companions.scaling import Affine, number

FILE = "train_data/train_data_scaler.yml"
OLD_FILES = ("train_data/train_data_scaler.p", "train_data_scaler.p")

_CENTER = ("xarray_feature_center", "xarray_means")
_SCALE = ("xarray_feature_scale", "xarray_stds")
_MEANS = ("attribute_means", "camels_attr_means")
_STDS = ("attribute_stds", "camels_attr_stds")
"""What the parts are called, and what they were called before version 1."""


@dataclass(frozen=True)
class RunScaler:
    """What `train_data_scaler.yml` holds; a number is checked where it is used."""

    name: str
    variables: Mapping[str, tuple[Any, Any]]
    attributes: Mapping[str, tuple[Any, Any]]

    @classmethod
    def read(cls, folder: Path) -> RunScaler:
        """The scaler of the run in this folder.

        Raises:
            Unreadable: it is missing, is a pickle, or is no scaler of neuralhydrology.
        """
        if not (folder / FILE).is_file():
            old = next((each for each in OLD_FILES if (folder / each).is_file()), None)
            raise Unreadable(_export(old) if old else f"{FILE}: is missing; {_WHERE}")
        try:
            data = plain.load(folder / FILE)
            variables = _pairs(_part(data, _CENTER), _part(data, _SCALE))
            attributes = _pairs(_part(data, _MEANS), _part(data, _STDS))
        except Unreadable as error:
            raise Unreadable(f"{FILE}: {error}") from None
        if not variables:
            raise Unreadable(
                f"{FILE}: has no {_CENTER[0]} and {_SCALE[0]}, so it is no scaler of neuralhydrology; {_WHERE}"
            )
        return cls(FILE, variables, attributes)

    def of(self, variable: str, key: str) -> Affine:
        """Of a variable that this key of the configuration names."""
        if variable not in self.variables:
            self._refuse_absent(variable, key, _CENTER[0], self.variables)
        return self._checked(variable, self.variables[variable], (_CENTER[0], _SCALE[0]))

    def of_static(self, attribute: str) -> Affine:
        """Of a static attribute, or of an evolving one, which is a variable."""
        if attribute not in self.attributes and attribute in self.variables:
            return self.of(attribute, "evolving_attributes")
        if attribute not in self.attributes:
            self._refuse_absent(attribute, "static_attributes", _MEANS[0], self.attributes)
        return self._checked(attribute, self.attributes[attribute], (_MEANS[0], _STDS[0]))

    def _refuse_absent(self, name: str, key: str, part: str, known: Mapping[str, Any]) -> NoReturn:
        near = nearest(name, list(known))
        raise Unreadable(
            f"{self.name}: {part} has no {shown(name)}, which is one of config.yml's {key}{near}; {_WHERE}"
        )

    def _checked(self, name: str, pair: tuple[Any, Any], parts: tuple[str, str]) -> Affine:
        try:
            mean, std = (number(value, f"{part} of {shown(name)}") for value, part in zip(pair, parts, strict=True))
        except Unreadable as error:
            raise Unreadable(f"{self.name}: {error}") from None
        if std <= 0:
            raise Unreadable(
                f"{self.name}: {parts[1]} of {shown(name)} is {std:g}, and must be above 0: a constant variable; "
                "train without it, or write 1"
            )
        return Affine(mean, std)


_WHERE = "a fine-tuned run has it in the folder of the run that it started from (base_run_dir): copy train_data here"


def _export(old: str) -> str:
    name, exported = plain.in_python(old), plain.in_python(FILE)
    return (
        f"{old}: is a pickle, which can run code, and is not read. Export it in this folder, where "
        f'neuralhydrology is installed: import pickle, yaml; scaler = pickle.load(open({name}, "rb")); '
        f'yaml.safe_dump({{k: v.to_dict() for k, v in scaler.items()}}, open({exported}, "w"))'
    )


def _part(data: Any, names: Sequence[str]) -> Mapping[Any, Any]:
    """By name, of an `xarray.Dataset.to_dict()` or a `pandas.Series.to_dict()`."""
    if not isinstance(data, Mapping):
        return {}
    part = next((data[name] for name in names if name in data), None)
    variables = part.get("data_vars", part) if isinstance(part, Mapping) else None
    if not isinstance(variables, Mapping):
        return {}
    return {name: each.get("data") if isinstance(each, Mapping) else each for name, each in variables.items()}


def _pairs(centers: Mapping[Any, Any], scales: Mapping[Any, Any]) -> dict[str, tuple[Any, Any]]:
    return {str(name): (center, scales[name]) for name, center in centers.items() if name in scales}
