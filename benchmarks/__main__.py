"""`make bench`: every figure, each from one interleaved run; names given choose among them."""

from __future__ import annotations

import sys

import torch
from rich.console import Console

from benchmarks import encoding, trace

ALL = {
    "memory": trace.memory,
    "trace": trace.padded,
    "ragged": trace.ragged,
    "scaling": trace.scaling,
    "encoding": encoding.measure,
}


def main(names: list[str]) -> None:
    """Print the tables of these benchmarks, of all when none is named."""
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in names or ALL:
        console.print(ALL[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
