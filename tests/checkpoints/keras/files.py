"""Keras files written by hand, with h5py and zipfile alone: a model's configuration and the weights of its layers."""

import json
import zipfile
from io import BytesIO

import h5py
import numpy as np

SIZES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
STORED = {
    "LSTM": "lstm",
    "GRU": "gru",
    "SimpleRNN": "simple_rnn",
    "Dense": "dense",
    "Bidirectional": "bidirectional",
    "Embedding": "embedding",
}


def layer(kind, name=None, **stated):
    """One entry of a configuration, as both kinds of file have it."""
    name = name or STORED.get(kind, kind.lower())
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **stated}, "registered_name": None}


def recurrent(kind, units, name=None, **more):
    stated = {"units": units, "activation": "tanh", "return_sequences": False, "use_bias": True} | more
    if kind != "SimpleRNN":
        stated.setdefault("recurrent_activation", "sigmoid")
    return layer(kind, name, **stated)


def sequential(*layers, shape=(None, 3), **more):
    """The configuration of a `Sequential`."""
    first = layer("InputLayer", "input_layer", batch_shape=[None, *shape], dtype="float32")
    listed = [first, *layers] if shape is not None else list(layers)
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "sequential", "layers": listed}, **more}


def weights_of(kind, features, units, seed=0, *, bias_rows=None):
    """Kernel, recurrent kernel and bias of a recurrent layer."""
    rng, rows = np.random.default_rng(seed), SIZES[kind] * units
    bias = (rows,) if bias_rows is None else (bias_rows, rows)
    return [rng.normal(0, 0.5, shape).astype(np.float32) for shape in ((features, rows), (units, rows), bias)]


RNG = np.random.default_rng(5)
HEAD = [RNG.normal(0, 1, shape).astype(np.float32) for shape in ((4, 2), (2,))]
"""The weights of a `Dense` layer behind four units."""

ROLES = ("kernel", "recurrent_kernel", "bias")


def write_keras(path, config, weights, version="3.15.1"):
    """`weights`: place such as "layers/lstm/cell" -> arrays in order."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", config if isinstance(config, str | bytes) else json.dumps(config))
        archive.writestr("model.weights.h5", hdf5(weights))
    return path


def hdf5(weights):
    content = BytesIO()
    with h5py.File(content, "w") as file:
        for place, arrays in weights.items():
            for index, values in enumerate(arrays):
                file[f"{place}/vars/{index}"] = values
    return content.getvalue()


def write_h5(path, config, weights, version="2.15.0"):
    """`weights`: layer -> {name of the weight: array}, in order."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = config if isinstance(config, str | bytes) else json.dumps(config)
        if version is not None:
            file.attrs["keras_version"] = version
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            own = group.create_group(name)
            own.attrs["weight_names"] = [f"{name}/{key}:0".encode() for key in arrays]
            for key, values in arrays.items():
                own[f"{name}/{key}:0"] = values
    return path


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run(kind, x, weights, *, activation=np.tanh, gate=sigmoid, reset_after=True):
    """Keras's own equations in float64: x (time, feature) -> (time, unit)."""
    kernel, recurrent_kernel, bias = (np.asarray(each, np.float64) for each in weights)
    units = len(recurrent_kernel)
    h, c, outputs = np.zeros(units), np.zeros(units), []
    for step in np.asarray(x, np.float64):
        if kind == "SimpleRNN":
            h = activation(step @ kernel + bias + h @ recurrent_kernel)
        elif kind == "LSTM":
            i, f, g, o = np.split(step @ kernel + h @ recurrent_kernel + bias, 4)
            c = gate(f) * c + gate(i) * activation(g)
            h = gate(o) * activation(c)
        else:
            h = _gru(step @ kernel, h, recurrent_kernel, bias, activation, gate, reset_after)
        outputs.append(h)
    return np.stack(outputs)


def _gru(inputs, h, kernel, bias, activation, gate, reset_after):
    of_inputs, of_state = bias if reset_after else (bias, np.zeros_like(bias))
    x_z, x_r, x_h = np.split(inputs + of_inputs, 3)
    u_z, u_r, u_h = np.split(kernel, 3, axis=1)
    b_z, b_r, b_h = np.split(of_state, 3)
    z, r = gate(x_z + h @ u_z + b_z), gate(x_r + h @ u_r + b_r)
    inner = r * (h @ u_h + b_h) if reset_after else (r * h) @ u_h
    return z * h + (1 - z) * activation(x_h + inner)


def dense(units=2, activation="linear", name="dense"):
    return layer("Dense", name, units=units, activation=activation, use_bias=True)


def functional(layers, inputs, outputs):
    return {
        "module": "keras",
        "class_name": "Functional",
        "config": {"name": "functional", "layers": layers, "input_layers": inputs, "output_layers": outputs},
    }


def keras_3(entry, *reads, **keywords):
    def tensor(name, number=0):
        history = {"keras_history": [name, number, 0]}
        return {"class_name": "__keras_tensor__", "config": history}

    given = [tensor(*read) if isinstance(read, tuple) else tensor(read) for read in reads]
    args = [given] if len(given) > 1 else given
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": [{"args": args, "kwargs": keywords}]}


def an_input(name="x", shape=(None, 3)):
    entry = layer("InputLayer", name, batch_shape=[None, *shape], dtype="float32")
    return {**entry, "name": name, "inbound_nodes": []}


LSTM = recurrent("LSTM", 4)
PLACES = {"layers/lstm/cell": weights_of("LSTM", 3, 4), "layers/dense": HEAD}
"""Of `LSTM` and a `Dense` layer, by place."""
