"""Models of format 2 around `nn.GRU` and `nn.RNN`, and their equations in NumPy and float64."""

import json
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

MANIFEST = """
format = 2
description = "{name}"
[input]
kind = "features"
features = [{{name = "a"}}, {{name = "b", mean = 1.0, std = 2.0}}, {{name = "c"}}]
{layers}
[[layers]]
name = "head"
type = "linear"
[[heads]]
task = "regression"
names = ["x", "y"]
"""

EXAMPLE = '[[examples]]\ntitle = "some steps"\nfile = "example.json"\n'

LAYER = '[[layers]]\nname = "{name}"\ntype = "{type}"\n{more}'

ON_REQUEST = {"gru": ["recurrent_candidate"], "rnn": ["pre_activation"]}
SIGNALS = {"gru": ["reset_gate", "update_gate", "candidate", "hidden_state"], "rnn": ["hidden_state"]}
ALL = {"gru": [*SIGNALS["gru"], *ON_REQUEST["gru"]], "rnn": [*SIGNALS["rnn"], *ON_REQUEST["rnn"]]}


@dataclass
class Made:
    """A model: its recurrent modules in order, in float64, and its head."""

    cell: str
    modules: dict[str, nn.RNNBase]
    head: nn.Linear = field(init=False)

    def __post_init__(self):
        last = list(self.modules.values())[-1]
        self.head = nn.Linear(last.hidden_size * (2 if last.bidirectional else 1), 2)
        for place, module in enumerate((*self.modules.values(), self.head)):
            _fill(module, place)

    @property
    def module(self):
        return next(iter(self.modules.values()))

    @property
    def directions(self):
        return ["forward", "reverse"][: 1 + self.module.bidirectional]

    def layers(self):
        for name, module in self.modules.items():
            is_relu = getattr(module, "nonlinearity", "") == "relu"
            kind = type(module).__name__.lower()
            yield LAYER.format(name=name, type=kind, more='nonlinearity = "relu"\n' if is_relu else "")

    def weights(self):
        named = {**self.modules, "head": self.head}.items()
        return {
            f"{layer}.{key}": value.detach().float().contiguous()
            for layer, module in named
            for key, value in module.state_dict().items()
        }

    def run(self, rows, states=None):
        """What torch says of one raw sequence: prediction, and of each module its output and final state."""
        values, ends, outputs = fed(rows)[None], {}, {}
        with torch.no_grad():
            for name, module in self.modules.items():
                values, ends[name] = module(values, (states or {}).get(name))
                outputs[name] = values[0].numpy()
            return self.head(values)[0].numpy(), outputs, ends


def _fill(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.6, 0.6, generator=generator)
            parameter.copy_(parameter.float().double())  # what the file holds
    module.double().eval()


def made():
    """The models by name."""

    def gru(*sizes, **more):
        return nn.GRU(*sizes, batch_first=True, **more)

    def rnn(*sizes, **more):
        return nn.RNN(*sizes, batch_first=True, **more)

    return {
        "gru": Made("gru", {"g": gru(3, 5, 2)}),
        "gru-both": Made("gru", {"g": gru(3, 4, 2, bidirectional=True)}),
        "gru-unbiased": Made("gru", {"g": gru(3, 4, bias=False)}),
        "tanh": Made("rnn", {"r": rnn(3, 5, 2)}),
        "relu": Made("rnn", {"r": rnn(3, 5, nonlinearity="relu")}),
        "relu-both": Made("rnn", {"r": rnn(3, 4, 2, nonlinearity="relu", bidirectional=True)}),
        "mixed": Made("gru", {"first": gru(3, 4), "second": nn.LSTM(4, 5, batch_first=True), "third": rnn(5, 3)}),
    }


def write(root, models, example=None):
    """The folders of the models; each with a request to try, where one is given."""
    for name, each in models.items():
        (root / name / "1").mkdir(parents=True)
        manifest = MANIFEST.format(name=name, layers="".join(each.layers()))
        if example is not None:
            manifest += EXAMPLE
            (root / name / "example.json").write_text(json.dumps(example))
        (root / name / "model.toml").write_text(manifest)
        save_file(each.weights(), root / name / "1" / "model.safetensors")


def fed(rows):
    """What the recurrent layers read of a raw sequence, (time, feature)."""
    values = np.asarray(rows, dtype=np.float64).copy()
    values[:, 1] = (values[:, 1] - 1.0) / 2.0
    return torch.from_numpy(values)


def equations(module, x, initial=None):
    """Every signal (layer, direction, time, unit) of one sequence, by PyTorch's equations, one product at a time.

    Args:
        module: an `nn.GRU` or an `nn.RNN` in float64.
        x: (time, feature).
        initial: (layers · directions, unit); zeros where it is None.
    """
    size, count = module.hidden_size, 2 if module.bidirectional else 1
    weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    layers, below = [], np.asarray(x)
    for layer in range(module.num_layers):
        found = []
        for direction in range(count):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            w_i, w_h = weights[f"weight_ih{suffix}"], weights[f"weight_hh{suffix}"]
            b_i = weights.get(f"bias_ih{suffix}", np.zeros(len(w_i)))
            b_h = weights.get(f"bias_hh{suffix}", np.zeros(len(w_h)))
            h = np.zeros(size) if initial is None else np.asarray(initial[layer * count + direction])
            steps = []
            for row in below[::-1] if direction else below:
                i, r = w_i @ row + b_i, w_h @ h + b_h
                said = _gru(i, r, h, size) if isinstance(module, nn.GRU) else _rnn(i + r, module.nonlinearity)
                h = said["hidden_state"]
                steps.append(said)
            found.append(steps[::-1] if direction else steps)
        layers.append(found)
        below = np.concatenate([np.stack([step["hidden_state"] for step in steps]) for steps in found], axis=1)
    return {name: np.array([[[s[name] for s in d] for d in each] for each in layers]) for name in layers[0][0][0]}


def _gru(i, h_part, h, size):
    blocks = [slice(k * size, (k + 1) * size) for k in range(3)]
    r, z = (1 / (1 + np.exp(-(i[block] + h_part[block]))) for block in blocks[:2])
    n = np.tanh(i[blocks[2]] + r * h_part[blocks[2]])
    new = (1 - z) * n + z * h
    return {
        "reset_gate": r,
        "update_gate": z,
        "candidate": n,
        "recurrent_candidate": h_part[blocks[2]],
        "hidden_state": new,
    }


def _rnn(z, nonlinearity):
    return {"pre_activation": z, "hidden_state": np.tanh(z) if nonlinearity == "tanh" else np.maximum(z, 0)}
