"""A graph runs over other batches and lengths where that is proved to be right, else over those of its sample alone."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from gatescope.errors import ModuleFailed
from tests.bulk import IS_ALL, some
from tests.pipeline.export.conftest import FREE, widen

STEPS = 32
STATIC = None
OTHERS = ((1, STEPS), (3, 1), (2, 60), (5, 7), (1, 33))


class Seen(NamedTuple):
    """What a function is given."""

    m: nn.Module
    x: Tensor
    y: Tensor  # the LSTM's output


class Around(nn.Module):
    """An LSTM, a function of its inputs and outputs, and a linear layer."""

    def __init__(self, function):
        super().__init__()
        self.lstm, self.fc, self.function = nn.LSTM(3, 8, batch_first=True), nn.Linear(8, 2), function
        self.table = nn.Parameter(torch.zeros(500, 8))
        self.learned = nn.Parameter(torch.zeros(1, STEPS, 8))

    def forward(self, x):
        return self.fc(self.function(Seen(self, x, self.lstm(x)[0])))


FREE_STEPS = {
    "last step": lambda s: s.y[:, -1],
    "mean": lambda s: s.y.mean(1),
    "view by sizes": lambda s: s.y.reshape(s.x.shape[0] * s.x.shape[1], 8).view(s.x.shape[0], s.x.shape[1], 8),
    "view of a square": lambda s: (s.y @ s.y.mT).view(s.x.shape[0], 1, s.x.shape[1], s.x.shape[1])[:, 0] @ s.y,
    "expand by sizes": lambda s: s.y + s.y[:, -1:].expand(s.x.shape[0], s.x.shape[1], 8),
    "places added": lambda s: s.y + s.m.table[: s.x.shape[1]],
    "arange added": lambda s: s.y + 0.3 * torch.arange(s.x.shape[1])[None, :, None],
    "mask": lambda s: (s.y @ s.y.mT * torch.ones(s.x.shape[1], s.x.shape[1]).tril()) @ s.y,
    "zeros": lambda s: s.y + torch.zeros(s.x.shape[0], s.x.shape[1], 8),
    "own state": lambda s: s.m.lstm(s.x, (torch.zeros(1, s.x.shape[0], 8), torch.zeros(1, s.x.shape[0], 8)))[0],
    "first step dropped": lambda s: torch.cat([s.y[:, 1:], s.y[:, :1]], 1),
    "one more step": lambda s: torch.cat([s.y, s.y[:, :1]], 1).reshape(s.x.shape[0], -1, 8),
    "causal convolution": lambda s: (
        functional.conv1d(functional.pad(s.y.mT, (6, 0)), s.m.table[:8, :7].T.expand(8, 7, 8).mT[:, :8, :7]).mT
    ),
    "last 24": lambda s: s.y[:, -24:],
}
STATIC_TOO = ("view by sizes", "mask", "own state")
FIXED_STEPS = {
    "last place as a number": (lambda s: s.y[:, s.x.shape[1] - 1], "index 31"),
    "middle": (lambda s: s.y[:, s.x.shape[1] // 2], "index 16"),
    "place five": (lambda s: s.y[:, 5], "index 5"),
    "first half": (lambda s: s.y[:, : s.x.shape[1] // 2].mean(1), "end 16"),
    "second half": (lambda s: s.y[:, -(s.x.shape[1] // 2) :].mean(1), "start -16"),
    "division by the length": (lambda s: s.y.sum(1) / s.x.shape[1], "other 32"),
    "root of the length": (lambda s: s.y.sum(1) / s.x.shape[1] ** 0.5, "other 5.65685"),
    "inverse of the length": (lambda s: s.y.sum(1) * (1 / s.x.shape[1]), "other 0.03125"),
    "pool over the length": (lambda s: functional.avg_pool1d(s.y.mT, s.x.shape[1])[..., 0], "kernel_size 32"),
    "padding up to 50": (
        lambda s: functional.pad(s.y, (0, 0, 0, 50 - s.x.shape[1])).mean(1),
        "makes the steps longer",
    ),
    "zeros up to 50": (
        lambda s: torch.cat([s.y, s.y.new_zeros(s.x.shape[0], 50 - s.x.shape[1], 8)], 1).mean(1),
        "makes the steps longer",
    ),
    "as many steps as the sample": (
        lambda s: s.y[:, -1:].repeat(1, s.x.shape[1], 1),
        "may follow the number of steps",
    ),
    "learned places": (lambda s: s.y + s.m.learned, "over another number of steps"),
    "steps as features": (lambda s: s.y.mT @ s.m.learned[0], "over another number of steps"),
    "a loop": (lambda s: torch.stack([2.5 * step for step in s.y.unbind(1)], 1), "gives"),
    "a place in a tensor": (lambda s: s.y[:, torch.tensor([s.x.shape[1] - 1])][:, 0], "31"),
    "a number in a tensor": (lambda s: s.y.sum(1) / torch.tensor(float(s.x.shape[1])), "constant tensor"),
    "rolled": (lambda s: s.y.roll(s.x.shape[1] // 2, 1), "shifts 16"),
}


def assert_gives_the_same(served, module, sizes):
    for batch, steps in sizes:
        x = torch.randn(batch, steps, 3)
        with torch.no_grad():
            torch.testing.assert_close(served(x)[0], module(x), rtol=0, atol=1e-5)


@pytest.mark.random
@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        *((name, FREE) for name in some(FREE_STEPS, 3)),
        *((name, STATIC) for name in (FREE_STEPS if IS_ALL else STATIC_TOO)),
    ],
)
def test_sizes_that_follow_the_inputs_are_freed(load, name, shapes):
    module = widen(Around(FREE_STEPS[name]))
    served = load(module, torch.randn(2, STEPS, 3), dynamic_shapes=shapes)
    assert served.fixed_batch is None, served.notes
    assert served.fixed_steps is None, served.notes
    assert "so it takes any" in served.notes[-1]
    assert_gives_the_same(served, module, OTHERS)


@pytest.mark.random
@pytest.mark.parametrize("name", some(FIXED_STEPS, 3))
def test_numbers_that_may_stem_from_the_length_fix_it(load, name):
    function, reason = FIXED_STEPS[name]
    module = widen(Around(function))
    served = load(module, torch.randn(2, STEPS, 3))
    assert served.fixed_steps == STEPS
    assert served.fixed_batch is None
    assert served.notes[0].startswith(f"It takes sequences of exactly {STEPS} steps: ")
    assert reason in served.notes[0]
    assert_gives_the_same(served, module, ((1, STEPS), (3, STEPS)))
    for steps in (STEPS - 1, STEPS + 1, 60):
        with pytest.raises(ModuleFailed, match=f"takes exactly {STEPS} steps, not {steps}"):
            served(torch.randn(2, steps, 3))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_a_batch_that_the_export_fixed_is_freed_for_any_sample(load, batch):
    module = widen(Around(lambda s: functional.softmax(s.y.view(s.x.shape[0], -1, 4, 2), -1).flatten(2)))
    served = load(module, torch.randn(batch, STEPS, 3), dynamic_shapes=STATIC)
    assert served.fixed_batch is None
    assert_gives_the_same(served, module, OTHERS)


def test_rows_that_depend_on_one_another_fix_the_batch(load):
    module = widen(Around(lambda s: s.y[:, -1] - s.y[:, -1].mean(0)))
    served = load(module, torch.randn(2, STEPS, 3), dynamic_shapes=STATIC)
    assert served.fixed_batch == 2
    assert served.notes[0].startswith("It takes exactly 2 sequences at a time: ")
    assert_gives_the_same(served, module, ((2, STEPS), (2, 9)))
    with pytest.raises(ModuleFailed, match="takes exactly 2 sequences at a time, not 3"):
        served(torch.randn(3, STEPS, 3))


@pytest.mark.parametrize(("batch", "steps"), [(8, 8), (4, 4), (1, 1), (2, 2), (3, 8)])
def test_a_sample_whose_sizes_are_those_of_layers_is_served_right_or_fixed(load, batch, steps):
    module = widen(
        Around(lambda s: (s.y @ s.y.mT).softmax(-1) @ s.y.reshape(s.x.shape[0], s.x.shape[1], 2, 4).flatten(2))
    )
    served = load(module, torch.randn(batch, steps, 3), dynamic_shapes=STATIC)
    sizes = [
        (served.fixed_batch or other_batch, served.fixed_steps or other_steps)
        for other_batch, other_steps in (*OTHERS, (batch, steps))
    ]
    assert_gives_the_same(served, module, sizes)


class Convolution(nn.Module):
    """The steps are symbolic in the file, as no recurrent module reads them: it reads a pooled sequence."""

    def __init__(self):
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(3, 4, 3, padding=1), nn.LSTM(4, 2, batch_first=True)

    def forward(self, x):
        return self.lstm(functional.adaptive_avg_pool1d(self.conv(x.mT), 5).mT)[0] + x.shape[1]


def test_steps_that_are_symbolic_in_the_file_are_taken_as_they_are(load):
    module = widen(Convolution())
    served = load(module, torch.randn(2, 10, 3), dynamic_shapes=({0: Dim.DYNAMIC, 1: Dim("steps", max=50)},))
    assert served.fixed_steps is None
    assert served.notes == ()
    assert served.steps_range == (None, 50)
    assert_gives_the_same(served, module, ((1, 10), (3, 7), (2, 50)))
    with pytest.raises(ModuleFailed, match="holds for 1 to 50 steps, not 51"):
        served(torch.randn(2, 51, 3))


def test_a_request_that_would_need_too_much_memory_is_refused(load):
    served = load(widen(Around(lambda s: (s.y @ s.y.mT) @ s.y)), torch.randn(2, STEPS, 3))
    with pytest.raises(ModuleFailed, match=r"'matmul'.*268435456 and"):
        served(torch.empty(1, 20_000, 3))
