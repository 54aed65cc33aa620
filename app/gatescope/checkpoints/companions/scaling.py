"""`Scaling`: the affine map that a feature was fed through, and what of a scaler file states it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from gatescope.checkpoints.companions.plain import Unreadable, listed, nearest, shown
from gatescope.errors import InvalidInput, Place

Numbers = NDArray[np.float64]

STATISTICS = {
    **dict.fromkeys(("mean", "mean_", "means", "mu", "center", "center_"), "mean"),
    **dict.fromkeys(("std", "std_", "stds", "stdev", "stddev", "sigma", "sd"), "std"),
    **dict.fromkeys(("var", "var_", "variance"), "var"),
    **dict.fromkeys(("scale", "scale_"), "scale"),
    "min_": "offset",
    **dict.fromkeys(("min", "mins", "minimum", "data_min", "data_min_"), "min"),
    **dict.fromkeys(("max", "maxs", "maximum", "data_max", "data_max_"), "max"),
    "feature_range": "range",
    **dict.fromkeys(("with_mean", "with_centering"), "with_mean"),
    **dict.fromkeys(("with_std", "with_scaling"), "with_std"),
    "clip": "clip",
    "max_abs_": "max_abs",
}
"""What numbers are called in files, and what they are; scikit-learn's attributes end in an underscore."""

NAMES = ("names", "feature_names", "feature_names_in_", "feature_columns", "columns", "features", "inputs", "targets")
"""Where a file lists the features' names."""

_UNUSED = frozenset(
    {"data_range", "data_range_", "n_samples_seen_", "n_features_in_", "n_samples", "count", "copy", "quantile_range"}
    | {"unit_variance", "25%", "50%", "75%", "median"}
)
_NUMBERS = ("mean", "std", "var", "scale", "offset", "min", "max", "max_abs")
_MOST_AXES = 4


class Affine(NamedTuple):
    """A number is fed as (raw − mean) / std; an output is value · std + mean."""

    mean: float
    std: float


@dataclass(frozen=True, eq=False)
class Scaling:
    """The affine maps of one part of a scaler file: (raw − mean) / std.

    `mean` and `std` are (feature,), or () where one number is for all features.
    """

    source: str
    mean: Numbers
    std: Numbers
    names: tuple[str, ...] | None = None
    """The features' names, in the file's order; None where it has none."""

    def resolve(self, features: Sequence[str], others: Collection[str] = ()) -> tuple[Affine, ...]:
        """The map of each of these features, in their order: by name where the file has names, else by position.

        Args:
            features: their names.
            others: names that the file may have, too, such as the model's outputs.

        Raises:
            InvalidInput: a name is missing or surplus, or the numbers are not as many as the features.
        """
        if self.mean.ndim == 0:
            return (Affine(float(self.mean), float(self.std)),) * len(features)
        order = range(len(self.mean)) if self.names is None else self._places(self.names, features, others)
        if self.names is None and len(self.mean) != len(features):
            _refuse(
                f"{self.source}: has {len(self.mean)} numbers, but there are {len(features)} features "
                f"({listed(features)}): give one for each in this order, or by name"
            )
        return tuple(Affine(float(self.mean[index]), float(self.std[index])) for index in order)

    def _places(self, names: Sequence[str], features: Sequence[str], others: Collection[str]) -> list[int]:
        places = {name: index for index, name in enumerate(names)}
        missing = [feature for feature in features if feature not in places]
        surplus = [name for name in names if name not in features and name not in others]
        if missing:
            hint = nearest(missing[0], surplus) or (f"; it has {listed(names)}")
            _refuse(f"{self.source}: has no {listed(missing)}{hint}: name them as the model's features are named")
        if surplus:
            hint = f"the model's features are {listed(features)}"
            _refuse(f"{self.source}: also has {listed(surplus)}, which is no feature: leave it out; {hint}")
        return [places[feature] for feature in features]


def read_section(data: Any, file: str, section: str, notes: list[str]) -> Scaling:
    """The scaling that one part of a file states.

    Args:
        data: of the part.
        file: its name, for messages.
        section: what the part is called in the file; empty where the file has no parts.
        notes: to which a sentence is added for what is not computed.

    Raises:
        Unreadable: it states none, or several that differ.
    """
    source = f"{file}: {section}" if section else file
    by_name = _by_name(data)
    try:
        if by_name is not None:
            maps = [_of_one(name, each, notes) for name, each in by_name.items()]
            means, stds = np.array(maps, dtype=np.float64).T
            return Scaling(source, means, stds, tuple(by_name))
        part = _Part(data, notes)
        mean, std = part.made(part.names)
    except Unreadable as error:
        raise Unreadable(f"{section}: {error}" if section else str(error)) from None
    return Scaling(source, mean, std, part.names if mean.ndim else None)


def _by_name(data: Any) -> dict[str, Mapping[str, Any]] | None:
    """{"rain": {"mean": …, "std": …}, …}, also as a list of entries with a name; None of other forms."""
    if isinstance(data, list) and data and all(isinstance(each, Mapping) and "name" in each for each in data):
        named = {
            _checked_name(each["name"]): {key: value for key, value in each.items() if key != "name"} for each in data
        }
        if len(named) < len(data):
            raise Unreadable("has two entries of one name")
        data = named
    if not isinstance(data, Mapping) or not data:
        return None
    if not all(isinstance(each, Mapping) and _states_one(each) for each in data.values()):
        return None
    if all(key in STATISTICS for key in data):
        return None
    return {_checked_name(key): each for key, each in data.items()}


def _states_one(entry: Mapping[Any, Any]) -> bool:
    is_known = all(key in STATISTICS or key in _UNUSED for key in entry)
    return bool(entry) and is_known and not any(isinstance(value, Mapping) for value in entry.values())


def _of_one(name: str, stated: Mapping[str, Any], notes: list[str]) -> Affine:
    mean, std = _Part(stated, notes).made((name,))
    if mean.size != 1:
        raise Unreadable(f"has {mean.size} numbers for {shown(name)}: give one")
    return Affine(float(mean.reshape(())), float(std.reshape(())))


class _Part:
    """Statistics by what they are, and the names that go with them."""

    def __init__(self, data: Any, notes: list[str]) -> None:
        if not isinstance(data, Mapping):
            raise Unreadable("holds a list, which does not say what its numbers are: name them mean and std")
        self._notes = notes
        self._called: dict[str, str] = {}
        self._raw: dict[str, Any] = {}
        self._null: set[str] = set()
        self.names: tuple[str, ...] | None = None
        for key, value in data.items():
            self._take(key, value)
        for kind in _NUMBERS:
            if isinstance(self._raw.get(kind), Mapping):
                self._take_names(tuple(map(_checked_name, self._raw[kind])), self._called[kind])
        if not self._raw.keys() & set(_NUMBERS):
            raise Unreadable("states no scaling: it needs mean and std, or min and max")

    def _take(self, key: Any, value: Any) -> None:
        kind = STATISTICS.get(key)
        if kind is None:
            self._take_other(key, value)
        elif value is None:
            self._null.add(kind)
        elif kind in self._raw:
            raise Unreadable(f"has {self._called[kind]!r} and {key!r}, which are the same: keep one of them")
        else:
            self._called[kind], self._raw[kind] = key, value

    def _take_other(self, key: Any, value: Any) -> None:
        if key in NAMES and isinstance(value, list) and all(isinstance(each, str) for each in value):
            self._take_names(tuple(map(_checked_name, value)), key)
        elif key not in _UNUSED and not (isinstance(value, (str, bool)) or value is None):
            near = nearest(str(key), list(STATISTICS))
            raise Unreadable(f"has {shown(key)}, which is not known{near}: mean and std, or min and max, are read")

    def _take_names(self, names: tuple[str, ...], key: str) -> None:
        if len(set(names)) < len(names):
            raise Unreadable(f"{key} has a name twice")
        if self.names is not None and sorted(names) != sorted(self.names):
            odd = sorted(set(names) ^ set(self.names))
            raise Unreadable(f"{key} has other names than what stands before it: {listed(odd)} is in one of them alone")
        self.names = names if self.names is None else self.names

    def made(self, labels: Sequence[str] | None) -> tuple[Numbers, Numbers]:
        """Mean and std, (feature,) each, or () for one number for all features.

        Args:
            labels: what the features are called in messages, where it is known.
        """
        mean, std, why = self._affine(labels)
        mean, std = _like_each_other(mean, std, None if self.names is None else len(self.names))
        for index, (center, scale) in enumerate(zip(mean.flat, std.flat, strict=True)):
            if not (math.isfinite(center) and math.isfinite(scale) and scale > 0):
                _refuse_map(_label(labels, index, mean.ndim), center, scale, why)
        return mean, std

    def _affine(self, labels: Sequence[str] | None) -> tuple[Numbers, Numbers, str]:
        """Mean and std, and from what they were computed."""
        self._check_choice()
        if self._switch("clip"):
            self._notes.append("The scaler clips what lies outside its range (clip=True); that is not computed.")
        with np.errstate(all="ignore"):  # what is not finite is refused
            if self._has("offset"):
                scale, offset = self._pair("scale", "offset", labels)
                return -offset / scale, 1 / scale, "scale_"
            if self._has("min"):
                return self._from_range(labels)
            return self._center(labels), self._spread(labels), self._called.get("scale", "std")

    def _check_choice(self) -> None:
        """Refuse what two formulas could be meant by."""
        if self._has("offset") and not self._has("scale"):
            raise Unreadable("has 'min_' without 'scale_': scikit-learn's MinMaxScaler is x · scale_ + min_")
        if self._has("offset"):
            return
        if self._has("mean", "std") and (self._has("min") or self._has("max")):
            raise Unreadable("has a mean and std, and a min or max: keep the pair that training scaled with")
        if self._has("min") != self._has("max"):
            raise Unreadable(
                "has one of min and max: give both, or scikit-learn's min_ and scale_ (a value is x · scale_ + min_)"
            )
        if self._has("min") and self._raw.keys() & {"mean", "std", "var", "max_abs"}:
            raise Unreadable("has min and max beside others: keep the two that training scaled with")

    def _from_range(self, labels: Sequence[str] | None) -> tuple[Numbers, Numbers, str]:
        low, high = self._range()
        least, most = self._pair("min", "max", labels)
        std = (most - least) / (high - low)
        stated = self._pair("scale", "min", labels)[0] if self._has("scale") else None
        if stated is not None and not np.allclose(stated * std, 1, rtol=1e-6, atol=0):
            raise Unreadable("has a scale that is not that of min, max and feature_range: add scikit-learn's min_")
        return least - low * std, std, "max − min"

    def _range(self) -> tuple[float, float]:
        given = self._raw.get("range", [0, 1])
        if not isinstance(given, list) or len(given) != 2:  # noqa: PLR2004
            raise Unreadable(f"feature_range is {shown(given)}, not two numbers")
        low, high = (number(each, "feature_range") for each in given)
        if not low < high:
            raise Unreadable(f"feature_range is {shown(given)}: the first number must be the smaller one")
        return low, high

    def _center(self, labels: Sequence[str] | None) -> Numbers:
        if self._switch("with_mean") is False or self._is_off("mean") or self._has("max_abs"):
            return np.zeros(())
        if not self._has("mean"):
            raise Unreadable("has no mean: give mean and std, or min and max, or with_mean = false if there was none")
        return self._numbers("mean", labels)

    def _spread(self, labels: Sequence[str] | None) -> Numbers:
        if self._switch("with_std") is False or self._is_off("std") or self._is_off("scale"):
            return np.ones(())
        if self._has("std", "scale"):
            std, scale = self._numbers("std", labels), self._numbers("scale", labels)
            if std.shape != scale.shape or not np.array_equal(std, scale):
                raise Unreadable("has a std and a scale that differ: keep the one that training divided by")
        for kind in ("std", "scale"):
            if self._has(kind):
                return self._numbers(kind, labels)
        if self._has("var"):
            return np.sqrt(self._numbers("var", labels))
        raise Unreadable("has a mean, but no std: add it, or with_std = false if nothing was divided")

    def _has(self, *kinds: str) -> bool:
        return all(kind in self._raw for kind in kinds)

    def _is_off(self, kind: str) -> bool:
        return kind in self._null and kind not in self._raw

    def _switch(self, kind: str) -> bool | None:
        value = self._raw.get(kind)
        if value is not None and not isinstance(value, bool):
            raise Unreadable(f"{self._called[kind]} is {shown(value)}, not true or false")
        return value

    def _pair(self, one: str, other: str, labels: Sequence[str] | None) -> tuple[Numbers, Numbers]:
        """Two that go with each other."""
        first, second = self._numbers(one, labels), self._numbers(other, labels)
        if first.ndim and second.ndim and len(first) != len(second):
            names = f"{len(first)} numbers of {self._called[one]} and {len(second)} of {self._called[other]}"
            raise Unreadable(f"has {names}: as many are needed")
        return first, second

    def _numbers(self, kind: str, labels: Sequence[str] | None) -> Numbers:
        """(feature,), or () of one number; by name in the order of `names`."""
        key, value = self._called[kind], self._raw[kind]
        if isinstance(value, Mapping):
            if not value:
                raise Unreadable(f"{key} is empty")
            if len(value) < len(self.names or ()):
                absent = next(name for name in self.names or () if name not in value)
                raise Unreadable(f"{key} has no number of {shown(absent)}")
            return np.array([number(value[name], f"{key} of {shown(name)}") for name in self.names or ()])
        if not isinstance(value, list):
            return np.array(number(value, key))
        flat = _flattened(value, key)
        return np.array([number(each, f"{key} of {_label(labels, index)}") for index, each in enumerate(flat)])


def _flattened(values: list[Any], key: str) -> list[Any]:
    """A list with axes of length 1 around it, as `keepdims` leaves them, without them."""
    for _ in range(_MOST_AXES):
        if len(values) == 1 and isinstance(values[0], list):
            values = values[0]
        elif len(values) > 1 and all(isinstance(each, list) and len(each) == 1 for each in values):
            values = [each[0] for each in values]
    if any(isinstance(each, list) for each in values):
        raise Unreadable(f"{key} is a table: give one number for each feature")
    if not values:
        raise Unreadable(f"{key} is an empty list")
    return values


def _like_each_other(mean: Numbers, std: Numbers, count: int | None) -> tuple[Numbers, Numbers]:
    sizes = {len(each) for each in (mean, std) if each.ndim}
    if len(sizes) > 1:
        raise Unreadable(f"has {mean.size} numbers of one kind and {std.size} of the other: as many are needed")
    if count is not None and sizes and sizes != {count}:
        raise Unreadable(f"has {count} names, but {sizes.pop()} numbers")
    shape = (sizes.pop(),) if sizes else (() if count is None else (count,))
    return np.broadcast_to(mean, shape).copy(), np.broadcast_to(std, shape).copy()


def _refuse_map(label: str, center: float, scale: float, why: str) -> NoReturn:
    if scale == 0 and why == "max − min":
        raise Unreadable(f"min and max of {label} are equal: set max to min + 1, as scikit-learn does for a constant")
    if scale == 0:
        raise Unreadable(f"{why} of {label} is 0: set it to 1, as scikit-learn does for a constant feature")
    if scale < 0:
        raise Unreadable(f"{why} of {label} is negative: it must be above 0")
    named = "its mean" if not math.isfinite(center) else why
    raise Unreadable(f"{label} has no finite scaling, as {named} is too large, too small or 0: give finite numbers")


def _label(labels: Sequence[str] | None, index: int, axes: int = 1) -> str:
    if labels is not None and index < len(labels):
        return f"feature {shown(labels[index])}"
    return f"feature {index}" if axes else "all features"


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise Unreadable(f"has the name {shown(name)}: a feature's name is text")
    return name


def number(value: Any, place: str) -> float:
    """A value of a file as a finite number.

    Raises:
        Unreadable: it is something else; `place` is named.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        what = "missing (null)" if value is None else f"{shown(value)}, not a number"
        raise Unreadable(f"{place} is {what}: give a finite number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise Unreadable(f"{place} is {found}: give a finite number; what training saw without gaps has one")
    return found


def _refuse(message: str) -> NoReturn:
    raise InvalidInput.at(Place(("scaler",), message))
