"""What writing a trace costs beside the bare encoders, and beside copying its memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import torch
from rich.progress import track
from rich.table import Table
from safetensors.numpy import save

from benchmarks.interleaved import medians
from gatescope.selection import SIGNALS
from gatescope.server.api import ndjson, reply
from gatescope.server.serving.chunking import Chunk

# what it is: layers, directions, lengths, units
TRACES = {
    "one sequence of 200": (2, 2, (200,), 64),
    "four of 200, 150, 90, 20": (2, 2, (200, 150, 90, 20), 64),
    "one sequence of 20,000": (2, 1, (20_000,), 64),
    "four sequences of 2,500": (2, 1, (2500,) * 4, 128),
}


def measure() -> Table:
    """A table of our formats over the bare ones on the same arrays, for traces that lie in memory as they are made."""
    table = Table("trace", "reply", "over", "ratio", "MB of arrays / s")
    for title, (layers, directions, lengths, units) in track(TRACES.items(), "encoding"):
        signals = _signals(layers, directions, lengths, units)
        ways = _ways(signals, list(lengths))
        megabytes = sum(values.nbytes for values in signals.values()) / 1e6
        for ours, other in _PAIRS:
            # two at a time: memory that a third one gives back would have to be fetched again by whoever comes next
            seconds = medians({way: ways[way] for way in (other, ours)}, rounds=9)
            rate = f"{megabytes / seconds[ours]:.0f}"
            table.add_row(title, ours, other, f"{seconds[ours] / seconds[other]:.2f}", rate)
        table.add_section()
    return table


_PAIRS = (
    ("JSON", "orjson"),
    ("ndjson", "orjson"),
    ("safetensors", "copy, into old memory"),
    ("safetensors", "copy, into fresh memory"),
    ("safetensors", "safetensors.save"),
    ("npz", "np.savez"),
)


def _signals(layers: int, directions: int, lengths: tuple[int, ...], units: int) -> dict[str, np.ndarray]:
    """(batch, layer, direction, time, unit) each, stored time first and the gates side by side, padded with NaN."""
    random = np.random.default_rng(0)
    axes = layers, directions, max(lengths), len(lengths)
    gates = random.standard_normal((*axes, 4 * units), dtype=np.float32)
    states = [random.standard_normal((*axes, units), dtype=np.float32) for _ in range(2)]
    for stored in (gates, *states):
        for row, length in enumerate(lengths):
            stored[:, :, length:, row] = np.nan
    parts = (*np.split(gates, 4, axis=-1), *states)
    return {name: np.moveaxis(part, 3, 0) for name, part in zip(SIGNALS, parts, strict=True)}


def _ways(signals: Mapping[str, np.ndarray], lengths: list[int]) -> dict[str, Callable[[], object]]:
    time_steps = list(range(max(lengths)))
    answer: dict[str, Any] = {"time_steps": time_steps, "sequence_lengths": lengths, "signals": signals}
    tensors = {name: torch.from_numpy(values) for name, values in signals.items()}
    chunk = Chunk(list(range(len(lengths))), time_steps, tensors)
    together = {name: np.ascontiguousarray(values) for name, values in signals.items()}
    ragged = {
        name: [np.ascontiguousarray(row[:, :, :length]) for row, length in zip(values, lengths, strict=True)]
        for name, values in signals.items()
    }
    old = np.zeros(sum(values.nbytes for values in signals.values()), dtype=np.uint8)
    return {
        "JSON": lambda: reply.pieces(answer, reply.JSON),
        "ndjson": lambda: [len(piece) for piece in ndjson.steps(chunk, lengths)],
        "orjson": lambda: orjson.dumps(ragged, option=orjson.OPT_SERIALIZE_NUMPY),
        "safetensors": lambda: reply.pieces(answer, reply.SAFETENSORS),
        "copy, into old memory": lambda: _copy(signals, old),
        "copy, into fresh memory": lambda: _copy(signals, np.empty(old.nbytes, dtype=np.uint8)),
        "safetensors.save": lambda: save(together),
        "npz": lambda: reply.pieces(answer, reply.NPZ),
        "np.savez": lambda: _savez(together),
    }


def _copy(signals: Mapping[str, np.ndarray], into: np.ndarray) -> None:
    """Every array into its place in one buffer."""
    position = 0
    for values in signals.values():
        place = into[position : position + values.nbytes]
        np.copyto(place.view(values.dtype).reshape(values.shape), values)
        position += values.nbytes


def _savez(arrays: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
