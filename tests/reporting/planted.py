"""Networks built by hand whose one unit does a known thing, and random ones that do nothing."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from gatescope import trace
from gatescope.analysis.subject import Subject
from gatescope.reporting.findings import Known, find, recorded
from gatescope.reporting.report import report

UNITS, STEPS, SWINGING_STEPS = 8, 300, 400
GATES = ("input", "forget", "candidate", "output")
CERTAIN = 12.0  # before a sigmoid or tanh: all but 1


class Linear:
    """A random linear head."""

    def __init__(self, width):
        self.layer, self.names = nn.Linear(width, 1), ("y",)

    def __call__(self, output):
        return self.layer(output)

    def only(self, _):
        return self


class Planted(NamedTuple):
    """A network, what it reads, and what its report must say."""

    subject: Subject
    kind: str
    unit: int
    figures: dict


def planted(kind, seed, noise):
    """A network of eight units whose other weights are normal noise of this deviation.

    The noise reaches the unit, too. What it does to a forget gate is part of the truth: its timescale is then that of
    the equations in NumPy.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    module = nn.RNN(3, UNITS) if kind == "swings" else nn.LSTM(3, UNITS)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, noise) if noise else parameter.zero_()
    build = {"counts": _count, "latches": _latch, "remembers": _shift, "slow": _leak, "swings": _turn}[kind]
    inputs, unit, figures = build(module, generator)
    if kind == "slow" and noise:
        figures = {"timescale": -1 / np.log(forget_gate(module, inputs)[:, unit]).mean()}
    return Planted(Subject.of(trace(module, [inputs]), Linear(UNITS)), kind, unit, figures)


def forget_gate(module, inputs):
    """(step, unit) by the equations of an LSTM of one layer, in float64."""
    read, hidden, one, two = (each.detach().double().numpy() for each in module.parameters())
    output = cell = np.zeros(UNITS)
    gates = []
    for step in inputs.double().numpy():
        sums = np.split(read @ step + hidden @ output + one + two, 4)
        opening, kept, leaving = (1 / (1 + np.exp(-sums[index])) for index in (0, 1, 3))
        cell = kept * cell + opening * np.tanh(sums[2])
        output = leaving * np.tanh(cell)
        gates.append(kept)
    return np.stack(gates)


def is_named(found, truth):
    """Whether a report names the unit, and its numbers to 10 %."""
    return any(
        each.kind == truth.kind
        and each.place.unit == truth.unit
        and all(
            each.figures[name] == (pytest.approx(value, rel=0.1) if isinstance(value, float) else value)
            for name, value in truth.figures.items()
        )
        for each in found
    )


def found_in(truth):
    """What is found of it."""
    return [each for family in find(recorded(truth.subject), Known()) for each in family.findings if each.stands_out]


def random_network(seed, scale=1.0):
    """The report of a random network that reads white noise, with a white and a red series and senseless classes.

    Weights of two to four times the usual size saturate the gates and make networks chaotic.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    kind = (nn.LSTM, nn.GRU, nn.RNN)[seed % 3]
    units, features = int(generator.choice([4, 8, 16, 32])), int(generator.integers(1, 5))
    layers, both, rows = int(generator.integers(1, 3)), bool(generator.integers(2)), int(generator.choice([1, 3]))
    module = kind(features, units, layers, bidirectional=both)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(scale)
    length = 400 if rows == 1 else 200
    subject = Subject.of(
        trace(module, [torch.randn(length, features) for _ in range(rows)]), Linear(units * (1 + both))
    )
    red = np.convolve(generator.normal(size=length * rows + 60), 0.95 ** np.arange(60), "valid")[: length * rows]
    series = {"white": generator.normal(size=(rows, length)), "red": red.reshape(rows, length)}
    classes = np.where(generator.random((rows, length)) < 0.3, "a", "b").tolist()
    return report(subject, series=series, classes=classes)


def _set(module, unit, gate, bias, inputs=(0, 0, 0), hidden=()):
    row = GATES.index(gate) * UNITS + unit
    with torch.no_grad():
        module.bias_ih_l0[row] += bias
        module.weight_ih_l0[row] += torch.tensor(inputs, dtype=torch.float32)
        for other, weight in hidden:
            module.weight_hh_l0[row, other] += weight


def _count(module, generator):
    """f = i = 1, g = 1, -1 and 0 or 1 at three one-hot inputs."""
    unit = int(generator.integers(UNITS))
    _set(module, unit, "forget", CERTAIN)
    _set(module, unit, "input", CERTAIN)
    _set(module, unit, "candidate", 0, (CERTAIN, -CERTAIN, CERTAIN * int(generator.integers(2))))
    return torch.eye(3)[torch.tensor(generator.integers(0, 3, STEPS))], unit, {"step": 1.0}


def _latch(module, generator):
    """f = g = 1; the input gate is opened by one of three one-hot inputs, which is rare."""
    unit, opening = int(generator.integers(UNITS)), int(generator.integers(3))
    _set(module, unit, "forget", CERTAIN)
    _set(module, unit, "input", -8, tuple(16 * (index == opening) for index in range(3)))
    _set(module, unit, "candidate", CERTAIN)
    others = np.delete(np.arange(3), opening)
    read = np.where(generator.random(STEPS) < 0.05, opening, generator.choice(others, STEPS))
    read[STEPS // 2] = opening
    return torch.eye(3)[torch.tensor(read)], unit, {"input": f"input {opening}"}


def _shift(module, generator):
    """Units that hand an input on from step to step: f = 0, i = o = 1."""
    steps = int(generator.integers(2, 6))
    chain = generator.permutation(UNITS)[: steps + 1].tolist()
    for place, unit in enumerate(chain):
        _set(module, unit, "forget", -CERTAIN)
        _set(module, unit, "input", CERTAIN)
        _set(module, unit, "output", CERTAIN)
        if place == 0:
            _set(module, unit, "candidate", 0, (1, 0, 0))
        else:
            _set(module, unit, "candidate", 0, hidden=[(chain[place - 1], 2)])
    inputs = torch.tensor(generator.normal(size=(STEPS, 3)), dtype=torch.float32)
    return inputs, chain[-1], {"input": "input 0", "steps": steps}


def _leak(module, generator):
    """A forget gate that is always λ; τ = −1/ln λ."""
    unit, kept = int(generator.integers(UNITS)), float(generator.uniform(0.85, 0.99))
    row = UNITS + unit
    with torch.no_grad():
        noise = module.bias_ih_l0[row] + module.bias_hh_l0[row]
    _set(module, unit, "forget", float(np.log(kept / (1 - kept)) - noise))
    _set(module, unit, "input", CERTAIN)
    inputs = torch.tensor(generator.normal(size=(STEPS, 3)), dtype=torch.float32)
    return inputs, unit, {"timescale": -1 / np.log(kept)}


def _turn(module, generator):
    """Two units of a plain network turn round one another, kept going by what they read."""
    unit, other = generator.permutation(UNITS)[:2].tolist()
    period = float(generator.uniform(4, 20))
    along, across = 1.1 * np.cos(2 * np.pi / period), 1.1 * np.sin(2 * np.pi / period)
    with torch.no_grad():
        weights = module.weight_hh_l0
        weights[unit, unit] += along
        weights[other, other] += along
        weights[unit, other] -= across
        weights[other, unit] += across
    inputs = torch.tensor(generator.normal(size=(SWINGING_STEPS, 3)), dtype=torch.float32)
    return inputs, unit, {"period": period}
