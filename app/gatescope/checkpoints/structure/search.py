"""`search`: the readings of a checkpoint that give what the training code computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from gatescope.checkpoints.structure.kinds import Part
from gatescope.checkpoints.structure.notation import Unreadable, expand_one
from gatescope.checkpoints.structure.readings import Tokens
from gatescope.errors import AppError
from gatescope.forward import forward
from gatescope.pipeline.graph import INPUTS
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.layer import Layer, Shape, Steps, Weights
from gatescope.pipeline.layers.recurrent import Recurrent
from gatescope.state import State

MAX_NUMBERS = 2_000_000
"""Of the values that are held at once behind one layer."""

_CONFIG: TypeAdapter[LayerConfig] = TypeAdapter(LayerConfig)
_SEQUENCE = 3  # axes: (batch, time, width)
_SAME = 1e-9  # part of the largest value: what the order of sums does in float64 stays below
_TRIES = 24
_KINDS = 40  # readings that differ, of which no more are looked for
_GIVES = {
    "relu": (0.0, np.inf),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softplus": (0.0, np.inf),
    "exp": (0.0, np.inf),
    "softmax": (0.0, 1.0),
    "log_softmax": (-np.inf, 0.0),
    "l2_norm": (-1.0, 1.0),
    "elu": (-1.0, np.inf),
    "gelu": (-0.17, np.inf),
}
_BEFORE = "(before)"  # what a token reads


@dataclass(frozen=True)
class Inputs:
    """A batch as the layers read it."""

    values: Mapping[str, tuple[Shape, Tensor]]
    """`inputs`, and `static` where there are such."""
    steps: Steps
    state: State | None = None


@dataclass(frozen=True)
class Question:
    """One way to take the sample: its layout and scaling."""

    inputs: Inputs
    expected: Sequence[np.ndarray] | np.ndarray
    """Float64, in the units of the last layer."""
    time_first: bool = False
    scaled_inputs: bool = True
    """Whether the scaler is applied to the sample's inputs."""
    scaled_outputs: bool = True
    """Whether the scaler is applied to the sample's expected values."""

    def rows(self, width: int, *, per_step: bool) -> list[np.ndarray] | None:
        """What is expected of each sequence, (step, value) or (value,), of so many values; None if it is not that."""
        steps = self.inputs.steps
        shape = (len(steps.lengths), steps.time, width) if per_step else (len(steps.lengths), width)
        return _fitted(self, shape, steps.lengths.tolist())


@dataclass(frozen=True)
class Match:
    """A reading that gives the expected values."""

    tokens: Tokens
    question: Question
    error: float


@dataclass
class Found:
    """What a search has found."""

    matches: list[Match] = field(default_factory=list)
    nearest: Match | None = None
    tried: int = 0


@dataclass(slots=True)
class Node:
    """Where chains have been the same so far."""

    then: dict[str, Node] = field(default_factory=dict)
    chains: list[int] = field(default_factory=list)
    """The numbers of those that end here."""


def tree(chains: Sequence[Tokens]) -> Node:
    """The root of a tree of chains, which are known by their place in the sequence."""
    root = Node()
    for index, tokens in enumerate(chains):
        node = root
        for token in tokens:
            below = node.then.get(token)
            if below is None:
                below = node.then[token] = Node()
            node = below
        node.chains.append(index)
    return root


class Evaluator:
    """Computes chains of layers over one batch: what chains have in common once, and like layers of many at once.

    Args:
        weights: of the checkpoint.
        parts: by path.
        learned: initial states, as `notation.expand` takes them.
        inputs: the batch.
        dtype: in which is computed; float64 shows that chains are the same but for the order of their sums.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        parts: Mapping[str, Part],
        learned: Mapping[str, Mapping[str, str]],
        inputs: Inputs,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._weights, self._parts, self._learned, self._inputs = weights, parts, learned, inputs
        self._dtype = dtype
        self._layers: dict[tuple[str, Shape, bool], list[_Built] | None] = {}
        self._steps: dict[int, Steps] = {}

    def values(self, root: Node) -> Iterator[tuple[list[int], Tensor]]:
        """What the last layers of a tree give: which chains, and their values (chain, batch, …).

        Chains that cannot be are left out.
        """
        shape, value = self._inputs.values[INPUTS]
        value = value.to(self._dtype) if value.is_floating_point() else value
        with torch.no_grad():
            yield from self._descend([root], shape, value[None], is_start=True)

    def _descend(
        self, nodes: Sequence[Node], shape: Shape, values: Tensor, *, is_start: bool = False
    ) -> Iterator[tuple[list[int], Tensor]]:
        """What follows on nodes of one shape, whose values are (node, batch, …)."""
        ends = [(index, row) for row, node in enumerate(nodes) for index in node.chains]
        if ends:
            yield [index for index, _ in ends], values[[row for _, row in ends]]
        rows: dict[str, list[int]] = {}
        for row, node in enumerate(nodes):
            for token in node.then:
                rows.setdefault(token, []).append(row)
        made: dict[Shape, tuple[list[Node], list[Tensor]]] = {}
        for token, own in rows.items():
            layers = self._built(token, shape, is_start=is_start)
            if layers is not None:
                given = values if len(own) == len(nodes) else values[own]
                after, tensors = made.setdefault(layers[-1].layer.shape, ([], []))
                after += [nodes[row].then[token] for row in own]
                tensors.append(self._applied(layers, given))
        for shape_after, (after, tensors) in made.items():
            together = torch.cat(tensors)
            most = max(1, MAX_NUMBERS // max(1, together[0].numel()))
            for start in range(0, len(after), most):
                yield from self._descend(after[start : start + most], shape_after, together[start : start + most])

    def _built(self, token: str, shape: Shape, *, is_start: bool) -> list[_Built] | None:
        """The layers that a token means behind values of this shape; None where they cannot be."""
        key = (token, shape, is_start)
        if key not in self._layers:
            try:
                self._layers[key] = self._build(token, shape, [] if is_start else [{"name": _BEFORE}])
            except (AppError, Unreadable):
                self._layers[key] = None
        return self._layers[key]

    def _build(self, token: str, shape: Shape, before: list[dict[str, Any]]) -> list[_Built]:
        shapes = {name: given for name, (given, _) in self._inputs.values.items()}
        shapes[before[-1]["name"] if before else INPUTS] = shape
        built, last = [], before[-1]["name"] if before else INPUTS
        for config in expand_one(token, before, self._parts, self._learned):
            made = _CONFIG.validate_python(config)
            reads = made.inputs or (last,)
            prefix = made.name if made.weights is None else made.weights
            layer = made.build(Weights(self._weights, set(), made.name, prefix), [shapes[name] for name in reads])
            layer.to(self._dtype)
            layer.shape = replace(layer.shape, names=None)  # shapes without names compare faster
            built.append(_Built(made.name, reads, layer))
            shapes[made.name], last = layer.shape, made.name
        return built

    def _applied(self, layers: Sequence[_Built], values: Tensor) -> Tensor:
        """(chain, batch, …) -> (chain, batch, …), all chains as one batch."""
        count, batch = values.shape[:2]
        known = {
            name: given.to(self._dtype).repeat(count, *(1,) * (given.dim() - 1)) for name, (_, given) in self._others
        }
        value = known[_BEFORE] = known[INPUTS] = values.flatten(0, 1)
        for built in layers:
            value = known[built.name] = self._run(built.layer, [known[name] for name in built.reads], count)
        return value.reshape(count, batch, *value.shape[1:])

    @cached_property
    def _others(self) -> list[tuple[str, tuple[Shape, Tensor]]]:
        """What the batch has beside its inputs."""
        return [(name, given) for name, given in self._inputs.values.items() if name != INPUTS]

    def _run(self, layer: Layer, values: Sequence[Tensor], count: int) -> Tensor:
        if count not in self._steps:
            given = self._inputs.steps
            self._steps[count] = Steps(given.lengths.repeat(count), given.time, ragged=given.ragged)
        steps = self._steps[count]
        if not isinstance(layer, Recurrent):
            return layer(*values, steps=steps).to(self._dtype)  # type: ignore[no-any-return]
        rows, state = len(values[0]), self._inputs.state
        if state is not None:
            begin = State(*(each.to(self._dtype).repeat(1, count, 1) for each in state))
        else:
            begin = layer.initial_state(rows) or State.zeros(layer.spec, rows, values[0])
        output, _ = forward(
            layer.module, values[0], steps.lengths, begin, ragged=steps.ragged, with_state=False, with_padding=False
        )
        return output


@dataclass(frozen=True)
class _Built:
    """A layer and what it reads."""

    name: str
    reads: tuple[str, ...]
    layer: Layer


def search(
    chains: Sequence[Tokens],
    evaluators: Sequence[tuple[Question, Evaluator]],
    tolerance: float,
) -> Found:
    """Try chains on a sample.

    Args:
        chains: to try, the likeliest first; so are the matches.
        evaluators: the ways to take the sample.
        tolerance: how far a prediction may be from what is expected.
    """
    found = Found()
    matches: list[tuple[int, int, Match]] = []
    root = tree(chains)
    with one_thread():
        for place, (question, evaluator) in enumerate(evaluators):
            for indices, values in evaluator.values(root):
                errors = errors_of(values, question)
                found.tried += len(indices)
                for row in np.flatnonzero(errors <= tolerance).tolist():
                    match = Match(chains[indices[row]], question, float(errors[row]))
                    matches.append((indices[row], place, match))
                row = int(errors.argmin())
                if errors[row] < (np.inf if found.nearest is None else found.nearest.error):
                    found.nearest = Match(chains[indices[row]], question, float(errors[row]))
    found.matches = [match for _, _, match in sorted(matches, key=lambda each: each[:2])]
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: values are small here, and to wait for other threads takes longer than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def errors_of(values: Tensor, question: Question) -> np.ndarray:
    """Of each chain (chain, batch, …) the largest difference, divided by the largest expected value.

    It is infinite where the shapes differ, or the chain gives NaN.
    """
    lengths = question.inputs.steps.lengths.tolist()
    expected = _fitted(question, tuple(values.shape[1:]), lengths)
    if expected is None:
        return np.full(len(values), np.inf)
    given = values.double().numpy()
    differences, largest = np.zeros(len(values)), 0.0
    for row, other in enumerate(expected):
        own = given[:, row, : len(other)] if given.ndim > _SEQUENCE else given[:, row]
        apart = np.abs(own - other).reshape(len(values), -1).max(axis=1, initial=0.0)
        differences = np.maximum(differences, apart)  # NaN stays NaN
        largest = max(largest, float(np.abs(other).max(initial=0.0)))
    differences = np.where(np.isnan(differences), np.inf, differences)
    return differences / largest if largest else np.where(differences == 0, 0.0, np.inf)


def impossible(questions: Sequence[Question], tolerance: float) -> frozenset[str]:
    """The functions that cannot be the last one: the expected values lie beyond what they give."""
    ranges = [_range(question.expected) for question in questions]
    return frozenset(
        name
        for name, (least, most) in _GIVES.items()
        if not any(
            low >= least - tolerance * max(abs(low), abs(high)) and high <= most + tolerance * max(abs(low), abs(high))
            for low, high in ranges
        )
    )


def _range(expected: Sequence[np.ndarray] | np.ndarray) -> tuple[float, float]:
    values = np.concatenate([np.ravel(each) for each in expected])
    return float(values.min(initial=np.inf)), float(values.max(initial=-np.inf))


def _fitted(question: Question, shape: tuple[int, ...], lengths: Sequence[int]) -> list[np.ndarray] | None:
    """What is expected of each sequence, in the shape of what is given; None where that cannot be."""
    expected, is_sequence = question.expected, len(shape) == _SEQUENCE
    if not isinstance(expected, np.ndarray):
        if len(expected) != shape[0]:
            return None
        rows = [_row(np.asarray(each), shape[-1], len(shape)) for each in expected]
        steps = [length if is_sequence else None for length in lengths]
        fits = all(
            row is not None and (step is None or len(row) == step) for row, step in zip(rows, steps, strict=True)
        )
        return rows if fits else None  # type: ignore[return-value]
    if (shaped := _shaped(expected, shape, time_first=question.time_first)) is None:
        return None
    return [row[:length] for row, length in zip(shaped, lengths, strict=True)] if is_sequence else [*shaped]


def _row(row: np.ndarray, width: int, axes: int) -> np.ndarray | None:
    """The expected values of one sequence, (step, value) or (value,), where a lone value may lack its axis."""
    wanted = axes - 1
    if row.ndim == wanted - 1 and width == 1:
        row = row[..., None]
    return row if row.ndim == wanted and row.shape[-1] == width else None


def _shaped(expected: np.ndarray, shape: tuple[int, ...], *, time_first: bool) -> np.ndarray | None:
    """An array in this shape: with its axes of length 1 and its order of axes as the layers have them."""
    if len(shape) == _SEQUENCE:
        batch, time, width = shape
        other = (time, batch, width)
        if time_first and expected.size == batch * time * width:
            fits = expected.shape in {other, (time * batch, width), (time, batch) if width == 1 else other}
            return expected.reshape(other).swapaxes(0, 1) if fits else None
        fits = expected.shape in {shape, (batch * time, width), (batch, time) if width == 1 else shape}
        fits = fits or (batch == 1 and expected.shape == (time,) and width == 1)
        return expected.reshape(shape) if fits else None
    batch, width = shape
    fits = expected.shape in {shape, (1, *shape), (batch,) if width == 1 else shape, (width,) if batch == 1 else shape}
    return expected.reshape(shape) if fits else None


def distinct(
    matches: Sequence[Match], evaluators: Iterator[tuple[Evaluator, np.ndarray]]
) -> tuple[list[Match], np.ndarray | None]:
    """The matches that differ on some inputs, the simplest of each kind, and inputs on which they differ.

    Args:
        matches: all of which give the expected values of the sample.
        evaluators: each over other inputs, with these as the training code takes them.
    """
    kinds, telling = [matches[0]], None
    for evaluator, inputs in islice(evaluators, _TRIES):
        apart = _apart(matches, evaluator)
        if len(apart) > len(kinds):
            kinds, telling = apart, inputs
    return kinds, telling


def _apart(matches: Sequence[Match], evaluator: Evaluator) -> list[Match]:
    """The first match of each group whose predictions are the same."""
    values = dict[int, Tensor]()
    for indices, block in evaluator.values(tree([match.tokens for match in matches])):
        values |= dict(zip(indices, block, strict=True))
    kept: list[int] = []
    left = sorted(values)
    while left and len(kept) < _KINDS:
        first, *others = left
        kept.append(first)
        left = [index for index in others if not _is_same(values[index], values[first])]
    return [matches[index] for index in kept]


def _is_same(value: Tensor, other: Tensor) -> bool:
    if value.shape != other.shape:
        return False
    return bool((value - other).abs().max() <= _SAME * (1e-3 + other.abs().max()))
