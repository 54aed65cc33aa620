"""Checkpoints in several files: the index that says which weight is in which part."""

from __future__ import annotations

import json
import re
from typing import Any

from gatescope.errors import CheckpointError
from gatescope.names import quoted
from gatescope.source import Source

MOST_INDEX_BYTES = 16 * 2**20
MOST_PARTS = 500

PART = re.compile(r"-(\d{5})-of-(\d{5})\.")

INDEX_SUFFIX = ".index.json"


def refuse_part(name: str) -> None:
    """Refuse a file that is by its name one of several parts.

    Raises:
        CheckpointError: it is.
    """
    match = PART.search(name)
    if match and int(match[2]) > 1:
        raise CheckpointError(
            f"it is part {int(match[1])} of {int(match[2])} of a checkpoint; "
            f"give its index (a file that ends in {INDEX_SUFFIX}) or the folder"
        )


def is_index(begins: bytes) -> bool:
    """Whether a file begins like a JSON object, and not like the length of a safetensors header."""
    return begins.lstrip()[:1] == b"{" and b"\x00" not in begins


def read_index(source: Source) -> dict[str, list[str]]:
    """Part -> the names of the weights in it.

    Raises:
        CheckpointError: it is no index, or names a part outside its folder.
    """
    if source.size > MOST_INDEX_BYTES:
        raise CheckpointError(f"it is a JSON file of {source.size} bytes, and an index has at most {MOST_INDEX_BYTES}")
    try:
        content = json.loads(source.at(0, source.size))
    except (ValueError, RecursionError):
        content = None
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError("it is a JSON file without a weight_map, like no index of a checkpoint")
    parts: dict[str, list[str]] = {}
    for weight, part in weight_map.items():
        parts.setdefault(_file_name(part), []).append(weight)
    if len(parts) > MOST_PARTS:
        raise CheckpointError(f"its weight_map names {len(parts)} parts, and at most {MOST_PARTS} are read")
    return parts


def _file_name(part: Any) -> str:
    """The name of a part; a link in the folder may lead elsewhere, for whoever made the folder made the link."""
    if not isinstance(part, str) or part in {"", ".", ".."} or not part.isprintable() or "/" in part or "\\" in part:
        raise CheckpointError(f"its weight_map names {quoted(part)}, which is no file in the same folder")
    return part
