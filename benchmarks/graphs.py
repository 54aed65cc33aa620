"""What an ONNX graph costs as it is served, beside ONNX Runtime alone: its prediction, and its trace."""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnxruntime
import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.interleaved import medians
from benchmarks.trace import GRID, Shape
from gatescope.pipeline.features import Feature, FeatureInputs
from gatescope.pipeline.graph_files import open_graph
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.program.graph_config import GraphConfig
from gatescope.pipeline.program.pipeline import ProgramPipeline
from gatescope.pipeline.query import Query
from gatescope.selection import Selection

KINDS: dict[str, type[nn.RNNBase]] = {"nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU}
OUTPUTS = 3


class _Network(nn.Module):
    """A recurrent module and a linear head on its last step."""

    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.hidden_size * (2 if recurrent.bidirectional else 1), OUTPUTS)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, time, feature) -> (batch, output)."""
        made: Tensor = self.head(self.recurrent(inputs)[0][:, -1])
        return made


class _Served(NamedTuple):
    """One graph, alone and as it is served."""

    session: onnxruntime.InferenceSession
    pipeline: ProgramPipeline

    @classmethod
    def of(cls, recurrent: nn.RNNBase, inputs: Tensor) -> _Served:
        """The graph that PyTorch exports."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        axes = {"inputs": {0: "batch", 1: "time"}}
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of batches of other sizes
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                _Network(recurrent).eval(),
                (inputs,),
                path,
                input_names=["inputs"],
                output_names=["outputs"],
                dynamic_axes=axes,
                dynamo=False,
            )
            config = GraphConfig(format="onnx", input="inputs", prediction="outputs")
            program = open_graph("onnx", path).program(config)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        features = [Feature(name=f"feature {index}") for index in range(recurrent.input_size)]
        head = HeadConfig(task="regression", names=tuple(f"output {index}" for index in range(OUTPUTS)))
        read = FeatureInputs(kind="features", features=tuple(features))
        return cls(session, ProgramPipeline(read, None, head, program, 32))

    def ways(self, inputs: Tensor) -> dict[str, Callable[[], object]]:
        """What is compared, over this batch."""
        array, lengths = inputs.numpy(), torch.full((len(inputs),), inputs.shape[1])
        predicted, traced = Query(inputs, lengths), Query(inputs, lengths, trace=Selection())
        return {
            "alone": lambda: self.session.run(None, {"inputs": array}),
            "prediction": lambda: self.pipeline.answer(predicted),
            "trace": lambda: self.pipeline.answer(traced),
        }


def onnx() -> Table:
    """A prediction, and a trace of the first recurrent node beside its prediction, over ONNX Runtime alone.

    Each in one thread: threads of ONNX Runtime and of PyTorch wait actively for a while after each run, and would slow
    down what is measured next.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _table()
    finally:
        torch.set_num_threads(threads)


def _table() -> Table:
    names = ("module", "time", "batch", "hidden", "layers", "directions")
    wanted = ("prediction", "trace")
    table = Table(*names, "alone, ms", *(f"{way} / alone" for way in wanted))
    captions: list[str] = []
    for name, kind in KINDS.items():
        ratios: dict[str, list[float]] = {way: [] for way in wanted}
        for shape in track(GRID, name):
            seconds = _measured(shape, kind)
            for way, found in ratios.items():
                found.append(seconds[way] / seconds["alone"])
            last = (f"{found[-1]:.2f}" for found in ratios.values())
            table.add_row(name, *map(str, shape), f"{seconds['alone'] * 1e3:.2f}", *last)
        each = (f"{way} {statistics.median(found):.2f}, worst {max(found):.2f}" for way, found in ratios.items())
        captions.append(f"{name}: median of {'; '.join(each)}")
    table.caption = "\n".join(captions)
    return table


def _measured(shape: Shape, kind: type[nn.RNNBase]) -> dict[str, float]:
    torch.manual_seed(0)
    recurrent, inputs = shape.of(kind), shape.inputs()
    rounds = 25 if shape.time * shape.batch <= 400 else 9
    return medians(_Served.of(recurrent, inputs).ways(inputs), rounds=rounds)
