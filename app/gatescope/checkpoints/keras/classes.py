"""The classes of Keras that are known: what files call them, and what to do where one is not served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatescope.errors import CheckpointError
from gatescope.names import printable, quoted

MODELS = frozenset({"Sequential", "Functional", "Model"})
INPUT = "InputLayer"
COMPARES, COMBINES = "NotEqual", frozenset({"Any", "LogicalOr", "LogicalAnd", "ExpandDims"})
"""The operations with which Keras 3 computes which steps are masked."""
ITEM = "GetItem"
OPERATIONS = frozenset({COMPARES, ITEM, *COMBINES})
"""What is listed among the layers, but is none."""

OF_OPERATIONS = "keras.src.ops"
"""How the module of an operation begins, as a `.keras` file states it."""

STORED = {
    "LSTM": "lstm",
    "GRU": "gru",
    "SimpleRNN": "simple_rnn",
    "RNN": "rnn",
    "LSTMCell": "lstm_cell",
    "GRUCell": "gru_cell",
    "SimpleRNNCell": "simple_rnn_cell",
    "Bidirectional": "bidirectional",
    "TimeDistributed": "time_distributed",
    "Embedding": "embedding",
    "Masking": "masking",
    "Dense": "dense",
    "Conv1D": "conv1d",
    "BatchNormalization": "batch_normalization",
    "LayerNormalization": "layer_normalization",
    "Normalization": "normalization",
    "Activation": "activation",
    "ReLU": "re_lu",
    "LeakyReLU": "leaky_re_lu",
    "ELU": "elu",
    "PReLU": "p_re_lu",
    "Softmax": "softmax",
    "Dropout": "dropout",
    "SpatialDropout1D": "spatial_dropout1d",
    "GaussianNoise": "gaussian_noise",
    "GaussianDropout": "gaussian_dropout",
    "AlphaDropout": "alpha_dropout",
    "ActivityRegularization": "activity_regularization",
    "GlobalAveragePooling1D": "global_average_pooling1d",
    "GlobalMaxPooling1D": "global_max_pooling1d",
    "Flatten": "flatten",
    "Concatenate": "concatenate",
    "Add": "add",
    "Multiply": "multiply",
    INPUT: "input_layer",
    "Sequential": "sequential",
    "Functional": "functional",
    "Model": "functional",
}
"""Class -> what `.keras` files call layers of it; they number those of one class from the second on."""


def numbered(kinds: Sequence[str]) -> list[str]:
    """What a `.keras` file calls layers of these classes, such as `lstm` and `lstm_1`."""
    used: dict[str, int] = {}
    names = []
    for kind in kinds:
        base = STORED.get(kind, kind.lower())
        count = used.get(base, 0)
        used[base] = count + 1
        names.append(f"{base}_{count}" if count else base)
    return names


REMEDIES = {
    "Lambda": "its code is not run: build the model without it",
    "RepeatVector": "a sequence as long as it says cannot be made of a vector: predict at each step instead",
    "Reshape": "steps and numbers cannot change places",
    "Permute": "steps and numbers cannot change places",
    "MaxPooling1D": "it changes the number of steps",
    "AveragePooling1D": "it changes the number of steps",
    "UpSampling1D": "it changes the number of steps",
    "ZeroPadding1D": "it changes the number of steps",
    "Cropping1D": "it changes the number of steps",
    "ConvLSTM1D": "only LSTM, GRU and SimpleRNN are served",
    "ConvLSTM2D": "only LSTM, GRU and SimpleRNN are served",
    "CuDNNLSTM": "load it with Keras 2, build it with LSTM, and save that",
    "CuDNNGRU": "load it with Keras 2, build it with GRU(reset_after=True), and save that",
}


def refusal(name: str, kind: str) -> str:
    """Why a layer of this class is not served, and what to do."""
    remedy = REMEDIES.get(kind) or "serve the part of the model without it, or the whole as a custom module"
    return f"its layer {quoted(name)} is a {printable(kind)}, which is not served: {remedy}"


def check_builtin(given: Mapping[str, Any], name: str, kind: str) -> None:
    """Refuse what is registered by somebody else under a name of Keras's."""
    module, registered = given.get("module"), given.get("registered_name")
    is_own = module is None or (isinstance(module, str) and module.split(".")[0] == "keras")
    if not is_own or (registered is not None and registered not in (kind, "")):
        raise CheckpointError(
            f"its layer {quoted(name)} is {quoted(registered or f'{module}.{kind}')}, a class of one's own, whose code "
            "is not in the file: build the model of Keras's own layers"
        )
