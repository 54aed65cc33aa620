"""`read_manifest`: the manifest of a model's folder, in the format that it is written in."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatescope.errors import ManifestError
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_v1 import ManifestV1, first_problem

FILE = "model.toml"
NEWEST_FORMAT = 2


def read_manifest(folder: Path) -> Manifest | ManifestV1:
    """The manifest of the model in this folder.

    Raises:
        ManifestError: it is missing, is not TOML, is of a newer format, or a field does not fit; the field is named.
    """
    stated = _toml(folder)
    number = stated.get("format", 1)
    if type(number) is not int or not 1 <= number <= NEWEST_FORMAT:
        raise ManifestError(
            f"{folder.name}/{FILE} has format {number!r}, but this version of Gatescope reads formats 1 to "
            f"{NEWEST_FORMAT}: a newer version may read it"
        )
    try:
        return (ManifestV1 if number == 1 else Manifest).model_validate(stated)
    except ValidationError as error:
        raise ManifestError(f"{folder.name}/{FILE}: {first_problem(error)}") from error


def _toml(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / FILE).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ManifestError(f"{folder.name}/{FILE} cannot be read: {error.strerror}") from error
    except RecursionError:
        raise ManifestError(f"{folder.name}/{FILE} cannot be read: it is nested too deeply") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ManifestError(f"{folder.name}/{FILE} cannot be read: {error}") from error
