"""What a trace costs beside the plain forward of the same module, and for an `nn.LSTM` beside other ways."""

from __future__ import annotations

import itertools
import resource
import statistics
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple, TypeVar

import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks import library, others
from benchmarks.interleaved import medians
from benchmarks.library import trace

M = TypeVar("M", bound=nn.RNNBase)

OTHERS = ("cell loop", "gate loop", "BlockLSTMV2")


class Shape(NamedTuple):
    """One point of the grid."""

    time: int
    batch: int
    hidden: int
    layers: int = 1
    directions: int = 1

    def module(self) -> nn.LSTM:
        """An `nn.LSTM` of this shape, its input as wide as its hidden state."""
        return self.of(nn.LSTM)

    def of(self, kind: Callable[..., M]) -> M:
        """A recurrent module of this kind and shape."""
        bidirectional = self.directions == 2
        return kind(self.hidden, self.hidden, self.layers, batch_first=True, bidirectional=bidirectional).eval()

    def inputs(self) -> Tensor:
        """(batch, time, feature)."""
        return torch.randn(self.batch, self.time, self.hidden)

    def made(self, device: str = "cpu") -> tuple[nn.LSTM, Tensor]:
        """The module and inputs for it, seeded."""
        torch.manual_seed(0)
        return self.module().to(device), self.inputs().to(device)

    @property
    def title(self) -> str:
        """As `200 × 8 × 64, 2 layers, both directions`."""
        layers = [f"{self.layers} layers"] if self.layers > 1 else []
        return ", ".join(
            [f"{self.time} × {self.batch} × {self.hidden}", *layers, *["both directions"] * (self.directions - 1)]
        )


GRID = (
    *(Shape(time, batch, hidden) for time, batch, hidden in itertools.product((50, 200), (1, 8, 32), (64, 128, 256))),
    Shape(1000, 1, 128),
    Shape(1000, 8, 64),
    Shape(200, 200, 64),
    Shape(100, 16, 128, layers=2),
    Shape(100, 16, 128, layers=2, directions=2),
    Shape(200, 1, 256, layers=2),
)


STEP_TIMES = (1, 5, 20)
STEP_NETWORKS = ((64, 1), (128, 2), (256, 1))  # hidden size and layers
STEP_BATCHES = (1, 4, 16, 64, 256)


def padded() -> Table:
    """Full trace over plain forward, and other ways over it where they are not too slow."""
    names = ("time", "batch", "hidden", "layers", "directions")
    table = Table(*names, "way", "forward, ms", "trace / forward", *(f"{other} / forward" for other in OTHERS))
    ratios = []
    for shape in track(GRID, "trace / forward"):
        module, inputs = shape.made()
        ways: dict[str, Callable[[], object]] = {
            "forward": lambda module=module, inputs=inputs: _forward(module, inputs),  # type: ignore[misc]
            "trace": lambda module=module, inputs=inputs: trace(module, inputs),  # type: ignore[misc]
        }
        if shape.layers * shape.directions == 1 and shape.time * shape.batch <= 2000:
            ways |= others.ways(module, inputs)
        seconds = medians(ways, rounds=45 if shape.time * shape.batch <= 400 else 15)
        ratios.append(seconds["trace"] / seconds["forward"])
        slower = [f"{seconds[other] / seconds['forward']:.1f}" if other in seconds else "" for other in OTHERS]
        table.add_row(
            *map(str, shape),
            library.backend_of(module),
            f"{seconds['forward'] * 1e3:.2f}",
            f"{ratios[-1]:.2f}",
            *slower,
        )
    missing = "" if find_spec("tensorflow") else "; TensorFlow, for BlockLSTMV2, is not installed"
    table.caption = f"median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}{missing}"
    return table


CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "nn.GRU": nn.GRU,
    "nn.RNN": nn.RNN,
    "nn.RNN, relu": partial(nn.RNN, nonlinearity="relu"),
}


def cells() -> Table:
    """A trace over plain forward of `nn.GRU` and `nn.RNN`; and with every signal, and with its residual."""
    names = ("module", "time", "batch", "hidden", "layers", "directions", "way")
    wanted = ("trace", "residual", "every signal")
    table = Table(*names, "forward, ms", *(f"{way} / forward" for way in wanted))
    captions: list[str] = []
    for name, kind in CELLS.items():
        ratios: dict[str, list[float]] = {way: [] for way in wanted}
        for shape in track(GRID, name):
            torch.manual_seed(0)
            module, inputs = shape.of(kind), shape.inputs()
            seconds = medians(_cell_ways(module, inputs), rounds=25 if shape.time * shape.batch <= 400 else 9)
            for way, found in ratios.items():
                found.append(seconds[way] / seconds["forward"])
            last = (f"{found[-1]:.2f}" for found in ratios.values())
            table.add_row(name, *map(str, shape), library.backend_of(module), f"{seconds['forward'] * 1e3:.2f}", *last)
        each = (f"{way} {statistics.median(found):.2f}, worst {max(found):.2f}" for way, found in ratios.items())
        captions.append(f"{name}: median of {'; '.join(each)}")
    table.caption = "\n".join(captions)
    return table


def _cell_ways(module: nn.RNNBase, inputs: Tensor) -> dict[str, Callable[[], object]]:
    every = library.every_signal(module)
    return {
        "forward": lambda: _forward(module, inputs),
        "trace": lambda: trace(module, inputs),
        "residual": lambda: trace(module, inputs).residual,
        "every signal": lambda: trace(module, inputs, selection=every),
    }


def ragged() -> Table:
    """A ragged full trace, and a ragged prediction, over `nn.LSTM`'s packed plain forward."""
    table = Table("time", "batch", "hidden", "layers", "trace / packed", "forward / packed")
    for shape in track((Shape(100, 16, 128, 2), Shape(200, 32, 64), Shape(200, 32, 256), Shape(50, 64, 128)), "ragged"):
        module, inputs = shape.made()
        lengths = torch.linspace(shape.time // 2, shape.time, shape.batch).long()
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        seconds = medians(
            {
                "packed": lambda m=module, p=packed: _forward(m, p),  # type: ignore[misc]
                "trace": lambda m=module, x=inputs, n=lengths: trace(m, x, n),  # type: ignore[misc]
                "forward": library.predict(module, inputs, lengths=lengths, ragged=True),
            }
        )
        ratios = (f"{seconds[way] / seconds['packed']:.2f}" for way in ("trace", "forward"))
        table.add_row(*map(str, shape[:4]), *ratios)
    return table


def steps() -> Table:
    """A prediction of a few steps, as sessions make them, over `nn.LSTM`'s own call."""
    table = Table("time", "hidden", "layers", *(f"batch {batch}" for batch in STEP_BATCHES))
    for time, (hidden, layers) in track([*itertools.product(STEP_TIMES, STEP_NETWORKS)], "steps"):
        ratios = []
        for batch in STEP_BATCHES:
            module, inputs = Shape(time, batch, hidden, layers).made()
            state = library.zeros(module, inputs)
            seconds = medians(
                {
                    "nn.LSTM": lambda m=module, x=inputs, s=state: _forward(m, x, tuple(s)),  # type: ignore[misc]
                    "forward": _few_steps(module, inputs),
                },
                rounds=75 if time * batch <= 512 else 25,
            )
            ratios.append(f"{seconds['forward'] / seconds['nn.LSTM']:.2f}")
        table.add_row(*map(str, (time, hidden, layers)), *ratios)
    return table


def _few_steps(module: nn.LSTM, inputs: Tensor) -> Callable[[], object]:
    lengths = torch.full((len(inputs),), inputs.shape[1])
    return library.predict(module, inputs, lengths=lengths, ragged=False)


def trace_rows() -> dict[str, Callable[[], Callable[[], object]]]:
    """What makes the trace of each shape of the grid ready to run, by title."""

    def made(shape: Shape) -> Callable[[], object]:
        module, inputs = shape.made()
        return lambda: trace(module, inputs)

    return {shape.title: partial(made, shape) for shape in GRID}


def step_rows() -> dict[str, Callable[[], Callable[[], object]]]:
    """What makes each prediction of a few steps ready to run, by title."""
    grid = itertools.product(STEP_TIMES, STEP_BATCHES, STEP_NETWORKS)
    shapes = [Shape(time, batch, *network) for time, batch, network in grid]
    return {shape.title: partial(lambda of: _few_steps(*of.made()), shape) for shape in shapes}


def scaling() -> Table:
    """Time of a trace against its length and its batch: a doubling should cost a doubling."""
    table = Table("axis", "sizes", "each over the one before")
    times = [Shape(time, 8, 128) for time in (250, 500, 1000, 2000)]
    batches = [Shape(100, batch, 128) for batch in (16, 32, 64, 128)]
    for axis, shapes in (("time", times), ("batch", batches)):
        runs = {str(getattr(shape, axis)): (shape.module(), shape.inputs()) for shape in shapes}
        seconds = medians({size: (lambda run=run: trace(*run)) for size, run in runs.items()}, rounds=9)  # type: ignore[misc]
        steps = [after / before for before, after in itertools.pairwise(seconds.values())]
        table.add_row(axis, ", ".join(seconds), ", ".join(f"{step:.2f}" for step in steps))
    return table


def memory() -> Table:
    """Growth of the process's peak memory during one large trace, over the bytes of the arrays returned.

    Must be the first thing that a process measures, for its peak never falls.
    """
    shape = Shape(4000, 8, 256)
    module, inputs = shape.module(), shape.inputs()
    trace(module, inputs[:, :100])
    before = _peak()
    traced = trace(module, inputs)
    returned = sum(values.nbytes for values in (*traced.signals.values(), traced.output))
    table = Table("time", "batch", "hidden", "returned, MB", "peak / returned")
    table.add_row(*map(str, shape[:3]), f"{returned / 1e6:.0f}", f"{(_peak() - before) / returned:.2f}")
    return table


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.no_grad()
def _forward(module: nn.RNNBase, *given: object) -> object:
    return module(*given)
