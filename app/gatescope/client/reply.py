"""A reply, in JSON or safetensors, as fields: numbers, texts, lists and NumPy arrays."""

from __future__ import annotations

from json import loads
from typing import Any

import httpx
import numpy as np

from gatescope import safetensors_file
from gatescope.client.body import SAFETENSORS


def json(reply: httpx.Response) -> Any:
    """The reply's JSON."""
    return loads(reply.content)


def fields(reply: httpx.Response) -> dict[str, Any]:
    """The fields of a reply in either format.

    Raises:
        ValueError: it is in neither.
    """
    if reply.headers.get("content-type") != SAFETENSORS:
        given: dict[str, Any] = json(reply)
        return given
    arrays, metadata = safetensors_file.read(bytearray(reply.content))  # so that the arrays can be written to
    said = {name: loads(text) for name, text in metadata.items()}
    for name, array in arrays.items():
        _put(said, _path_of(name), array)
    return said


def nothing(_: httpx.Response) -> None:
    """For replies that say no more than that it is done."""


def _path_of(name: str) -> list[str]:
    """The fields that an array stands in; the names of modules may have dots."""
    before, is_of_module, rest = name.partition(".modules.")
    if not is_of_module:
        return name.split(".")
    return [*before.split("."), "modules", *rest.rsplit(".", 1)]


def _put(fields: dict[str, Any], path: list[str], value: np.ndarray) -> None:
    """Under the name that the JSON reply has for it: a dot leads into a field."""
    for name in path[:-1]:
        fields = fields.setdefault(name, {})
    fields[path[-1]] = value
