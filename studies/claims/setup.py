"""`Setup`: the sizes of the experiment."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Setup:
    """The sizes of every training; a test has smaller ones."""

    units: int = 30
    """Of each network but the wide one."""

    steps: int = 1000
    """Of the optimiser."""

    batch: int = 32
    longest: int = 40
    """The longest training sequence; each batch has one length, drawn uniformly up to it."""

    test_lengths: tuple[int, ...] = (10, 20, 40, 80)
    test_count: int = 500
    """Sequences of each length in the test set, and in the validation set."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    pilot_seed: int = 100
    """Of the trainings that choose the learning rate; it is none of `seeds`."""

    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2)
    """Learning rates that the pilot tries."""

    distances: tuple[int, ...] = (0, 1, 2, 3, 5, 7, 10, 14, 20, 28, 39)
    """Time steps before the last one at which gradients are shown."""

    analysed: int = 2
    """Sequences of `longest` steps over which gradients and memory are averaged."""

    def described(self) -> dict[str, Any]:
        """As it stands in the results, with the machine."""
        return asdict(self) | machine()


LONGER = Setup(steps=3000, rates=(1e-3, 3e-3, 1e-2))
"""Of the trainings that ask whether plain networks only need more steps."""


def machine() -> dict[str, Any]:
    """What a result depends on beside its setup."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The model as Linux names it; elsewhere the architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
