"""The numbers of one network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from studies.counting import inside
from studies.counting.network import DEEPEST, Cell, Language, Network, Settings, drawn, right, train
from studies.counting.tasks import Symbols, batch, counted

RANGES = {"1–10": (1, DEEPEST), "11–15": (11, 15), "16–20": (16, 20), "21–40": (21, 40)}
"""How far test strings count; the first is the trained range."""

TESTED, FURTHEST = 40, 100
_SEED = 1000  # of test strings: no seed of a training


def strings_of(language: Language) -> dict[str, list[Symbols]]:
    """The test strings of each range."""
    generator = np.random.default_rng(_SEED)
    if language == "counted":
        return {name: [counted(n) for n in range(low, high + 1)] for name, (low, high) in RANGES.items()}
    return {
        name: [drawn(language, generator, low, high) for _ in range(TESTED)] for name, (low, high) in RANGES.items()
    }


def of_seed(cell: Cell, language: Language, seed: int, settings: Settings) -> dict[str, Any]:
    """Train one network, and look how far it counts and with which unit."""
    network, strings = train(cell, language, seed, settings), strings_of(language)
    trained, beyond = batch(strings["1–10"]), batch(strings["11–15"])
    torch.manual_seed(seed)
    untrained = Network(cell, settings.hidden).eval()
    found = inside.counter(network, trained)
    others = [inside.counter(network, trained, unit) for unit in range(settings.hidden) if unit != found.unit]
    return {
        "seed": seed,
        "right": inside.shares(network, strings),
        "furthest": _furthest(network),
        "unit": found.unit,
        "r": found.r,
        "r_beyond": float(inside.counts(network, beyond)[found.unit]),
        "r_untrained": inside.counter(untrained, trained).r,
        "leaking": inside.leaking(network, trained, found.unit),
        "leaking_others": [inside.leaking(network, trained, each.unit) for each in others],
        "moved": inside.moved(network, found),
        "moved_others": [inside.moved(network, each) for each in others],
    }


def _furthest(network: Network) -> int:
    """The largest n up to which every aⁿbⁿ is told right; 100 if none is wrong."""
    given = batch([counted(n) for n in range(1, FURTHEST + 1)])
    with torch.no_grad():
        wrong = torch.nonzero(~right(network(given.inputs), given))
    return int(wrong[0]) if len(wrong) else FURTHEST
