"""`search`: the readings of a checkpoint that give what the training code computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from gatescope.checkpoints.structure.kinds import Part
from gatescope.checkpoints.structure.notation import FUNCTIONS, Unreadable, expand_one
from gatescope.checkpoints.structure.readings import Tokens
from gatescope.errors import AppError
from gatescope.forward import forward
from gatescope.pipeline.graph import INPUTS
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.activation import FUNCTIONS as COMPUTED
from gatescope.pipeline.layers.layer import Layer, Shape, Steps, Weights
from gatescope.pipeline.layers.recurrent import Recurrent
from gatescope.state import State

MAX_READINGS = 400_000
"""Chains that are tried; what is stated by options makes them fewer."""

_CONFIG: TypeAdapter[LayerConfig] = TypeAdapter(LayerConfig)
_SEQUENCE = 3  # axes: (batch, time, width)
_SAME = 1e-6  # part of the largest value: what the order of sums does in float32 stays below
_TRIES = 12


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


class Evaluator:
    """Computes chains of layers over one batch; what chains have in common is computed once.

    Args:
        weights: of the checkpoint.
        parts: by path.
        learned: initial states, as `notation.expand` takes them.
        inputs: the batch.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        parts: Mapping[str, Part],
        learned: Mapping[str, Mapping[str, str]],
        inputs: Inputs,
    ) -> None:
        self._weights, self._parts, self._learned, self._inputs = weights, parts, learned, inputs
        self._memo: dict[Tokens, _Chain | None] = {(): _Chain((), dict(inputs.values), INPUTS)}
        self._layers: dict[tuple[str, tuple[Shape, ...], str, str], Layer] = {}

    def value(self, tokens: Tokens) -> Tensor | None:
        """What the last layer gives, (batch, time, width) or (batch, width); None where the chain cannot be."""
        with torch.no_grad():
            chain = self._chain(tokens)
        return None if chain is None else chain.values[chain.last][1]

    def _chain(self, tokens: Tokens) -> _Chain | None:
        if tokens in self._memo:
            return self._memo[tokens]
        before = self._chain(tokens[:-1])
        made = None
        if before is not None:
            try:
                made = self._extended(before, tokens[-1])
            except (AppError, Unreadable):
                made = None
        self._memo[tokens] = made
        return made

    def _extended(self, before: _Chain, token: str) -> _Chain | None:
        shape, value = before.values[before.last]
        if token in FUNCTIONS and token not in self._parts:
            if shape.is_ids:
                return None
            return before.with_layer({"name": f"{token} {len(before.layers)}"}, shape, COMPUTED[token](value))
        chain = before
        for config in expand_one(token, before.layers, self._parts, self._learned):
            given = [chain.values[name] for name in config.get("inputs", (chain.last,))]
            layer = self._layer(token, config, [each for each, _ in given])
            chain = chain.with_layer(config, layer.shape, self._run(layer, [each for _, each in given]))
        return chain

    def _layer(self, token: str, config: dict[str, Any], shapes: Sequence[Shape]) -> Layer:
        key = (token, tuple(shapes), config["type"], config.get("weights", config["name"]))
        if key not in self._layers:
            made = _CONFIG.validate_python(config)
            prefix = made.name if made.weights is None else made.weights
            self._layers[key] = made.build(Weights(self._weights, set(), made.name, prefix), shapes)
        return self._layers[key]

    def _run(self, layer: Layer, values: Sequence[Tensor]) -> Tensor:
        steps = self._inputs.steps
        if not isinstance(layer, Recurrent):
            return layer(*values, steps=steps)  # type: ignore[no-any-return]
        state = self._inputs.state or layer.initial_state(len(values[0]))
        if state is None:
            state = State.zeros(layer.spec, len(values[0]), values[0])
        output, _ = forward(
            layer.module, values[0], steps.lengths, state, ragged=steps.ragged, with_state=False, with_padding=False
        )
        return output


@dataclass(frozen=True)
class _Chain:
    """The values of a chain of layers."""

    layers: tuple[dict[str, Any], ...]
    values: Mapping[str, tuple[Shape, Tensor]]
    last: str = INPUTS

    def with_layer(self, config: dict[str, Any], shape: Shape, value: Tensor) -> _Chain:
        """The chain with one more layer; shapes without names compare faster."""
        name = config["name"]
        shape = shape if shape.names is None else replace(shape, names=None)
        return _Chain((*self.layers, config), {**self.values, name: (shape, value)}, name)


def search(
    chains: Iterable[Tokens],
    evaluators: Sequence[tuple[Question, Evaluator]],
    tolerance: float,
) -> Found:
    """Try chains on a sample, in the given order.

    Args:
        chains: to try; at most `MAX_READINGS`.
        evaluators: the ways to take the sample.
        tolerance: how far a prediction may be from what is expected.
    """
    found = Found()
    with one_thread():
        for tokens in islice(chains, MAX_READINGS):
            _try(tokens, evaluators, tolerance, found)
    return found


def _try(tokens: Tokens, evaluators: Sequence[tuple[Question, Evaluator]], tolerance: float, found: Found) -> None:
    """Put what a chain gives into what was found."""
    for question, evaluator in evaluators:
        found.tried += 1
        value = evaluator.value(tokens)
        if value is None:
            continue
        match = Match(tokens, question, error_of(value, question))
        if match.error <= tolerance:
            found.matches.append(match)
        if match.error < (np.inf if found.nearest is None else found.nearest.error):
            found.nearest = match


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: values are small here, and to wait for other threads takes longer than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def error_of(value: Tensor, question: Question) -> float:
    """The largest difference, divided by the largest expected value; infinite where the shapes differ."""
    lengths = question.inputs.steps.lengths.tolist()
    given = value.double().numpy()
    expected = _fitted(question, given.shape, lengths)
    if expected is None:
        return np.inf
    rows = (
        [row[:length] for row, length in zip(given, lengths, strict=True)] if given.ndim == _SEQUENCE else list(given)
    )
    difference = max(float(np.abs(row - other).max(initial=0.0)) for row, other in zip(rows, expected, strict=True))
    largest = max(float(np.abs(each).max(initial=0.0)) for each in expected)
    return difference / largest if largest else (0.0 if difference == 0 else np.inf)


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
    kept: list[tuple[Match, Tensor]] = []
    for match in matches:
        value = evaluator.value(match.tokens)
        if value is None:
            continue
        if not any(_is_same(value, other) for _, other in kept):
            kept.append((match, value))
    return [match for match, _ in kept]


def _is_same(value: Tensor, other: Tensor) -> bool:
    if value.shape != other.shape:
        return False
    return bool((value - other).abs().max() <= _SAME * (1e-3 + other.abs().max()))
