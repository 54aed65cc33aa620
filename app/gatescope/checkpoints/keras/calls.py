"""What the layers of a functional model read, as Keras 2 and Keras 3 write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatescope.checkpoints.keras.classes import COMBINES, OPERATIONS
from gatescope.checkpoints.keras.configuration import name_of
from gatescope.errors import CheckpointError
from gatescope.names import printable, quoted


@dataclass
class Call:
    """One call of a layer in a functional model."""

    reads: list[tuple[str, int, int]]  # layer, call, output
    arguments: tuple[Any, ...] = ()
    masks: tuple[str, ...] = ()  # the layers that its masks are of


def entry_name(entry: Mapping[str, Any]) -> str:
    """The name of a layer; raises `CheckpointError` where it has none."""
    config = entry.get("config")
    inner = config.get("name") if isinstance(config, Mapping) else None
    return name_of(entry.get("name", inner), "a layer in it")


def references_of(stated: Any) -> list[Any]:
    """One reference, or a list of them."""
    if isinstance(stated, list) and stated and isinstance(stated[0], str):
        return [stated]
    if not isinstance(stated, list) or not stated:
        raise CheckpointError("its inputs or outputs are no list of layers; save a model with lists of them")
    return stated


def reference_of(stated: Any) -> tuple[str, int, int]:
    """Layer, call and output of one reference; raises `CheckpointError` where it is none."""
    match stated:
        case [str(name), int(call), int(output), *rest] if call >= 0 and output >= 0 and rest in ([], [{}]):
            return name, call, output
    raise CheckpointError("its configuration is damaged: a layer reads what is none")


def in_model(call: Call, models: set[str]) -> Call:
    """The same call; that of a model inside counts from 1 in a file, as one call was the making of it."""
    reads = [(name, 0 if name in models else number, output) for name, number, output in call.reads]
    return Call(reads, call.arguments, call.masks)


def calls_of(entry: Mapping[str, Any]) -> Iterator[Call]:
    """The calls of a layer, in their order; raises `CheckpointError` where one is not served."""
    nodes = entry.get("inbound_nodes")
    if not isinstance(nodes, list):
        raise CheckpointError(f"its layer {quoted(entry_name(entry))} does not say what it reads")
    for node in nodes:
        yield _call_of_keras_3(entry, node) if isinstance(node, dict) else _call_of_keras_2(entry, node)


def _call_of_keras_2(entry: Mapping[str, Any], node: Any) -> Call:
    if not isinstance(node, list):
        raise CheckpointError(f"its layer {quoted(entry_name(entry))} does not say what it reads")
    references = []
    for each in references_of(node):
        if isinstance(each, list) and len(each) == 4:  # noqa: PLR2004 - name, call, output, keywords
            _check_keywords(entry, each[3])
            each = each[:3]  # noqa: PLW2901
        references.append(reference_of(each))
    return Call(references)


def _call_of_keras_3(entry: Mapping[str, Any], node: Mapping[str, Any]) -> Call:
    arguments, keywords = node.get("args"), node.get("kwargs", {})
    if not isinstance(arguments, list) or not arguments:
        raise CheckpointError(f"its layer {quoted(entry_name(entry))} does not say what it reads")
    masks = _check_keywords(entry, keywords)
    first, *others = arguments
    given = first if isinstance(first, list) else [first]
    reads = [_tensor(entry, each) for each in given]
    if entry["class_name"] in COMBINES:  # several masks
        reads += [_tensor(entry, each) for each in others]
        return Call(reads)
    if others and entry["class_name"] not in OPERATIONS and any(each is not None for each in others):
        raise CheckpointError(
            f"its layer {quoted(entry_name(entry))} is called with more than its input, such as an initial state: that "
            "is not served"
        )
    return Call(reads, tuple(others), masks)


def _check_keywords(entry: Mapping[str, Any], keywords: Any) -> tuple[str, ...]:
    """Refuse keywords that change what is computed; the layers that its masks are of."""
    masks: tuple[str, ...] = ()
    for key, value in keywords.items() if isinstance(keywords, dict) else [("?", keywords)]:
        if key == "mask" and value is not None:
            given = value if isinstance(value, list) else [value]
            masks = tuple(_tensor(entry, each)[0] for each in given if each is not None)
        if key not in ("training", "mask") and value is not None:
            raise CheckpointError(
                f"its layer {quoted(entry_name(entry))} is called with {printable(str(key))}, such as a state: that is "
                "not served"
            )
        if key == "training" and value not in (None, False):
            raise CheckpointError(f"its layer {quoted(entry_name(entry))} is called as in training")
    return masks


def _tensor(entry: Mapping[str, Any], given: Any) -> tuple[str, int, int]:
    match given:
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(name), int(call), int(output)]}}:
            return reference_of([name, call, output])
    raise CheckpointError(
        f"its layer {quoted(entry_name(entry))} is called with a constant, or in a way that is not served"
    )
