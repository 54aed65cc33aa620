"""What a statistic costs beside the trace that it sums up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.interleaved import medians
from gatescope import Selection, analyse, trace
from gatescope.analysis.registry import analyses
from gatescope.analysis.subject import Subject
from gatescope.tracing import Trace

SHAPES = ((8, 1000, 16, 32), (8, 1000, 32, 128), (8, 1000, 64, 256))
"""Rows, time steps, features, units."""

STATISTICS = tuple(name for name, analysis in analyses().items() if analysis.statistic is not None)
ROUNDS = 9


def measure() -> Table:
    """Each statistic with its trace, over that trace alone."""
    table = Table(
        title="analyses: a statistic and the trace that it sums up, over that trace alone",
        caption="The trace has the signals that the statistic reads.",
    )
    for column in ("module", *STATISTICS):
        table.add_column(column)
    cases = [(kind, shape) for kind in (nn.LSTM, nn.GRU) for shape in SHAPES]
    for kind, (rows, steps, features, units) in track(cases, "analyses", transient=True):
        torch.manual_seed(0)
        module = kind(features, units, batch_first=True).eval()
        inputs = torch.randn(rows, steps, features)
        ratios = [_ratio(module, inputs, name) for name in STATISTICS]
        table.add_row(
            f"nn.{kind.__name__}({features}, {units}), {rows} × {steps}", *(f"{ratio:.2f}" for ratio in ratios)
        )
    return table


def _ratio(module: nn.RNNBase, inputs: Tensor, name: str) -> float:
    statistic = analyses()[name].statistic
    if statistic is None:
        raise TypeError(f"'{name}' is no statistic")
    selection = Selection(signals=statistic.signals(Subject.of(trace(module, inputs[:1, :1])).spec.cell))

    def traced() -> Trace:
        return trace(module, inputs, selection=selection)

    ways: dict[str, Callable[[], object]] = {"trace": traced, "both": lambda: analyse(traced(), name)}
    took = medians(ways, ROUNDS)
    return took["both"] / took["trace"]
