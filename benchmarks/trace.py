"""What a trace costs beside the plain forward of the same `nn.LSTM`."""

from __future__ import annotations

import torch
from rich.progress import track
from rich.table import Table
from torch import nn

from app.lstm import trace
from benchmarks.interleaved import medians

# each point: time, batch, hidden size, layers, bidirectional
GRID = (
    (50, 1, 64, 1, False),
    (50, 32, 64, 1, False),
    (200, 1, 128, 2, False),
    (200, 16, 128, 2, True),
    (200, 32, 256, 1, False),
    (1000, 1, 256, 2, False),
)


def measure() -> Table:
    """A table of full trace over plain forward, padded and ragged."""
    table = Table("time", "batch", "hidden", "layers", "directions", "trace / forward", "ragged trace / packed forward")
    for time, batch, hidden, layers, bidirectional in track(GRID, "trace"):
        torch.manual_seed(0)
        module = nn.LSTM(hidden, hidden, layers, batch_first=True, bidirectional=bidirectional).eval()
        padded, ragged = _ratios(module, torch.randn(batch, time, hidden))
        shape = (time, batch, hidden, layers, 2 if bidirectional else 1)
        table.add_row(*map(str, shape), f"{padded:.2f}", f"{ragged:.2f}")
    return table


def _ratios(module: nn.LSTM, inputs: torch.Tensor) -> tuple[float, float]:
    batch, time = inputs.shape[:2]
    lengths = torch.linspace(time // 2, time, batch).long()
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)

    @torch.no_grad()
    def forward(given: object) -> object:
        return module(given)

    seconds = medians(
        {
            "forward": lambda: forward(inputs),
            "trace": lambda: trace(module, inputs),
            "packed": lambda: forward(packed),
            "ragged": lambda: trace(module, inputs, lengths),
        }
    )
    return seconds["trace"] / seconds["forward"], seconds["ragged"] / seconds["packed"]
