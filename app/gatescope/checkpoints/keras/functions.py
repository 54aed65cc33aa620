"""Keras's activations under the names that a manifest has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatescope.cells import elu, hard_sigmoid, leaky_relu
from gatescope.checkpoints.keras.configuration import Configuration

_OF_ALL = {
    "linear": "linear",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softsign": "softsign",
    "softplus": "softplus",
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "exponential": "exponential",
}
_SLOPES = {2: hard_sigmoid(0.2, 0.5).name, 3: hard_sigmoid(1 / 6, 0.5).name}
"""Of `hard_sigmoid`, by the version of Keras."""

_OF_LAYERS = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "relu6": "relu6",
    "mish": "mish",
    "hard_tanh": "hardtanh",
}
"""What stands behind a layer, but in no cell."""

_KERAS_3 = 3
_LEAKY_RELU = leaky_relu(0.2).name  # of the function; a `LeakyReLU` layer states its own slope


def function_of(config: Configuration, key: str, default: str, major: int, *, in_cell: bool = False) -> str:
    """The function that a layer states under this key; `linear` for none."""
    stated = config.raw(key, default)
    if isinstance(stated, Mapping) and str(stated.get("class_name")) in _LAYERS:
        return _of_layer(config, key, stated)
    if isinstance(stated, Mapping):
        stated = _named(config, key, stated)
    if stated is None:
        return "linear"
    if isinstance(stated, str):
        if stated in _OF_ALL:
            return "exp" if not in_cell and stated == "exponential" else _OF_ALL[stated]
        if stated == "hard_sigmoid":
            return _SLOPES[major]
        if stated == "leaky_relu" and major == _KERAS_3:
            return _LEAKY_RELU
        if stated in _OF_LAYERS and not in_cell:
            return _OF_LAYERS[stated]
    raise config.refusal(f"has {key} = {stated!r}, a function that is not served: use one of {', '.join(_OF_ALL)}")


def relu_of(config: Configuration) -> str:
    """The function of a `ReLU` layer."""
    top, slope, threshold = (config.raw(key) for key in ("max_value", "negative_slope", "threshold"))
    if threshold in (None, 0, 0.0) and top is None and _is_number(slope or 0.0):
        return leaky_relu(float(slope)).name if slope else "relu"
    if threshold in (None, 0, 0.0) and top in (6, 6.0) and not slope:
        return "relu6"
    raise config.refusal(
        f"has max_value = {top}, negative_slope = {slope} and threshold = {threshold}: that is not served"
    )


def leaky_relu_of(config: Configuration) -> str:
    """The function of a `LeakyReLU` layer, whose slope is `alpha` in Keras 2."""
    slope = config.raw("negative_slope", config.raw("alpha", 0.3))
    if not _is_number(slope):
        raise config.refusal(f"has a slope of {slope!r}, which is no number")
    return leaky_relu(float(slope)).name


def elu_layer_of(config: Configuration) -> str:
    """The function of an `ELU` layer."""
    alpha = config.raw("alpha", 1.0)
    if not _is_number(alpha):
        raise config.refusal(f"has alpha = {alpha!r}, which is no number")
    return elu(float(alpha)).name


_LAYERS = {"ReLU": relu_of, "LeakyReLU": leaky_relu_of, "ELU": elu_layer_of}


def _of_layer(config: Configuration, key: str, stated: Mapping[str, Any]) -> str:
    """A function that is stated as a layer without weights."""
    kind, inner, registered = str(stated["class_name"]), stated.get("config"), stated.get("registered_name")
    if not isinstance(inner, Mapping) or registered not in (None, kind):
        raise config.refusal(f"has {key} = {kind!r}, a function of one's own, whose code is not in the file")
    own = Configuration(config.layer, kind, inner)
    made = _LAYERS[kind](own)
    own.finish()
    return made


def _named(config: Configuration, key: str, stated: Mapping[str, Any]) -> str:
    """A function of Keras's own that is stated as an object."""
    name, registered = stated.get("config"), stated.get("registered_name")
    if (
        stated.get("class_name") != "function"
        or not isinstance(name, str)
        or registered not in (None, "function", name)
    ):
        raise config.refusal(
            f"has {key} = {registered or name!r}, a function of one's own, whose code is not in the file"
        )
    return name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6  # noqa: PLR2004
