"""Every layer that is not recurrent, and the operations between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gatescope.checkpoints.keras import functions
from gatescope.checkpoints.keras.classes import COMBINES, COMPARES, ITEM, refusal
from gatescope.checkpoints.keras.configuration import Configuration
from gatescope.checkpoints.keras.nodes import Node
from gatescope.checkpoints.keras.recurrent import bidirectional, recurrent, rnn
from gatescope.checkpoints.keras.translation import RANKS, Translation, Value, configuration, inside, only
from gatescope.errors import CheckpointError
from gatescope.names import quoted
from gatescope.pipeline.graph import INPUTS

EPSILON = 1e-7
"""Keras's own: the least standard deviation that `Normalization` divides by."""

Translate = Callable[[Translation, Node, list[Value]], Value]


def translate(made: Translation, node: Node, given: list[Value]) -> Value:
    """Put one layer into the manifest.

    Raises:
        CheckpointError: it computes what no layer of a manifest does, or is given what it cannot read.
    """
    translated = LAYERS.get(node.kind)
    if translated is None:
        raise CheckpointError(refusal(node.name, node.kind))
    if any(value.kind == "mask" for value in given) and node.kind not in (COMPARES, *COMBINES):
        raise CheckpointError(f"its layer {quoted(node.name)} reads a mask, which is not served")
    return translated(made, node, given)


def _embedding(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "ids")
    rows, width = config.need("input_dim", int), config.need("output_dim", int)
    if config.get("mask_zero", bool, False):
        made.padding = 0
    made.weights[f"{node.weights}.weight"] = made.take(node, "", "embeddings", rows, width)
    config.finish()
    return made.add(node.name, "embedding", [read], "sequence", **_shared(node))


def _masking(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence")
    value = config.get("mask_value", float, 0.0)
    config.finish()
    if read.name != INPUTS:
        raise config.refusal("does not read the inputs: a mask elsewhere is not served; put it first")
    if made.masked not in (None, value) or not np.isfinite(value):
        raise config.refusal("is the second that reads the inputs, with another mask_value")
    made.masked = value
    return read


def _compares(made: Translation, node: Node, given: list[Value]) -> Value:
    """Keras 3 lists how it computes a mask; it must be the one that requests are held against."""
    read = only(node, given, "ids", "sequence")
    (constant,) = node.arguments if len(node.arguments) == 1 else (None,)
    known = (0,) if read.kind == "ids" else made.mask_values
    if read.name != INPUTS or not isinstance(constant, int | float) or constant not in known:
        raise CheckpointError(f"its layer {quoted(node.name)} compares numbers: only Keras's own masks are served")
    return Value(node.name, "mask")


def _combines(made: Translation, node: Node, given: list[Value]) -> Value:  # noqa: ARG001 - it has no weights
    if not given or any(value.kind != "mask" for value in given):
        raise CheckpointError(f"its layer {quoted(node.name)} combines what are no masks, which is not served")
    return Value(node.name, "mask")


def _item(made: Translation, node: Node, given: list[Value]) -> Value:
    """`x[:, -1]` and `x[:, 0]`: the last and the first step."""
    read = only(node, given, "sequence")
    everything = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}
    (parts,) = node.arguments if len(node.arguments) == 1 else ([],)
    how = {-1: "last", 0: "first"}.get(parts[1]) if _is_step(parts) else None
    if how is None or parts[0] != everything or any(each != everything for each in parts[2:]):
        raise CheckpointError(f"its layer {quoted(node.name)} takes a part: only x[:, -1] and x[:, 0] are served")
    return made.add(node.name, "pool", [read], "vector", how=how)


def _is_step(parts: Any) -> bool:
    return isinstance(parts, list) and len(parts) in (2, 3) and type(parts[1]) is int


def _dense(made: Translation, node: Node, given: list[Value], inner: str = "") -> Value:
    config, read = configuration(node), only(node, given, "sequence", "vector")
    units = config.need("units", int)
    made.weights[f"{node.weights}.weight"] = made.take(node, inner, "kernel", None, units).T.contiguous()
    if config.get("use_bias", bool, True):
        made.weights[f"{node.weights}.bias"] = made.take(node, inner, "bias", units)
    function = functions.function_of(config, "activation", "linear", made.major)
    config.finish()
    value = made.add(node.name, "linear", [read], read.kind, **_shared(node))
    return made.function(f"{node.name}.activation", value, function)


def _convolution(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence")
    filters = config.need("filters", int)
    (size,), (dilation,) = (
        _numbers(config, key, default) for key, default in (("kernel_size", 0), ("dilation_rate", 1))
    )
    if _numbers(config, "strides", 1) != [1]:
        raise config.refusal("has strides above 1, which changes the number of steps: that is not served")
    padding = config.raw("padding", "valid")
    if padding not in ("same", "causal"):
        raise config.refusal(
            f"has padding = {padding!r}, which changes the number of steps: same and causal are served"
        )
    if padding == "same" and (size - 1) * dilation % 2:
        raise config.refusal(
            f"has an even kernel of {size} with padding = 'same', which cannot be centred: that is not served"
        )
    config.expect("data_format", "channels_last", why="numbers of a step come last here")
    config.get("groups", int, 1)
    made.weights[f"{node.weights}.weight"] = (
        made.take(node, "", "kernel", size, None, filters).permute(2, 1, 0).contiguous()
    )
    if config.get("use_bias", bool, True):
        made.weights[f"{node.weights}.bias"] = made.take(node, "", "bias", filters)
    function = functions.function_of(config, "activation", "linear", made.major)
    config.finish()
    stated = {"padding": padding, "dilation": dilation}
    value = made.add(node.name, "conv1d", [read], "sequence", **stated, **_shared(node))
    return made.function(f"{node.name}.activation", value, function)


def _numbers(config: Configuration, key: str, default: int) -> list[int]:
    """A number, which may stand in a list of one."""
    stated = config.raw(key, default)
    listed = stated if isinstance(stated, list) else [stated]
    if len(listed) != 1 or type(listed[0]) is not int or not 1 <= listed[0] <= 1_000_000:  # noqa: PLR2004
        raise config.refusal(f"has {key} = {stated!r}, which cannot be")
    return listed


def _batch_norm(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence", "vector")
    _check_axis(config, read)
    config.expect("renorm", False, why="batch renormalization is not served")
    stated = {"eps": _epsilon(config)}
    made.weights[f"{node.weights}.running_mean"] = made.take(node, "", "moving_mean", None)
    made.weights[f"{node.weights}.running_var"] = made.take(node, "", "moving_variance", None)
    _affine(made, node, config)
    config.raw("fused")
    config.raw("renorm_clipping")
    config.finish()
    return made.add(node.name, "batch_norm", [read], read.kind, **stated, **_shared(node))


def _layer_norm(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence", "vector")
    _check_axis(config, read)
    config.expect("rms_scaling", False, why="it is not a LayerNormalization then; that is not served")
    stated = {"eps": _epsilon(config)}
    _affine(made, node, config)
    config.finish()
    return made.add(node.name, "layer_norm", [read], read.kind, **stated, **_shared(node))


def _affine(made: Translation, node: Node, config: Configuration) -> None:
    for key, role, name in (("scale", "gamma", "weight"), ("center", "beta", "bias")):
        if config.get(key, bool, True):
            made.weights[f"{node.weights}.{name}"] = made.take(node, "", role, None)


def _epsilon(config: Configuration) -> float:
    value = config.get("epsilon", float, 1e-3)
    if not 0 < value < 1e6:  # noqa: PLR2004
        raise config.refusal(f"has epsilon = {value}, which cannot be")
    return value


def _check_axis(config: Configuration, read: Value) -> None:
    """It goes over the numbers of a step, which stand in the last axis."""
    axis = config.raw("axis", -1)
    if axis not in (-1, [-1], RANKS[read.kind] - 1, [RANKS[read.kind] - 1]):
        raise config.refusal(f"goes over axis {axis!r}: only the last one, the numbers of a step, is served")


def _normalization(made: Translation, node: Node, given: list[Value]) -> Value:
    """(x − mean) / max(√variance, 1e-7): the scaling of the features, or a norm whose variance is 1."""
    config, read = configuration(node), only(node, given, "sequence", "vector")
    _check_axis(config, read)
    is_inverse, stated = config.get("invert", bool, False), [config.raw(key) for key in ("mean", "variance")]
    config.finish()
    if stated[0] is None:
        mean, variance = (made.take(node, "", role, None).double().numpy() for role in ("mean", "variance"))
    else:
        mean, variance = (_stated_numbers(config, each) for each in stated)
    if (variance < 0).any() or mean.shape != variance.shape:
        raise config.refusal("has a variance below 0, or of another number of features than its mean")
    std = np.maximum(np.sqrt(variance), EPSILON)
    if read.name == INPUTS and made.scales_inputs and not is_inverse:
        made.scaling = mean, std
        return read
    zeros = torch.zeros(len(mean))
    center, scale, shift = (zeros, std, mean) if is_inverse else (mean, 1 / std, np.zeros(len(mean)))
    own = {"running_mean": center, "running_var": zeros, "weight": scale, "bias": shift}
    made.weights |= {f"{node.weights}.{name}": torch.as_tensor(value).float().clone() for name, value in own.items()}
    return made.add(node.name, "batch_norm", [read], read.kind, eps=1.0, **_shared(node))


def _stated_numbers(config: Configuration, stated: Any) -> np.ndarray:
    try:
        values = np.asarray(stated, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty((0, 0))
    if values.ndim == 3 and values.shape[:2] == (1, 1):  # noqa: PLR2004 - batch and time
        values = values[0, 0]
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise config.refusal(
            "states a mean or variance that is no list of a number for each feature: that is not served"
        )
    return values


def _activation(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence", "vector")
    function = functions.function_of(config, "activation", "linear", made.major)
    config.finish()
    return made.function(node.name, read, function)


def _function_layer(of: Callable[[Configuration], str]) -> Translate:
    def translated(made: Translation, node: Node, given: list[Value]) -> Value:
        config, read = configuration(node), only(node, given, "sequence", "vector")
        function = of(config)
        config.finish()
        return made.function(node.name, read, function)

    return translated


def _softmax(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence", "vector")
    _check_axis(config, read)
    config.finish()
    return made.function(node.name, read, "softmax")


def _prelu(made: Translation, node: Node, given: list[Value]) -> Value:
    config, read = configuration(node), only(node, given, "sequence", "vector")
    shared = config.raw("shared_axes")
    config.finish()
    if read.kind == "sequence" and shared != [1]:
        raise config.refusal("has a slope for each step: PReLU(shared_axes=[1]) is served")
    axes = (1, None) if read.kind == "sequence" else (None,)
    made.weights[f"{node.weights}.weight"] = made.take(node, "", "alpha", *axes).reshape(-1)
    return made.add(node.name, "prelu", [read], read.kind, **_shared(node))


def _identity(made: Translation, node: Node, given: list[Value]) -> Value:  # noqa: ARG001 - it changes nothing
    """What acts in training only."""
    return only(node, given, "sequence", "vector")


def _flatten(made: Translation, node: Node, given: list[Value]) -> Value:  # noqa: ARG001 - it changes nothing
    if given and given[0].kind == "vector":
        return given[0]
    raise configuration(node).refusal("makes one vector of all steps, as many as the training had: that is not served")


def _pool(how: str) -> Translate:
    def translated(made: Translation, node: Node, given: list[Value]) -> Value:
        config, read = configuration(node), only(node, given, "sequence")
        config.expect("data_format", "channels_last", why="numbers of a step come last here")
        config.expect("keepdims", False, why="that is not served")
        config.finish()
        return made.add(node.name, "pool", [read], "vector", how=how)

    return translated


def _merge(kind: str) -> Translate:
    def translated(made: Translation, node: Node, given: list[Value]) -> Value:
        config = configuration(node)
        kinds = {value.kind for value in given}
        if len(given) < 2 or kinds not in ({"sequence"}, {"vector"}):  # noqa: PLR2004
            raise config.refusal(f"joins {', '.join(value.kind for value in given)}: sequences, or vectors, are served")
        if kind == "concat":
            _check_axis(config, given[0])
        config.finish()
        return made.add(node.name, kind, given, given[0].kind)

    return translated


def _time_distributed(made: Translation, node: Node, given: list[Value]) -> Value:
    """The layer inside at every step: on a sequence what it is on a vector."""
    config, read = configuration(node), only(node, given, "sequence")
    within = inside(node, config, config.raw("layer"))
    config.finish()
    if within.kind == "Dense":
        return _dense(made, within, [read], "/layer")
    if within.kind not in ("Activation", "ReLU", "LeakyReLU", "ELU", *_IDENTITIES):
        raise config.refusal(f"applies a {within.kind} at every step: Dense, functions and dropout are served")
    return translate(made, within, [read])


def _shared(node: Node) -> dict[str, str]:
    """Where the weights of a layer are that is called twice."""
    return {} if node.weights == node.name else {"weights": node.weights}


_IDENTITIES = (
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
)

LAYERS: dict[str, Translate] = {
    "LSTM": recurrent,
    "GRU": recurrent,
    "SimpleRNN": recurrent,
    "RNN": rnn,
    "Bidirectional": bidirectional,
    "Embedding": _embedding,
    "Masking": _masking,
    COMPARES: _compares,
    **dict.fromkeys(COMBINES, _combines),
    ITEM: _item,
    "Dense": _dense,
    "Conv1D": _convolution,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Normalization": _normalization,
    "Activation": _activation,
    "ReLU": _function_layer(functions.relu_of),
    "LeakyReLU": _function_layer(functions.leaky_relu_of),
    "ELU": _function_layer(functions.elu_layer_of),
    "PReLU": _prelu,
    "Softmax": _softmax,
    **dict.fromkeys(_IDENTITIES, _identity),
    "GlobalAveragePooling1D": _pool("mean"),
    "GlobalMaxPooling1D": _pool("max"),
    "Flatten": _flatten,
    "Concatenate": _merge("concat"),
    "Add": _merge("add"),
    "Multiply": _merge("multiply"),
    "TimeDistributed": _time_distributed,
}
"""By class."""
