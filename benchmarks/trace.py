"""What a full trace of all six signals costs beside the plain forward of the same `nn.LSTM`, and beside other ways."""

from __future__ import annotations

import itertools
import resource
import statistics
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks import others
from benchmarks.interleaved import medians
from gatescope.backends.probe import backend_of
from gatescope.tracing import trace

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
        bidirectional = self.directions == 2
        return nn.LSTM(self.hidden, self.hidden, self.layers, batch_first=True, bidirectional=bidirectional).eval()

    def inputs(self) -> Tensor:
        """(batch, time, feature)."""
        return torch.randn(self.batch, self.time, self.hidden)


GRID = (
    *(Shape(time, batch, hidden) for time, batch, hidden in itertools.product((50, 200), (1, 8, 32), (64, 128, 256))),
    Shape(1000, 1, 128),
    Shape(1000, 8, 64),
    Shape(200, 200, 64),
    Shape(100, 16, 128, layers=2),
    Shape(100, 16, 128, layers=2, directions=2),
    Shape(200, 1, 256, layers=2),
)


def padded() -> Table:
    """Full trace over plain forward, and other ways over it where they are not too slow."""
    names = ("time", "batch", "hidden", "layers", "directions")
    table = Table(*names, "way", "forward, ms", "trace / forward", *(f"{other} / forward" for other in OTHERS))
    ratios = []
    for shape in track(GRID, "trace / forward"):
        torch.manual_seed(0)
        module, inputs = shape.module(), shape.inputs()
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
            *map(str, shape), backend_of(module), f"{seconds['forward'] * 1e3:.2f}", f"{ratios[-1]:.2f}", *slower
        )
    missing = "" if find_spec("tensorflow") else "; TensorFlow, for BlockLSTMV2, is not installed"
    table.caption = f"median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}{missing}"
    return table


def ragged() -> Table:
    """A ragged full trace, and a ragged prediction, over `nn.LSTM`'s packed plain forward."""
    from gatescope.forward import forward  # noqa: PLC0415
    from gatescope.spec import Spec  # noqa: PLC0415
    from gatescope.state import State  # noqa: PLC0415

    table = Table("time", "batch", "hidden", "layers", "trace / packed", "forward / packed")
    for shape in track((Shape(100, 16, 128, 2), Shape(200, 32, 64), Shape(200, 32, 256), Shape(50, 64, 128)), "ragged"):
        torch.manual_seed(0)
        module, inputs = shape.module(), shape.inputs()
        lengths = torch.linspace(shape.time // 2, shape.time, shape.batch).long()
        packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        state = State.zeros(Spec.from_module(module), shape.batch, inputs)
        seconds = medians(
            {
                "packed": lambda m=module, p=packed: _forward(m, p),  # type: ignore[misc]
                "trace": lambda m=module, x=inputs, n=lengths: trace(m, x, n),  # type: ignore[misc]
                "forward": lambda m=module, x=inputs, n=lengths, s=state: forward(m, x, n, s, ragged=True),  # type: ignore[misc]
            }
        )
        ratios = (f"{seconds[way] / seconds['packed']:.2f}" for way in ("trace", "forward"))
        table.add_row(*map(str, shape[:4]), *ratios)
    return table


def steps() -> Table:
    """A prediction of a few steps, as sessions make them, over `nn.LSTM`'s own call."""
    from gatescope.forward import forward  # noqa: PLC0415
    from gatescope.spec import Spec  # noqa: PLC0415
    from gatescope.state import State  # noqa: PLC0415

    batches = (1, 4, 16, 64, 256)
    table = Table("time", "hidden", "layers", *(f"batch {batch}" for batch in batches))
    for time, (hidden, layers) in track([*itertools.product((1, 5, 20), ((64, 1), (128, 2), (256, 1)))], "steps"):
        ratios = []
        for batch in batches:
            torch.manual_seed(0)
            shape = Shape(time, batch, hidden, layers)
            module, inputs, lengths = shape.module(), shape.inputs(), torch.full((batch,), time)
            state = State.zeros(Spec.from_module(module), batch, inputs)
            seconds = medians(
                {
                    "nn.LSTM": lambda m=module, x=inputs, s=state: _forward(m, x, tuple(s)),  # type: ignore[misc]
                    "forward": lambda m=module, x=inputs, n=lengths, s=state: forward(m, x, n, s, ragged=False),  # type: ignore[misc]
                },
                rounds=75 if time * batch <= 512 else 25,
            )
            ratios.append(f"{seconds['forward'] / seconds['nn.LSTM']:.2f}")
        table.add_row(*map(str, (time, hidden, layers)), *ratios)
    return table


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
def _forward(module: nn.LSTM, *given: object) -> object:
    return module(*given)
