"""Which unit counts, and what becomes of the answers where it is made to leak or to count wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gatescope import Intervention, analyse, intervene, trace
from gatescope.interventions import trace_edited
from gatescope.selection import Selection
from studies.counting.network import Network, right
from studies.counting.tasks import CLOSE, OPEN, Batch, Symbols, batch

LEAK = 0.9
"""The gate that keeps the state is set to this at every step."""

SHIFTS = (-2, -1, 1, 2)
SHIFTED = range(5, 9)
"""Strings of so many aⁿ are counted wrong by `SHIFTS`: all that is asked for lies within the trained range."""

KEEPS = {"lstm": "forget_gate", "gru": "update_gate"}
STATE = {"lstm": "cell_state", "gru": "hidden_state"}


@dataclass(frozen=True)
class Counter:
    """The unit whose state follows the count best."""

    unit: int
    r: float
    per_count: float  # how much its state moves when the count does


def counts(network: Network, given: Batch) -> np.ndarray:
    """(unit,) the correlation of each unit's state with the count."""
    series = [[float(value) for value in row[:length]] for row, length in zip(given.depth, given.lengths, strict=True)]
    seen = trace(network.recurrent, given.inputs, given.lengths)
    found = analyse(seen, "correlation", series=[{"name": "count", "values": series}])
    return np.asarray(found["r"][0, 0, 0])


def counter(network: Network, given: Batch, unit: int | None = None) -> Counter:
    """The unit that counts in these strings, or what another one does."""
    r = np.nan_to_num(counts(network, given))
    chosen = int(np.abs(r).argmax()) if unit is None else unit
    state = trace(network.recurrent, given.inputs, given.lengths).signals[STATE[_cell(network)]][:, 0, 0, :, chosen]
    valid, depth = given.valid, given.depth
    ratio = state[valid].std() / depth[valid].std()
    return Counter(chosen, float(r[chosen]), float(r[chosen] * ratio))


def leaking(network: Network, given: Batch, unit: int) -> float:
    """The share of strings that are right where this unit leaks."""
    edit = Intervention(KEEPS[_cell(network)], units=(unit,), set=LEAK)
    ran = intervene(network.recurrent, given.inputs, [edit], given.lengths, selection=Selection(signals=()))
    return float(right(_scores(network, ran.intervened.output), given).float().mean())


def moved(network: Network, found: Counter) -> float:
    """By how many counts the end moves for each count that the unit's state is shifted; NaN where no end is told.

    The state is shifted once, behind the last a; the b go on for long enough. 1 is a counter, 0 a unit that is not
    asked.
    """
    strings = [(n, shift) for n in SHIFTED for shift in (0, *SHIFTS)]
    given = batch([np.array([OPEN] * n + [CLOSE] * 2 * n) for n, _ in strings])
    edits = [
        Intervention(
            STATE[_cell(network)],
            units=(found.unit,),
            sequences=(row,),
            start=n - 1,
            stop=n,
            shift=shift * found.per_count,
        )
        for row, (n, shift) in enumerate(strings)
        if shift
    ]
    ran = trace_edited(network.recurrent, given.inputs, edits, given.lengths, selection=Selection(signals=()))
    ends = [_end(row[n:]) for (n, _), row in zip(strings, _scores(network, ran.output), strict=True)]
    rows = np.array([(shift, end - n) for (n, shift), end in zip(strings, ends, strict=True) if end is not None])
    if len({shift for shift, _ in rows.tolist()}) <= 1:
        return float("nan")
    return float(np.polyfit(rows[:, 0], rows[:, 1], 1)[0])


def _end(scores: Tensor) -> int | None:
    """The number of b behind which the string may end for the first time."""
    told = torch.nonzero(scores > 0)
    return int(told[0]) + 1 if len(told) else None


def _scores(network: Network, output: Tensor) -> Tensor:
    with torch.no_grad():
        return network.head(output.nan_to_num())[..., 0]  # type: ignore[no-any-return]


def _cell(network: Network) -> str:
    return "lstm" if isinstance(network.recurrent, torch.nn.LSTM) else "gru"


def shares(network: Network, strings: dict[str, list[Symbols]]) -> dict[str, float]:
    """Of each group of strings: the share that is right at every step."""
    with torch.no_grad():
        given = {name: batch(each) for name, each in strings.items()}
        return {name: float(right(network(each.inputs), each).float().mean()) for name, each in given.items()}
