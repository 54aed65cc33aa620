"""`read_scaler`: how inputs and outputs were scaled in training, from a JSON, YAML or .npz file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from gatescope.checkpoints.companions import npz, plain
from gatescope.checkpoints.companions.plain import Unreadable, listed, nearest, shown
from gatescope.checkpoints.companions.scaling import NAMES, STATISTICS, Scaling, read_section
from gatescope.errors import InvalidInput, Place

SECTIONS = {
    "inputs": ("inputs", "input", "features", "feature", "x", "X", "input_scaler", "feature_scaler", "x_scaler"),
    "outputs": ("outputs", "output", "targets", "target", "y", "output_scaler", "target_scaler", "y_scaler"),
    "static": ("static", "statics", "static_features", "static_attributes", "attributes"),
}
"""The parts of a scaler file, and what they are called in files."""

_SECTION_OF = {name: section for section, names in SECTIONS.items() for name in names}
_AROUND = ("scaler", "scalers", "scaling", "normalization", "stats", "statistics")
_OF_A_RUN = ("xarray_feature_center", "xarray_means")


@dataclass(frozen=True)
class ScalerFile:
    """What a scaler file states; a part that it does not have is None."""

    name: str
    inputs: Scaling | None = None
    outputs: Scaling | None = None
    static: Scaling | None = None
    notes: tuple[str, ...] = ()


def read_scaler(path: Path) -> ScalerFile:
    """The scaling in a .json, .yml or .npz file: mean and std, min and max, or scikit-learn's attributes.

    Each is a list in the features' order, one number for all features, or a number by name. A file without the sections
    `inputs`, `outputs` and `static` is about the inputs.

    Raises:
        InvalidInput: it cannot be read, is a pickle, or states no scaling; the place and the remedy are named.
    """
    return _made(path.name, lambda: _data(path))


def parse_scaler(text: str, name: str) -> ScalerFile:
    """The same of JSON or YAML that is no file.

    Args:
        text: the JSON or YAML.
        name: what to call it in messages.

    Raises:
        InvalidInput: it states no scaling; the place and the remedy are named.
    """
    is_yaml = not text.lstrip().startswith(("{", "["))
    return _made(name, lambda: plain.parse(_encoded(text), is_yaml=is_yaml))


def _encoded(text: str) -> bytes:
    content = text.encode(errors="surrogatepass")
    if len(content) > plain.MOST_BYTES:
        raise Unreadable(f"has more than the {plain.MOST_BYTES:,} bytes that are read of a scaler")
    return content


def _made(name: str, load: Callable[[], Any]) -> ScalerFile:
    notes: list[str] = []
    try:
        sections = _sections(_unwrapped(load()))
        parts = {
            section: read_section(values, name, "" if key is None else key, notes)
            for section, (key, values) in sections.items()
        }
    except Unreadable as error:
        raise InvalidInput.at(Place(("scaler",), f"{name}: {error}")) from None
    return ScalerFile(name, **parts, notes=tuple(notes))


def _data(path: Path) -> Any:
    content = plain.read_bytes(path)
    if plain.is_zip(content) and npz.holds_arrays(content):
        return npz.parse(content)
    if plain.is_pickle(path, content):
        raise Unreadable(_export(path))
    return plain.parse(content, is_yaml=_is_yaml(path, content))


def _is_yaml(path: Path, content: bytes) -> bool:
    suffix = path.suffix.lower()
    return suffix in plain.YAML_SUFFIXES or (suffix != ".json" and not content.lstrip().startswith((b"{", b"[")))


def _export(path: Path) -> str:
    name, exported = plain.in_python(path.name), plain.in_python(f"{path.stem}.json")
    load = f"import joblib, json; scaler = joblib.load({name})"
    standard = '{"mean": scaler.mean_.tolist(), "std": scaler.scale_.tolist()}'
    min_max = '{"min_": scaler.min_.tolist(), "scale_": scaler.scale_.tolist()}'
    return (
        f"is a pickle or an archive of one, which can run code, and is not read. Export it where it was made: {load}; "
        f'json.dump({standard}, open({exported}, "w")) of a StandardScaler, or '
        f'json.dump({min_max}, open({exported}, "w")) of a MinMaxScaler. Then give {path.stem}.json'
    )


def _unwrapped(data: Any) -> Any:
    while isinstance(data, Mapping) and len(data) == 1:
        ((key, value),) = data.items()
        if key not in _AROUND or not isinstance(value, (Mapping, list)):
            break
        data = value
    return data


def _sections(data: Any) -> dict[str, tuple[str | None, Any]]:
    """By part: what it is called in the file, None where the file has no parts, and what it states."""
    if isinstance(data, list):
        return {"inputs": (None, data)}
    if not isinstance(data, Mapping) or not data:
        raise Unreadable(f"holds no scaling: {_WANTED}")
    if any(key in data for key in _OF_A_RUN):
        raise Unreadable("is the scaler of a neuralhydrology run: import the run's folder, which holds it")
    for key in data:
        if not isinstance(key, str):
            raise Unreadable(f"has the key {shown(key)}, which is no name: put it between quotes")
    nested = [key for key, value in data.items() if _is_nested(value)]
    if nested and all(key in _SECTION_OF for key in nested):
        return _nested(data, nested)
    split = {key: _split(key) for key in data if key not in STATISTICS and key not in NAMES}
    if any(split.values()):
        return _flat(data, split)
    return {"inputs": (None, data)}


_WANTED = "it needs mean and std, or min and max, each a list, a number, or a number by name"


def _is_nested(value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping) or is_list


def _nested(data: Mapping[str, Any], keys: list[str]) -> dict[str, tuple[str | None, Any]]:
    found: dict[str, tuple[str | None, Any]] = {}
    for key in keys:
        section = _SECTION_OF[key]
        if section in found:
            raise Unreadable(f"has {found[section][0]!r} and {key!r}, which are the same part: keep one of them")
        found[section] = key, data[key]
    for key, value in data.items():
        if key not in found and not (key in keys or _is_remark(value)):
            raise Unreadable(f"has {shown(key)} beside {listed(keys)}: put it into one of them, or leave it out")
    return found


def _is_remark(value: Any) -> bool:
    return value is None or isinstance(value, (str, bool))


def _flat(data: Mapping[str, Any], split: Mapping[str, tuple[str, str] | None]) -> dict[str, tuple[str | None, Any]]:
    """Of names such as `x_mean` and `target_std`."""
    found: dict[str, tuple[str | None, dict[str, Any]]] = {}
    for key, value in data.items():
        parts = split.get(key)
        if parts is None and not _is_remark(value):
            near = nearest(key, [each for each, found_parts in split.items() if found_parts])
            raise Unreadable(f"has {shown(key)}, which is of no part{near}: name it as in inputs_mean or outputs_std")
        if parts is not None:
            section, statistic = parts
            _, values = found.setdefault(section, (section, {}))
            if statistic in values:
                raise Unreadable(f"states {statistic} of the {section} twice: keep one of them")
            values[statistic] = value
    return {**found}


def _split(key: str) -> tuple[str, str] | None:
    """`x_mean` and `mean_x` -> the part and the statistic."""
    for separator, (name, section) in product("_./", _SECTION_OF.items()):
        before, after = f"{name}{separator}", f"{separator}{name}"
        rest = key[len(before) :] if key.startswith(before) else key.removesuffix(after)
        if rest != key and (rest in STATISTICS or rest in NAMES):
            return section, rest
    return None
