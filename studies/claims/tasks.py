"""Tasks that need memory: what a network reads, and what it must answer at the end or at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn import functional

from models.brackets.train import OPENING, generate, one_hot

SYMBOLS, COPIED = 4, 3
DEEPEST, BROKEN_SHARE = 4, 0.3


class Batch(NamedTuple):
    """Sequences of one length."""

    inputs: Tensor  # (batch, time, feature)
    targets: Tensor  # (batch, scored): numbers, or classes, of the last `scored` steps


class Task(NamedTuple):
    """What is learnt."""

    name: str
    title: str
    inputs: int
    outputs: int
    shortest: int
    measure: str  # what `score` is
    naive: float  # the score without any memory
    generate: Callable[[int, int, Generator], Batch]  # length, count
    starts: Callable[[Tensor], Tensor]  # inputs -> (batch,) whether the first step matters for the answer

    @property
    def is_regression(self) -> bool:
        """Whether the answer is a number."""
        return self.outputs == 1


def loss(task: Task, output: Tensor, batch: Batch) -> Tensor:
    """The mean squared error or cross-entropy of what is scored.

    Args:
        task: which says what the outputs are.
        output: (batch, time, output) of the network.
        batch: with the targets.
    """
    scored = output[:, -batch.targets.shape[1] :]
    if task.is_regression:
        return functional.mse_loss(scored[..., 0], batch.targets)
    return functional.cross_entropy(scored.flatten(0, 1), batch.targets.flatten())


def score(task: Task, output: Tensor, batch: Batch) -> float:
    """The mean squared error, or the share of right answers averaged over the classes."""
    if task.is_regression:
        return float(loss(task, output, batch))
    answers = output[:, -batch.targets.shape[1] :].argmax(-1)
    shares = [(answers == batch.targets)[batch.targets == each].double().mean() for each in range(task.outputs)]
    return float(torch.stack(shares).nanmean())  # NaN of a class that is not there


def _adding(length: int, count: int, generator: Generator) -> Batch:
    """Two of the numbers are marked, one in each half; their sum is asked for at the end (Hochreiter, Schmidhuber)."""
    half, rows = length // 2, torch.arange(count)
    values = torch.rand(count, length, generator=generator)
    marks = torch.zeros(count, length)
    first = torch.randint(0, half, (count,), generator=generator)
    second = torch.randint(half, length, (count,), generator=generator)
    marks[rows, first] = marks[rows, second] = 1
    return Batch(torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True))


def _copy(length: int, count: int, generator: Generator) -> Batch:
    """Symbols come first, blanks follow, and in the last steps the symbols are asked for one by one."""
    symbols = torch.randint(0, SYMBOLS, (count, COPIED), generator=generator)
    ids = torch.full((count, length), SYMBOLS)  # blank
    ids[:, :COPIED], ids[:, -COPIED:] = symbols, SYMBOLS + 1  # asked
    return Batch(functional.one_hot(ids, SYMBOLS + 2).float(), symbols)


def _brackets(length: int, count: int, generator: Generator) -> Batch:
    """Whether the text so far is balanced, open or broken, as the shipped model `brackets` says."""
    strings = generate(length, torch.full((count,), DEEPEST), BROKEN_SHARE, generator)
    return Batch(one_hot(strings.ids.T), strings.labels.T)


ADDING = Task(
    "adding",
    "Adding",
    inputs=2,
    outputs=1,
    shortest=4,
    measure="mean squared error",
    naive=1 / 6,
    generate=_adding,
    starts=lambda inputs: inputs[:, 0, 1] == 1,
)
COPY = Task(
    "copy",
    "Copy",
    inputs=SYMBOLS + 2,
    outputs=SYMBOLS,
    shortest=2 * COPIED,
    measure="share of symbols right",
    naive=1 / SYMBOLS,
    generate=_copy,
    starts=lambda inputs: inputs[:, 0, 0] >= 0,
)
BRACKETS = Task(
    "brackets",
    "Brackets",
    inputs=3,
    outputs=3,
    shortest=4,
    measure="share of steps right",
    naive=1 / 3,
    generate=_brackets,
    starts=lambda inputs: inputs[:, 0, OPENING] == 1,
)
TASKS = {task.name: task for task in (ADDING, COPY, BRACKETS)}
LONGER_TASKS = (ADDING, COPY)
"""Those that networks without gates do not learn in the usual time."""
