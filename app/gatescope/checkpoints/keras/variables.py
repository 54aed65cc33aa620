"""`variables_of`: the variables that each layer of a model has, in the order in which Keras keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gatescope.checkpoints.keras.classes import numbered
from gatescope.checkpoints.keras.file import Variable
from gatescope.checkpoints.keras.nodes import Node

_RECURRENT = frozenset({"LSTM", "GRU", "SimpleRNN"})
_CELLS = frozenset({"LSTMCell", "GRUCell", "SimpleRNNCell"})


def variables_of(nodes: Sequence[Node]) -> dict[Variable, Node]:
    """Every variable and the layer that it belongs to; of a layer that is called twice, the first call."""
    return {
        Variable(node.top, f"{node.place}{inner}", role, trainable and node.trainable): node
        for node in nodes
        if node.name == node.weights
        for inner, role, trainable in _of(node.kind, node.stated)
    }


def _of(kind: str, stated: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """The place inside the layer, the role and whether it is trained, of each variable."""
    if kind in _RECURRENT or kind in _CELLS:
        inner = "/cell" if kind in _RECURRENT else ""
        yield from ((inner, role, True) for role in ("kernel", "recurrent_kernel", *_if(stated, "use_bias", "bias")))
    elif kind == "RNN":
        yield from _within("/cell", stated.get("cell"))
    elif kind == "StackedRNNCells":
        listed = stated.get("cells")
        cells = [cell for cell in listed if isinstance(cell, Mapping)] if isinstance(listed, list) else []
        for name, cell in zip(numbered([str(cell.get("class_name")) for cell in cells]), cells, strict=True):
            yield from _within(f"/cells/{name}", cell)
    elif kind == "Bidirectional":
        yield from _within("/forward_layer", stated.get("layer"))
        yield from _within("/backward_layer", stated.get("layer"))
    elif kind == "TimeDistributed":
        yield from _within("/layer", stated.get("layer"))
    else:
        yield from (("", role, trainable) for role, trainable in _own(kind, stated))


def _own(kind: str, stated: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    if kind in ("Dense", "Conv1D"):
        yield from ((role, True) for role in ("kernel", *_if(stated, "use_bias", "bias")))
    elif kind == "Embedding":
        yield "embeddings", True
    elif kind in ("BatchNormalization", "LayerNormalization"):
        yield from ((role, True) for role in (*_if(stated, "scale", "gamma"), *_if(stated, "center", "beta")))
        if kind == "BatchNormalization":
            yield from ((role, False) for role in ("moving_mean", "moving_variance"))
    elif kind == "Normalization" and stated.get("mean") is None:
        yield from ((role, False) for role in ("mean", "variance", "count"))
    elif kind == "PReLU":
        yield "alpha", True


def _within(place: str, stated: Any) -> Iterator[tuple[str, str, bool]]:
    """Those of a layer inside a layer."""
    if not isinstance(stated, Mapping) or not isinstance(stated.get("config"), Mapping):
        return
    for inner, role, trainable in _of(str(stated.get("class_name")), stated["config"]):
        yield f"{place}{inner}", role, trainable


def _if(stated: Mapping[str, Any], key: str, role: str) -> tuple[str, ...]:
    return (role,) if stated.get(key, True) else ()
