"""How far gradients and memory reach in a network, by two analyses of the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gatescope import trace
from gatescope.analysis.registry import analyse
from studies.claims.networks import Network
from studies.claims.setup import Setup
from studies.claims.tasks import Task

_SEED = 7
_DRAWN = 400  # sequences, of which those whose first step matters are looked at


def reach(network: Network, task: Task, setup: Setup) -> dict[str, Any]:
    """Gradients from the last step, and what is left of a changed first input.

    Returns:
        `gradient`: of each state, the norms of `gradient_flow` at the setup's distances, geometric means over the
        sequences. `memory`: how much of the change of the first input is left after these distances. `forgotten_after`:
        of each sequence, the steps after which less than 1 % of that change is left; None where it never is.
    """
    batch = task.generate(setup.longest, _DRAWN, torch.Generator().manual_seed(_SEED))
    rows = task.starts(batch.inputs).nonzero()[: setup.analysed, 0].tolist()
    flows, memories = [], []
    for row in rows:
        with torch.no_grad():
            traced = trace(network.recurrent, batch.inputs[row : row + 1])
        flows.append(analyse(traced, "gradient_flow").arrays)
        memories.append(analyse(traced, "memory").arrays)
    places = list(setup.distances)
    states = [name for name in ("hidden_state", "cell_state") if name in flows[0]]
    after = [float(found["forgotten_after"].values[1]) for found in memories]  # of the input; [0] is the initial state
    return {
        "gradient": {state: _geometric([flow[state].values[0, places] for flow in flows]) for state in states},
        "memory": _geometric([found["distance"].values[1, places] for found in memories]),
        "forgotten_after": [None if np.isnan(steps) else int(steps) for steps in after],
    }


def _geometric(rows: list[np.ndarray]) -> list[float]:
    """The geometric mean over the rows, of three digits."""
    means = np.exp(np.log(np.maximum(rows, 1e-30)).mean(0))
    return [float(f"{mean:.3g}") for mean in means]
