"""ONNX graphs for tests: single recurrent nodes made by hand, and modules exported by PyTorch."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""PyTorch's blocks in ONNX's: i, f, g, o of i, o, f, c; r, z, n of z, r, h."""


@dataclass
class NodeGraph:
    """A graph of one recurrent node between transposes, batch first, whose prediction is what the node gives."""

    kind: str = "LSTM"
    direction: str = "forward"
    features: int = 3
    hidden: int = 4
    bias: bool = True
    lengths: bool = False
    states: bool = False
    attributes: dict = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        rows = GATES[self.kind] * self.hidden

        def draw(*shape):
            return random.uniform(-0.8, 0.8, (self.directions, *shape)).astype(np.float32)

        self.w, self.r = draw(rows, self.features), draw(rows, self.hidden)
        self.b = draw(2 * rows) if self.bias else np.zeros((self.directions, 2 * rows), np.float32)

    @property
    def directions(self):
        return 2 if self.direction == "bidirectional" else 1

    @property
    def state_names(self):
        return [] if not self.states else ["h0", "c0"] if self.kind == "LSTM" else ["h0"]

    def weights(self):
        """Each direction's W, U, b and c with PyTorch's order of gates, in float64."""

        def ordered(values):
            blocks = np.split(values.astype(np.float64), GATES[self.kind])
            return np.concatenate([blocks[block] for block in ORDER[self.kind]])

        biases = [np.split(bias, 2) for bias in self.b]
        pairs = zip(self.w, self.r, biases, strict=True)
        return [(ordered(w), ordered(r), *map(ordered, bias)) for w, r, bias in pairs]

    def model(self):
        outputs = ["Y", "Y_h", *(["Y_c"] if self.kind == "LSTM" else [])]
        reads = ["X", "W", "R", "B" if self.bias else "", "n" if self.lengths else ""]
        node = helper.make_node(
            self.kind,
            [*reads, *self.state_names],
            outputs,
            name=f"/encoder/{self.kind}",
            hidden_size=self.hidden,
            direction=self.direction,
            **self.attributes,
        )
        shape = numpy_helper.from_array(np.array([0, 0, -1]), "shape")
        nodes = [
            helper.make_node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
            node,
            helper.make_node("Transpose", ["Y"], ["turned"], perm=[2, 0, 1, 3]),
            helper.make_node("Reshape", ["turned", "shape"], ["y"]),
        ]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "time", self.features])]
        if self.lengths:
            inputs.append(helper.make_tensor_value_info("n", TensorProto.INT32, ["batch"]))
        state = [self.directions, "batch", self.hidden]
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, state) for name in self.state_names]
        made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "time", "unit"])]
        if self.states:
            made += [helper.make_tensor_value_info(name, TensorProto.FLOAT, state) for name in outputs[1:]]
        weights = {"W": self.w, "R": self.r} | ({"B": self.b} if self.bias else {})
        constants = [shape, *(numpy_helper.from_array(value, name) for name, value in weights.items())]
        graph = helper.make_graph(nodes, "one", inputs, made, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)

    def saved(self, path: Path) -> Path:
        onnx.save(self.model(), path)
        return path


class Stack(nn.Module):
    """What PyTorch's newer exporter can export with an open time axis."""

    features = 5

    def __init__(self):
        super().__init__()
        self.norm, self.rnn = nn.LayerNorm(5), nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, x):
        return self.fc(self.rnn(self.norm(x))[0])


def exported(
    module: nn.Module, inputs: tuple, path: Path, names=("x",), outputs=("y",), open_axes=None, *, dynamo=False
) -> Path:
    """A module as PyTorch's exporter writes it, with open batch and time axes unless others are named."""
    axes = {names[0]: {0: "batch", 1: "time"}} if open_axes is None else open_axes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = {names[0]: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}} if axes else None
            torch.onnx.export(
                module.eval(),
                inputs,
                path,
                input_names=list(names),
                output_names=list(outputs),
                dynamo=True,
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
        else:
            torch.onnx.export(
                module.eval(),
                inputs,
                path,
                input_names=list(names),
                output_names=list(outputs),
                dynamo=False,
                dynamic_axes=axes,
            )
    return path
