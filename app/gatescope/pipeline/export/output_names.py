"""`output_names`: what the values are called that an exported forward returns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

MOST_DEPTH = 32
LONGEST_SPEC = 1_000_000


def output_names(module: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The place of each returned value, such as "output", "output_1", "prediction" or "final_state.0".

    Args:
        module: the JSON object of the graph module; the structure of what forward returns stands there.
        count: how many values there are. If the structure does not say so many, they are only numbered.
    """
    try:
        calls = module["module_call_graph"]
        spec = next(call["signature"]["out_spec"] for call in calls if call["fqn"] == "")
        found = [] if len(spec) > LONGEST_SPEC else list(_leaves(json.loads(spec)[1], (), 0))
    except (LookupError, TypeError, ValueError, StopIteration, RecursionError):
        found = []
    names = [_joined(path) for path in found]
    return tuple(names) if len(names) == count == len(set(names)) else tuple(f"output_{i}" for i in range(count))


def _leaves(spec: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Iterator[tuple[str, ...]]:
    kind, children = spec["type"], spec["children_spec"]
    if depth > MOST_DEPTH:
        raise ValueError(depth)
    if kind is None:
        yield path
        return
    keys = [str(index) for index in range(len(children))]
    if kind.endswith("ict"):  # a dict's context is the list of its keys
        keys = [str(key) for key in json.loads(spec["context"])]
    for key, child in zip(keys, children, strict=True):
        yield from _leaves(child, (*path, key), depth + 1)


def _joined(path: tuple[str, ...]) -> str:
    if not path:
        return "output"
    first = f"output_{path[0]}" if path[0].isdecimal() else path[0]
    return ".".join((first, *path[1:]))
