"""What writing a trace costs beside the bare encoders on the same arrays."""

from __future__ import annotations

import numpy as np
import orjson
from rich.table import Table
from safetensors.numpy import save

from app.api import reply
from app.lstm import SIGNALS
from benchmarks.interleaved import medians

SHAPE = (4, 2, 2, 200, 64)


def measure() -> Table:
    """A table of our JSON over orjson alone and our safetensors over safetensors alone."""
    random = np.random.default_rng(0)
    signals = {name: random.standard_normal(SHAPE, dtype=np.float32) for name in SIGNALS}
    answer = {"time_steps": list(range(SHAPE[3])), "sequence_lengths": [SHAPE[3]] * SHAPE[0], "signals": signals}
    seconds = medians(
        {
            "json": lambda: reply.respond(answer, reply.JSON),
            "orjson": lambda: orjson.dumps(signals, option=orjson.OPT_SERIALIZE_NUMPY),
            "safetensors": lambda: reply.respond(answer, reply.SAFETENSORS),
            "save": lambda: save(signals),
        }
    )
    megabytes = sum(values.nbytes for values in signals.values()) / 1e6
    table = Table("reply", "over the bare encoder", "MB of arrays / s")
    table.add_row("JSON", f"{seconds['json'] / seconds['orjson']:.2f}", f"{megabytes / seconds['json']:.0f}")
    table.add_row(
        "safetensors", f"{seconds['safetensors'] / seconds['save']:.2f}", f"{megabytes / seconds['safetensors']:.0f}"
    )
    return table
