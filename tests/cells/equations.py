"""The equations of the cells in NumPy and float64, with any functions, as Keras and ONNX write them."""

import math

import numpy as np


def _elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


FUNCTIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "selu": lambda x: 1.0507009873554805 * _elu(x, 1.6732632423543772),
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "exponential": np.exp,
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid(1/6, 0.5)": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky_relu(0.2)": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: _elu(x, 1.0),
    "elu(0.5)": lambda x: _elu(x, 0.5),
}


def step(cell, functions, x, states, weights):
    """Every signal of one step (unit,), from x (feature,), states (unit,) and the weights of a direction."""
    w, u, b, c = weights
    act = {place: FUNCTIONS[name] for place, name in functions.items() if isinstance(name, str)}
    if cell == "rnn":
        z = w @ x + b + u @ states[0] + c
        return {"pre_activation": z, "hidden_state": act["candidate"](z)}
    if cell == "lstm":
        i, f, g, o = np.split(w @ x + b + u @ states[0] + c, 4)
        i, f, o, g = act["gate"](i), act["gate"](f), act["gate"](o), act["candidate"](g)
        c = f * states[1] + i * g
        h = o * act["output"](c)
        names = ("input_gate", "forget_gate", "cell_candidate", "output_gate", "cell_state", "hidden_state")
        return dict(zip(names, (i, f, g, o, c, h), strict=True))
    (wr, wz, wn), (ur, uz, un), (br, bz, bn), (cr, cz, cn) = (np.split(each, 3) for each in (w, u, b, c))
    (h,) = states
    r, z = act["gate"](wr @ x + br + ur @ h + cr), act["gate"](wz @ x + bz + uz @ h + cz)
    inner = un @ h + cn if functions["reset_after"] else un @ (r * h) + cn
    n = act["candidate"](wn @ x + bn + (r * inner if functions["reset_after"] else inner))
    names = ("reset_gate", "update_gate", "candidate", "recurrent_candidate", "hidden_state")
    return dict(zip(names, (r, z, n, inner, (1 - z) * n + z * h), strict=True))


def run(cell, functions, sequence, weights, states, layers=1, directions=1):
    """Every signal (layer, direction, time, unit), the output (time, unit) and final states (layer · direction, unit).

    Args:
        cell: "lstm", "gru" or "rnn".
        functions: names by place: gate, candidate, output; and whether reset_after.
        sequence: (time, feature).
        weights: W, U, b and c of each layer and direction.
        states: of each layer and direction, each state (unit,).
        layers: how many.
        directions: 1 or 2.
    """
    found, finals = [], []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            entry = layer * directions + direction
            now, steps = states[entry], {}
            order = range(len(sequence)) if direction == 0 else reversed(range(len(sequence)))
            for t in order:
                steps[t] = step(cell, functions, sequence[t], now, weights[entry])
                now = (steps[t]["hidden_state"],) + ((steps[t]["cell_state"],) if cell == "lstm" else ())
            finals.append(now)
            found.append({name: np.stack([steps[t][name] for t in range(len(sequence))]) for name in steps[0]})
            outputs.append(found[-1]["hidden_state"])
        sequence = np.concatenate(outputs, axis=-1)
    signals = {name: np.stack([each[name] for each in found]) for name in found[0]}
    shaped = {name: value.reshape(layers, directions, *value.shape[1:]) for name, value in signals.items()}
    return shaped, sequence, [np.stack(states) for states in zip(*finals, strict=True)]
