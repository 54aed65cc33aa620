"""`LSTM`, `GRU`, `SimpleRNN`, `RNN` and `Bidirectional`, with their weights in PyTorch's order.

Keras has its kernels transposed, an LSTM's gates in the order i, f, c, o, which is PyTorch's, and a GRU's in the order
z, r, h, where PyTorch has r, z, n.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gatescope.checkpoints.keras.classes import numbered
from gatescope.checkpoints.keras.configuration import Configuration
from gatescope.checkpoints.keras.functions import function_of
from gatescope.checkpoints.keras.nodes import Node
from gatescope.checkpoints.keras.translation import Translation, Value, configuration, inside, only

LAYERS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "rnn"}
CELLS = {"LSTMCell": "lstm", "GRUCell": "gru", "SimpleRNNCell": "rnn"}
_BLOCKS = {"lstm": 4, "gru": 3, "rnn": 1}
_MERGES = {"sum": "sum", "ave": "mean", "mul": "product"}


def recurrent(made: Translation, node: Node, given: list[Value]) -> Value:
    """A layer that reads forward."""
    config, read = configuration(node), only(node, given, "sequence")
    return_sequences = _called(made, config)
    cell = LAYERS[node.kind]
    functions = _functions(made, config, cell)
    weights = _weights(made, node, config, cell, "/cell")
    config.finish()
    value = _layer(made, node.name, cell, read, functions, weights, node)
    return value if return_sequences else _pooled(made, node.name, value, "last")


def rnn(made: Translation, node: Node, given: list[Value]) -> Value:
    """An `RNN` around one cell, or several that are stacked: a layer for each."""
    config, value = configuration(node), only(node, given, "sequence")
    return_sequences = _called(made, config)
    cell = inside(node, config, config.raw("cell"))
    config.finish()
    cells = [("", "/cell", cell)]
    if cell.kind == "StackedRNNCells":
        stacked = configuration(cell)
        listed = [inside(node, config, each) for each in stacked.get("cells", list, [])]
        stacked.expect("reverse_state_order", False, why="states in another order are not served")
        stacked.finish()
        names = numbered([each.kind for each in listed])
        cells = [
            (f".{index}", f"/cell/cells/{name}", each)
            for index, (name, each) in enumerate(zip(names, listed, strict=True))
        ]
    for suffix, inner, each in cells:
        own = Configuration(node.name, each.kind, each.stated)
        if each.kind not in CELLS:
            raise own.refusal("is a cell that is not served: LSTMCell, GRUCell and SimpleRNNCell are")
        functions = _functions(made, own, CELLS[each.kind])
        weights = _weights(made, node, own, CELLS[each.kind], inner)
        own.finish()
        value = _layer(made, f"{node.name}{suffix}", CELLS[each.kind], value, functions, weights, node)
    return value if return_sequences else _pooled(made, node.name, value, "last")


def bidirectional(made: Translation, node: Node, given: list[Value]) -> Value:
    """Two directions side by side, and what is made of them."""
    config, read = configuration(node), only(node, given, "sequence")
    forward = inside(node, config, config.raw("layer"))
    own = Configuration(node.name, forward.kind, forward.stated)
    if forward.kind not in LAYERS:
        raise own.refusal("is within Bidirectional, where LSTM, GRU and SimpleRNN are served")
    merge = config.raw("merge_mode", "concat")
    if merge not in (*_MERGES, "concat"):
        raise config.refusal(f"has merge_mode = {merge!r}: concat, sum, ave and mul are served")
    _check_backward(config, own, inside(node, config, config.raw("backward_layer", config.raw("layer"))), made)
    config.finish()
    return_sequences = _called(made, own)
    cell = LAYERS[forward.kind]
    functions = _functions(made, own, cell)
    weights = {
        f"{name}{suffix}": value
        for suffix, side in (("", "forward_layer"), ("_reverse", "backward_layer"))
        for name, value in _weights(made, node, own, cell, f"/{side}/cell").items()
    }
    own.finish()
    value = _layer(made, node.name, cell, read, functions, weights, node)
    if not return_sequences:
        value = _pooled(made, node.name, value, "final")
    if merge == "concat":
        return value
    return made.add(f"{node.name}.merged", "directions", [value], value.kind, how=_MERGES[merge])


def _check_backward(config: Configuration, forward: Configuration, node: Node, made: Translation) -> None:
    """Refuse a backward layer that is another one than the forward layer."""
    if node.kind != forward.kind:
        raise config.refusal(f"reads backward with another layer ({node.kind}) than forward ({forward.kind})")
    backward = Configuration(forward.layer, node.kind, node.stated)
    if config.raw("backward_layer") is not None:
        backward.expect("go_backwards", True, why="its backward layer must read backward")
    for key in ("units", "use_bias", "return_sequences", "reset_after", "time_major"):
        one, other = forward.raw(key), backward.raw(key)
        if one != other:
            raise config.refusal(f"reads backward with {key} = {other!r}, and forward with {one!r}: that is not served")
    for key in ("activation", "recurrent_activation"):
        one, other = (function_of(each, key, "tanh", made.major, in_cell=True) for each in (forward, backward))
        if one != other:
            raise config.refusal(f"reads backward with {key} = {other}, and forward with {one}: that is not served")
    _called(made, backward, goes_backwards=None)
    backward.finish()


def _called(made: Translation, config: Configuration, *, goes_backwards: bool | None = False) -> bool:
    """Whether it gives a value at every step; what is not served is refused."""
    if goes_backwards is not None:
        config.expect("go_backwards", goes_backwards, why="a layer that reads backward goes into Bidirectional")
    config.expect("time_major", False, why="the batch comes first here")
    if config.get("stateful", bool, False):
        note = "A stateful layer starts every request from zeros; a session carries its state."
        made.notes += [] if note in made.notes else [note]
    config.get("return_state", bool, False)  # what reads a state is refused where it is read
    return config.get("return_sequences", bool, False)


def _functions(made: Translation, config: Configuration, cell: str) -> dict[str, Any]:
    """What the manifest states of a layer's functions; nothing where they are PyTorch's."""
    stated: dict[str, Any] = {}
    activation = function_of(config, "activation", "tanh", made.major, in_cell=True)
    if cell == "rnn":
        return {} if activation == "tanh" else {"activation": activation}
    gate = function_of(config, "recurrent_activation", "sigmoid", made.major, in_cell=True)
    if activation != "tanh":
        stated["activation"] = activation
    if gate != "sigmoid":
        stated["recurrent_activation"] = gate
    if cell == "gru" and not config.get("reset_after", bool, False):
        stated["reset_after"] = False
    return stated


def _weights(made: Translation, node: Node, config: Configuration, cell: str, inner: str) -> dict[str, Tensor]:
    """The parameters of one direction under PyTorch's names."""
    units, has_bias = config.need("units", int), config.get("use_bias", bool, True)
    rows = _BLOCKS[cell] * units
    kernel, recurrent_kernel = (
        made.take(node, inner, "kernel", None, rows),
        made.take(node, inner, "recurrent_kernel", units, rows),
    )
    weights = {"weight_ih_l0": _rows(kernel.T, cell, units), "weight_hh_l0": _rows(recurrent_kernel.T, cell, units)}
    if not has_bias:
        return weights
    if cell == "gru" and config.get("reset_after", bool, False):
        bias, recurrent_bias = made.take(node, inner, "bias", 2, rows)
    else:
        bias = made.take(node, inner, "bias", rows)
        recurrent_bias = torch.zeros(rows)
    biases = {"bias_ih_l0": _rows(bias, cell, units), "bias_hh_l0": _rows(recurrent_bias, cell, units)}
    return weights | biases


def _rows(values: Tensor, cell: str, units: int) -> Tensor:
    """Row blocks in PyTorch's order."""
    if cell != "gru":
        return values.contiguous()
    update, reset, candidate = values.split_with_sizes([units] * 3)
    return torch.cat((reset, update, candidate))


def _layer(
    made: Translation,
    name: str,
    cell: str,
    read: Value,
    functions: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    node: Node,
) -> Value:
    shared = name.replace(node.name, node.weights, 1)
    made.weights |= {f"{shared}.{key}": value for key, value in weights.items()}
    own = {} if shared == name else {"weights": shared}
    return made.add(name, cell, [read], "sequence", **functions, **own)


def _pooled(made: Translation, name: str, value: Value, how: str) -> Value:
    return made.add(f"{name}.{how}", "pool", [value], "vector", how=how)
