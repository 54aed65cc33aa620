"""Models around cells of other functions than PyTorch's."""

import json

import numpy as np
from safetensors.numpy import save_file

MANIFEST = """
format = 2
description = "{name}"
[input]
kind = "features"
features = [{{name = "a"}}, {{name = "b"}}, {{name = "c"}}]
[[layers]]
name = "it"
type = "{cell}"
{stated}
"""
HIDDEN = 4
BLOCKS = {"lstm": 4, "gru": 3, "rnn": 1}
MODELS = {
    "relu": ("lstm", {"gate": "hard_sigmoid", "candidate": "relu", "output": "relu"}, {"activation": "relu"}),
    "before": ("gru", {"gate": "sigmoid", "candidate": "tanh", "reset_after": False}, {"reset_after": False}),
    "soft": ("rnn", {"candidate": "softsign"}, {"activation": "softsign"}),
}
MODELS["relu"][2]["recurrent_activation"] = "hard_sigmoid"
ROWS = np.random.default_rng(0).normal(0, 1, (7, 3)).astype(np.float32)


def weights(cell):
    rng, rows = np.random.default_rng(1), BLOCKS[cell] * HIDDEN
    shapes = ((rows, 3), (rows, HIDDEN), (rows,), (rows,))
    return [rng.normal(0, 0.6, shape).astype(np.float32) for shape in shapes]


def write(root, example=None):
    """The folders of the models; each with a request to try, where one is given."""
    for name, (cell, _, stated) in MODELS.items():
        (root / name / "1").mkdir(parents=True)
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in stated.items())
        manifest = MANIFEST.format(name=name, cell=cell, stated=lines)
        if example is not None:
            manifest += '[[examples]]\ntitle = "some steps"\nfile = "example.json"\n'
            (root / name / "example.json").write_text(json.dumps(example))
        (root / name / "model.toml").write_text(manifest)
        names = ("it.weight_ih_l0", "it.weight_hh_l0", "it.bias_ih_l0", "it.bias_hh_l0")
        save_file(dict(zip(names, weights(cell), strict=True)), root / name / "1" / "model.safetensors")
