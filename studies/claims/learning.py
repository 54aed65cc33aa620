"""Trains every network on a task, from several seeds, and says what it learnt and how far its gradients reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from studies.claims.networks import KINDS, Kind, Network, build, parameters_of
from studies.claims.reach import reach
from studies.claims.setup import Setup
from studies.claims.tasks import Batch, Task, loss, score

LARGEST_GRADIENT = 1.0
_VALIDATION, _TEST = 10_000, 20_000  # seeds, beyond those of the trainings

Report = Callable[[str], object]


def learn(task: Task, setup: Setup, report: Report, kinds: Mapping[str, Kind] = KINDS) -> dict[str, Any]:
    """All trainings of a task.

    The learning rate of each network is the one with which a training from another seed ended at the smallest
    validation loss. The networks of one seed see the same batches.
    """
    batches = draw(task, setup, setup.pilot_seed)
    pilot = [_pilot(task, kind, setup, batches, report) for kind in kinds.values()]
    rates = {each["network"]: each["rate"] for each in pilot}
    runs = []
    for seed in setup.seeds:
        batches = draw(task, setup, seed)
        for name, kind in kinds.items():
            runs.append(_run(task, kind, setup, seed, rates[name], batches))
            report(f"{task.name}, seed {seed}, {name}: {runs[-1]['score']}")
    return {"task": task.name, "setup": setup.described(), "pilot": pilot, "runs": runs}


def draw(task: Task, setup: Setup, seed: int) -> list[Batch]:
    """The batches of a training, each of one length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(task.shortest, setup.longest + 1, (setup.steps,), generator=generator).tolist()
    return [task.generate(length, setup.batch, generator) for length in lengths]


def train(network: Network, task: Task, batches: list[Batch], rate: float) -> float:
    """Adam, its rate falling to 0 in a line, gradients clipped to a norm of 1; returns the seconds of CPU time."""
    started = time.process_time()
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, total_iters=len(batches))
    for batch in batches:
        optimiser.zero_grad()
        loss(task, network(batch.inputs), batch).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        schedule.step()
    return time.process_time() - started


def _pilot(task: Task, kind: Kind, setup: Setup, batches: list[Batch], report: Report) -> dict[str, Any]:
    """The learning rate of a network, and the validation loss with each."""
    losses = {}
    for rate in setup.rates:
        network = build(kind, task.inputs, task.outputs, setup.units, setup.pilot_seed)
        train(network, task, batches, rate)
        losses[rate] = _validation_loss(network, task, setup)
    report(f"{task.name}, pilot, {kind.name}: {losses}")
    best = min(losses, key=losses.__getitem__)
    return {"network": kind.name, "rate": best, "losses": {str(rate): round(each, 4) for rate, each in losses.items()}}


def _run(task: Task, kind: Kind, setup: Setup, seed: int, rate: float, batches: list[Batch]) -> dict[str, Any]:
    network = build(kind, task.inputs, task.outputs, setup.units, seed)
    initial = reach(network, task, setup)
    cpu_s = train(network, task, batches, rate)
    return {
        "network": kind.name,
        "seed": seed,
        "units": network.recurrent.hidden_size,
        "parameters": parameters_of(network.recurrent),
        "cpu_s": round(cpu_s, 2),
        "score": _scores(network, task, setup),
        "initial": initial,
        "trained": reach(network, task, setup),
    }


@torch.no_grad()
def _validation_loss(network: Network, task: Task, setup: Setup) -> float:
    """At the longest training length."""
    batch = task.generate(setup.longest, setup.test_count, torch.Generator().manual_seed(_VALIDATION))
    return float(loss(task, network(batch.inputs), batch))


@torch.no_grad()
def _scores(network: Network, task: Task, setup: Setup) -> dict[str, float]:
    """Of test sequences of each length."""
    found = {}
    for length in setup.test_lengths:
        batch = task.generate(length, setup.test_count, torch.Generator().manual_seed(_TEST + length))
        found[str(length)] = round(score(task, network(batch.inputs), batch), 4)
    return found
