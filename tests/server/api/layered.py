"""Models of format 2 whose predictions a test computes by hand: static inputs, several modules, heads of every task."""

import json
import math
from itertools import pairwise

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

BASIN = """
format = 2
description = "level, flood, kinds and spread of a river, from two recurrent layers and what is known of its basin"
[input]
kind = "features"
features = [{name = "day", mean = 2451545.0, std = 1.0}, {name = "rain"}]
[static]
features = [{name = "area", mean = 100.0, std = 50.0}, {name = "soil", categories = [1, 2]}]
[[layers]]
name = "joined"
type = "concat"
inputs = ["inputs", "static"]
[[layers]]
name = "encoder"
type = "lstm"
[[layers]]
name = "decoder.rnn"
type = "lstm"
[[layers]]
name = "level"
type = "linear"
[[layers]]
name = "flood"
type = "linear"
inputs = ["decoder.rnn"]
[[layers]]
name = "kinds"
type = "linear"
inputs = ["decoder.rnn"]
[[layers]]
name = "spread"
type = "linear"
inputs = ["encoder"]
[[heads]]
layer = "level"
task = "regression"
names = ["level"]
[[heads]]
name = "flood"
layer = "flood"
task = "binary"
labels = ["dry", "wet"]
threshold = 0.57
[[heads]]
name = "kinds"
layer = "kinds"
task = "multi_label"
labels = ["rain", "snow", "hail"]
[[heads]]
name = "spread"
layer = "spread"
task = "quantile"
names = ["low", "high"]
quantiles = [0.1, 0.5, 0.9]
units = ["m", "m"]
"""

PATH = """
format = 2
description = "the best path through three labels"
[input]
kind = "tokens"
vocabulary = "words"
file = "vocabulary.txt"
unknown = "token"
unknown_token = "<unknown>"
[[layers]]
name = "embedding"
type = "embedding"
[[layers]]
name = "lstm"
type = "lstm"
[[layers]]
name = "scores"
type = "linear"
[[layers]]
name = "crf"
type = "crf"
[[heads]]
task = "tagging"
labels = ["X", "Y", "Z"]
"""

SMOOTH = """
format = 2
description = "reads three steps at a time"
[input]
kind = "features"
features = [{name = "a"}]
[[layers]]
name = "conv"
type = "conv1d"
[[layers]]
name = "lstm"
type = "lstm"
[[layers]]
name = "head"
type = "linear"
[[heads]]
task = "regression"
names = ["x"]
"""

LEARNED = """
format = 2
description = "starts from what it has learned; its last layer gives a probability of each sequence"
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}]
[[layers]]
name = "lstm"
type = "lstm"
initial_hidden_state = "h0"
initial_cell_state = "c0"
[[layers]]
name = "last"
type = "pool"
how = "last"
[[layers]]
name = "head"
type = "linear"
[[layers]]
name = "probability"
type = "activation"
function = "sigmoid"
[[heads]]
task = "binary"
labels = ["no", "yes"]
"""

VERIFIED = """
format = 2
description = "compared with its training code"
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}]
[[layers]]
name = "lstm"
type = "lstm"
[[layers]]
name = "head"
type = "linear"
[[heads]]
task = "regression"
names = ["x"]
"""

INCOMPLETE = """
format = 2
description = "an attention behind it is not computed"
ignored = ["teacher"]
[input]
kind = "features"
features = [{name = "a"}, {name = "b"}]
[[layers]]
name = "lstm"
type = "lstm"
[[not_computed]]
name = "attention.in_proj_weight"
kind = "attention"
place = "behind"
"""

BOTH_WAYS = """
format = 2
description = "two modules of which one reads both ways, behind a sum"
[input]
kind = "features"
features = [{name = "a"}]
[[layers]]
name = "first"
type = "lstm"
[[layers]]
name = "second"
type = "lstm"
[[layers]]
name = "sum"
type = "pool"
how = "sum"
[[layers]]
name = "head"
type = "linear"
[[heads]]
task = "classification"
labels = ["p", "q"]
"""

MANIFESTS = {
    "basin": BASIN,
    "path": PATH,
    "smooth": SMOOTH,
    "learned": LEARNED,
    "verified": VERIFIED,
    "incomplete": INCOMPLETE,
    "both": BOTH_WAYS,
    "summed": BOTH_WAYS,
}

WORDS = ["<unknown>", "sun", "rain", "is", "here"]


def _seeded(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.6, 0.6, generator=generator)
    return module.double().eval()


def modules():
    """The modules behind the models, float64, by model and layer."""
    lstm, linear = (lambda *a, **k: nn.LSTM(*a, **k, batch_first=True)), nn.Linear
    made = {
        "basin": {
            "encoder": lstm(5, 6, 2),
            "decoder.rnn": lstm(6, 4),
            "level": linear(4, 1),
            "flood": linear(4, 1),
            "kinds": linear(4, 3),
            "spread": linear(6, 6),
        },
        "path": {"embedding": nn.Embedding(5, 3), "lstm": lstm(3, 6), "scores": linear(6, 3)},
        "smooth": {"conv": nn.Conv1d(1, 2, 3, padding=1), "lstm": lstm(2, 4), "head": linear(4, 1)},
        "learned": {"lstm": lstm(2, 4), "head": linear(4, 1)},
        "verified": {"lstm": lstm(2, 4), "head": linear(4, 1)},
        "incomplete": {"lstm": lstm(2, 4)},
        "both": {"first": lstm(1, 3), "second": lstm(3, 4, bidirectional=True), "head": linear(8, 2)},
        "summed": {"first": lstm(1, 3), "second": lstm(3, 4), "head": linear(4, 2)},
    }
    for index, model in enumerate(made.values()):
        for place, module in enumerate(model.values()):
            _seeded(module, 10 * index + place)
    return made


def further(name):
    """Weights that belong to no module."""
    generator = torch.Generator().manual_seed(99)
    uniform = lambda *shape: torch.rand(*shape, generator=generator).double() * 2 - 1  # noqa: E731
    return {
        "path": {
            "crf.transitions": uniform(3, 3),
            "crf.start_transitions": uniform(3),
            "crf.end_transitions": uniform(3),
        },
        "learned": {"h0": uniform(1, 1, 4), "c0": uniform(1, 1, 4)},
        "incomplete": {"teacher.weight": uniform(2, 2)},
    }.get(name, {})


def write(root, made):
    """The folders of all models."""
    for name, manifest in MANIFESTS.items():
        folder = root / name
        (folder / "1").mkdir(parents=True)
        (folder / "model.toml").write_text(manifest)
        weights = {
            f"{layer}.{key}": value for layer, each in made[name].items() for key, value in each.state_dict().items()
        }
        weights |= further(name)
        save_file(
            {key: value.float().contiguous() for key, value in weights.items()}, folder / "1" / "model.safetensors"
        )
    (root / "path" / "vocabulary.txt").write_text("\n".join(WORDS) + "\n")
    inputs = [[[0.5, -1.0], [1.5, 0.25]]]
    expected = made["verified"]["head"](made["verified"]["lstm"](torch.tensor(inputs).double())[0]).tolist()
    sample = {"title": "two steps", "request": {"inputs": inputs}, "expected": expected}
    (root / "verified" / "1" / "sample.json").write_text(json.dumps(sample))


def basin(made, inputs, static, states=None):
    """All that the model `basin` says of one sequence, by hand in float64.

    Args:
        made: its modules.
        inputs: (time, feature), raw.
        static: (feature,), raw.
        states: (h, c) of each module to begin from.
    """
    rows = np.asarray(inputs, dtype=np.float64)
    fed = np.stack([(rows[:, 0] - 2451545.0) / 1.0, rows[:, 1]], axis=1)
    area, soil = static
    known = [(area - 100.0) / 50.0, float(soil == 1), float(soil == 2)]
    joined = torch.tensor(np.concatenate([fed, np.tile(known, (len(fed), 1))], axis=1))[None]
    states = states or {}
    with torch.no_grad():
        first, first_end = made["encoder"](joined, states.get("encoder"))
        second, second_end = made["decoder.rnn"](first, states.get("decoder.rnn"))
        said = {name: made[name](second)[0].numpy() for name in ("level", "flood", "kinds")}
        said["spread"] = made["spread"](first)[0].numpy()
    ends = {"encoder": first_end, "decoder.rnn": second_end}
    return said, ends, {"encoder": first[0].numpy(), "decoder.rnn": second[0].numpy()}


def best_path(scores, transitions, start, end):
    """The labels of the best path, by trying every one."""
    best, found = -math.inf, None
    for path in np.ndindex(*[scores.shape[1]] * len(scores)):
        total = start[path[0]] + end[path[-1]] + sum(scores[step, label] for step, label in enumerate(path))
        total += sum(transitions[before, after] for before, after in pairwise(path))
        if total > best:
            best, found = total, path
    return list(found)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values, dtype=np.float64)))
