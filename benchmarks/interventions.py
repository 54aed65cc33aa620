"""What a run with edited signals costs beside a plain loop over the steps that it must replay, and many beside one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks.interleaved import medians
from gatescope import Selection, trace
from gatescope.analysis.subject import Subject
from gatescope.analysis.variants import predictions
from gatescope.interventions import Intervention, trace_edited

FEATURES, UNITS, STEPS = 10, 128, 638
"""As `river` has them, over a bit less than two years of days."""

SPANS = {"all steps": (0, STEPS), "the last half": (STEPS // 2, STEPS), "100 in the middle": (270, 370)}
NOTHING = Selection(signals=())
GATES = {nn.LSTM: "forget_gate", nn.GRU: "update_gate", nn.RNN: "hidden_state"}
ROUNDS, LESION_ROUNDS = 15, 3


class Case(NamedTuple):
    """One edit of one unit of one module."""

    module: nn.RNNBase
    inputs: Tensor  # (1, time, feature)
    start: int
    stop: int

    def intervention(self) -> Tensor:
        """The output of the run with the edit."""
        edit = Intervention(GATES[type(self.module)], units=[3], start=self.start, stop=self.stop, set=0.5)
        return trace_edited(self.module, self.inputs, [edit], selection=NOTHING).output

    def fused(self) -> Tensor:
        """The output of the module itself, without an edit."""
        with torch.no_grad():
            output: Tensor = self.module(self.inputs)[0]
        return output

    def loop(self) -> Tensor:
        """The equations as they are written, from the first edited step to the end."""
        weights, step = [parameter.detach() for parameter in self.module.parameters()], STEP[type(self.module)]
        h = c = torch.zeros(1, UNITS)
        outputs = []
        for number, x in enumerate(self.inputs[0, self.start :], self.start):
            h, c = step(x[None], h, c, weights, is_edited=number < self.stop)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


def measure() -> Table:
    """Over the spans and the cells; then all units of a module, ablated one by one and as one batch."""
    table = Table(
        title=f"interventions: 1 × {STEPS} steps, {UNITS} units, signals not kept",
        caption="On one core. A plain loop replays the steps from the first edited one on, and no other.",
    )
    for column in ("module", "edited", "over a plain loop", "over the module's own forward"):
        table.add_column(column)
    cases = [(kind, name) for kind in GATES for name in SPANS]
    for kind, name in track(cases, "interventions", transient=True):
        torch.manual_seed(0)
        module = kind(FEATURES, UNITS, batch_first=True).eval()
        case = Case(module, torch.randn(1, STEPS, FEATURES), *SPANS[name])
        with _one_core():
            took = medians({"edited": case.intervention, "loop": case.loop, "fused": case.fused}, ROUNDS)
        ratios = (took["edited"] / took[other] for other in ("loop", "fused"))
        table.add_row(f"nn.{kind.__name__}", name, *(f"{ratio:.2f}" for ratio in ratios))
    table.add_section()
    for to in ({"set": 0.0}, {"mean": True}):
        with _one_core():
            ratio = _lesions(to)
        name = f"each of {UNITS} units ablated ({next(iter(to))})"
        table.add_row("nn.LSTM", name, f"one by one over batched: {ratio:.1f}", "")
    return table


@contextmanager
def _one_core() -> Iterator[None]:
    """As the service computes few rows."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(cores)


def _lesions(to: dict[str, Any]) -> float:
    """How many times as long it takes to ablate units one by one as batched, as the analysis `lesions` does."""
    torch.manual_seed(0)
    module, inputs = nn.LSTM(FEATURES, UNITS, batch_first=True).eval(), torch.randn(1, STEPS, FEATURES)
    head = nn.Linear(UNITS, 1)
    subject = Subject.of(trace(module, inputs), head)
    edits = [Intervention("hidden_state", units=[unit], **to) for unit in range(UNITS)]

    def one_by_one() -> None:
        for edit in edits:
            output = trace_edited(module, inputs, [edit], selection=NOTHING).output
            with torch.no_grad():
                head(output)

    def together() -> None:
        predictions(subject, edits)

    took = medians({"one by one": one_by_one, "together": together}, LESION_ROUNDS)
    return took["one by one"] / took["together"]


def _lstm(x: Tensor, h: Tensor, c: Tensor, weights: Sequence[Tensor], *, is_edited: bool) -> tuple[Tensor, Tensor]:
    w_ih, w_hh, b_ih, b_hh = weights
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=-1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    if is_edited:
        f[:, 3] = 0.5
    c = f * c + i * g
    return o * c.tanh(), c


def _gru(x: Tensor, h: Tensor, c: Tensor, weights: Sequence[Tensor], *, is_edited: bool) -> tuple[Tensor, Tensor]:
    w_ih, w_hh, b_ih, b_hh = weights
    (r_x, z_x, n_x), (r_h, z_h, n_h) = ((v @ w.T + b).chunk(3, -1) for v, w, b in ((x, w_ih, b_ih), (h, w_hh, b_hh)))
    r, z = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    if is_edited:
        z[:, 3] = 0.5
    return (1 - z) * (n_x + r * n_h).tanh() + z * h, c


def _rnn(x: Tensor, h: Tensor, c: Tensor, weights: Sequence[Tensor], *, is_edited: bool) -> tuple[Tensor, Tensor]:
    w_ih, w_hh, b_ih, b_hh = weights
    h = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).tanh()
    if is_edited:
        h[:, 3] = 0.5
    return h, c


STEP = {nn.LSTM: _lstm, nn.GRU: _gru, nn.RNN: _rnn}
