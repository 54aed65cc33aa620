"""`readings`: every chain of layers that an arrangement leaves open, the simplest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise, product
from typing import Any

import numpy as np

from gatescope.cells import RNN_RELU
from gatescope.checkpoints.structure.arrange import Arrangement
from gatescope.checkpoints.structure.kinds import CRF, Conv1d, FoundRecurrent, Linear, Norm, Part
from gatescope.checkpoints.structure.notation import ONE_HOT, STATIC
from gatescope.checkpoints.structure.options import NONE, Options

INNER = ("relu", "tanh", "gelu", "leaky_relu", "elu", "silu", "sigmoid", "selu", "softplus", "mish")
"""Functions between layers, the most used first."""

OUTER = ("relu", "sigmoid", "tanh", "softplus", "exp", "softmax", "log_softmax", "l2_norm", "elu", "leaky_relu", "gelu")
"""Functions behind the last layer."""

POOLED = ("last", "final", "mean", "max", "sum", "first")

MAX_MIXED_GAPS = 3
"""Gaps between linear layers in which different functions are tried; in more, one function is tried in all."""

LOOKS = (40_000, 300_000)
"""Readings that are looked at, all arrangements together: the simplest first, more where none of them fits."""

_COSTS = {
    "relu": 1.0,
    "tanh": 1.01,
    "sigmoid": 1.02,
    "softmax": 1.03,
    "log_softmax": 1.04,
    "softplus": 1.05,
    "gelu": 1.3,
    "leaky_relu": 1.31,
    "exp": 1.32,
    "l2_norm": 1.33,
    "elu": 1.5,
    "silu": 1.51,
    "selu": 1.7,
    "mish": 1.71,
}
"""How unusual a function is."""

_EXPECTED = 1.5
"""A relu between linear layers costs so much less: most have one."""
_POOL_COSTS = {name: 0.1 * index for index, name in enumerate(POOLED)}
_MERGES = ("swap", "sum", "mean", "forward", "reverse", "max")

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class Open:
    """What is not stated, and so is to be found out."""

    per_step: bool | None = None
    """Whether the prediction is one per time step; None where neither the sample nor the options say."""

    reads_tokens: bool = False
    has_static: bool = False
    functions: bool = True
    """Whether functions without weights may stand where they are not stated."""

    impossible: frozenset[str] = frozenset()
    """Functions that cannot be the last one, as they give no such values as the sample expects."""


class Readings:
    """The chains of an arrangement, each a line of tokens of `notation`.

    Args:
        arrangement: of the parts.
        options: what is stated.
        found: what else is known.
    """

    def __init__(self, arrangement: Arrangement, options: Options, found: Open) -> None:
        weighted = [part for part in arrangement.behind if not isinstance(part, CRF)]
        self._count = len(weighted)
        self._slots: list[Sequence[tuple[Any, float]]] = [
            _inner(weighted, options, found),
            _firsts(weighted, options, found),
            _ends(arrangement, options, found, len(weighted)),
            _lasts(options, found),
            [
                (core(arrangement, function, kind), _cost(function) + kind / 2)
                for function in _between(arrangement, options, found)
                for kind in range(max((len(_variants(part)) for part in arrangement.recurrent), default=1))
            ],
            *_slots_before(arrangement, options, found),
            *(_variants(part) for part in weighted),
        ]
        self._start = _start(arrangement, found)
        self._crf = tuple(token_of(part) for part in arrangement.behind if isinstance(part, CRF))
        self._picks: dict[Tokens, tuple[int, ...]] = {}

    @property
    def length(self) -> int:
        """About how many tokens a chain has."""
        return 2 * len(self._slots)

    def simplest(self, most: int) -> list[Tokens]:
        """So many chains, the simplest first."""
        for pick in cheapest([[cost for _, cost in slot] for slot in self._slots], most):
            self._picks.setdefault(self._chain(pick), pick)
        return [*self._picks]

    def near(self, tokens: Tokens) -> list[Tokens]:
        """The chains that differ in one choice from one of `simplest`."""
        pick = self._picks[tokens]
        for place, slot in enumerate(self._slots):
            for choice in range(len(slot)):
                other = (*pick[:place], choice, *pick[place + 1 :])
                self._picks.setdefault(self._chain(other), other)
        return [*self._picks]

    def _chain(self, pick: Sequence[int]) -> Tokens:
        chosen = [slot[choice][0] for slot, choice in zip(self._slots, pick, strict=True)]
        inner, (place_of_first, first), (merge, how, position), last, recurrent, *rest = chosen
        before, variants = rest[: len(rest) - self._count], rest[len(rest) - self._count :]
        functions: list[str | None] = [None] * (self._count + 1)
        for place, function in inner:
            functions[place] = function
        functions[-1] = last
        if self._count:
            functions[place_of_first] = first
        if how == "final":  # goes by the directions, which are then still apart
            merge, how = (how, *merge), None
        behind = _line(variants, functions, how, position)
        return (*self._start, *chain.from_iterable(before), *recurrent, *merge, *behind, *self._crf)


def cheapest(slots: Sequence[Sequence[float]], most: int) -> list[tuple[int, ...]]:
    """The choice made in each slot, in every way, the cheapest ways first.

    Args:
        slots: what each choice costs.
        most: how many ways; no more are held at once, times the choices of one slot.
    """
    costs, picks = np.zeros(1), np.zeros((1, 0), dtype=np.int32)
    for slot in slots:
        total = (costs[:, None] + np.array(slot)).reshape(-1)
        order = np.argsort(total, kind="stable")[:most]
        costs, picks = total[order], np.column_stack([picks[order // len(slot)], order % len(slot)])
    return [tuple(row) for row in picks.tolist()]


def start_of(arrangement: Arrangement, found: Open) -> Tokens:
    """What stands before the recurrent layers where nothing is missing there, without functions between."""
    before = _slots_before(arrangement, Options(), replace(found, functions=False))
    return (*_start(arrangement, found), *chain.from_iterable(tokens for ((tokens, _), *_) in before))


def token_of(part: Part, variant: str = "") -> str:
    """A part in the notation."""
    return (part.path or "(top)") + (f"={variant}" if variant else "")


def core(arrangement: Arrangement, between: str | None = None, kind: int = 0) -> Tokens:
    """The recurrent layers as they are joined, with a function between them; `kind` is that of the norms there."""
    variants = [_variants(lstm) for lstm in arrangement.lstms]
    paths = [each[min(kind, len(each) - 1)][0] for each in variants]
    if arrangement.join.startswith("parallel"):
        return (f"parallel({'|'.join(paths)})" + ("=add" if arrangement.join.endswith("add") else ""),)
    tokens: list[str] = []
    for part in arrangement.recurrent:
        if isinstance(part, FoundRecurrent) and between is not None and tokens:
            tokens.append(between)
        possible = _variants(part)
        token = possible[min(kind, len(possible) - 1)][0]
        tokens.append(_with_residual(part, token) if arrangement.join == "residual" else token)
    return tuple(tokens)


def _with_residual(part: FoundRecurrent | Norm, token: str) -> str:
    fits = isinstance(part, FoundRecurrent) and part.spec.input_size == part.spec.output_size
    return f"residual({token})" if fits else token


def _start(arrangement: Arrangement, found: Open) -> Tokens:
    """What makes numbers of the inputs."""
    start: Tokens = ()
    if arrangement.embedding is not None:
        start = (token_of(arrangement.embedding),)
    elif found.reads_tokens:
        start = (ONE_HOT,)
    return (*start, STATIC) if found.has_static else start


def _slots_before(arrangement: Arrangement, options: Options, found: Open) -> list[list[tuple[Tokens, float]]]:
    """For each part before the recurrent layers: it, in any of its types, and what function stands behind it."""
    some = INNER if len(arrangement.before) <= MAX_MIXED_GAPS else INNER[:2]
    functions: list[str | None] = [None, *(some if found.functions and not options.activation else ())]
    return [
        [
            ((token, *((function,) if function else ())), cost + _cost(function))
            for token, cost in _variants(part)
            for function in functions
        ]
        for part in arrangement.before
    ]


def _between(arrangement: Arrangement, options: Options, found: Open) -> list[str | None]:
    """The function between recurrent layers."""
    several = len(arrangement.lstms) > 1 and not arrangement.join.startswith("parallel")
    return [None, *(INNER[:2] if several and found.functions and options.join is None else ())]


def _line(parts: Sequence[str], functions: Sequence[str | None], how: str | None, position: int) -> Iterator[str]:
    """The parts with the function before each, and behind the last; and the pool before one of them."""
    for index in range(len(parts) + 1):
        if how is not None and index == position:
            yield how
        if (function := functions[index]) is not None:
            yield function
        if index < len(parts):
            yield parts[index]


def _ends(
    arrangement: Arrangement, options: Options, found: Open, count: int
) -> list[tuple[tuple[Tokens, str | None, int], float]]:
    """What is made of the directions and of the steps."""
    return [
        ((merge, how, position), merge_cost + pool_cost)
        for merge, merge_cost in _merges(arrangement, found)
        for how, position, pool_cost in _pools(arrangement, options, found, count, merge)
    ]


def _merges(arrangement: Arrangement, found: Open) -> Iterator[tuple[Tokens, float]]:
    """What is made of the two directions: only what fits the layer behind."""
    lstm = arrangement.lstms[-1].spec
    takes = next((part.in_features for part in arrangement.behind if isinstance(part, Linear)), None)
    is_one = takes == lstm.hidden_state_size and lstm.bidirectional and not arrangement.join.startswith("parallel")
    if not lstm.bidirectional or arrangement.join.startswith("parallel"):
        yield (), 0.0
        return
    if not is_one:
        yield (), 0.0
    if found.functions or is_one:
        for index, merge in enumerate(_MERGES):
            if (merge == "swap") != is_one and (merge == "swap" or is_one or takes is None):
                yield (f"directions={merge}",), 1 + index / 10


def _pools(
    arrangement: Arrangement, options: Options, found: Open, count: int, merge: Tokens
) -> Iterator[tuple[str | None, int, float]]:
    """The pool, where it stands among so many layers, and its cost."""
    steps = options.steps
    if steps == "all" or (steps is None and found.per_step):
        yield None, 0, 0.0
        return
    if steps is None and found.per_step is None:
        yield None, 0, 0.0
    swaps, both_ways = "directions=swap" in merge, arrangement.lstms[-1].spec.bidirectional
    for how in POOLED if steps is None else (steps,):
        if (swaps and how != "final") or (how == "final" and not both_ways and steps is None):
            continue  # of one direction, h_n is the last step
        # what comes between a pool of one step and the layers behind is the same on either side of it
        positions = range(count + 1) if how in {"mean", "max", "sum"} and steps is None else (0,)
        for position in positions:
            yield how, position, _POOL_COSTS[how] + position / 100


def _firsts(parts: Sequence[Part], options: Options, found: Open) -> list[tuple[tuple[int, str | None], float]]:
    """The function before the first linear layer, and its place among the parts before that."""
    linear = [index for index, part in enumerate(parts) if isinstance(part, Linear)]
    places = range(linear[0] + 1) if linear and found.functions else range(1)
    functions = INNER if found.functions and parts and options.activation is None else ()
    made: list[tuple[tuple[int, str | None], float]] = [((0, None), 0.0)]
    return [*made, *(((place, function), _cost(function)) for place in places for function in functions)]


def _inner(
    parts: Sequence[Part], options: Options, found: Open
) -> list[tuple[tuple[tuple[int, str | None], ...], float]]:
    """The functions between linear layers, each with its place: in every gap the same one, then any."""
    linear = [index for index, part in enumerate(parts) if isinstance(part, Linear)]
    gaps = [range(first + 1, second + 1) for first, second in pairwise(linear)]
    if not gaps:
        return [((), 0.0)]
    at_the_end = tuple(gap[-1] for gap in gaps)
    if options.activation is not None or not found.functions:
        stated = "relu" if options.activation is None else options.activation
        return [(tuple((place, None if stated == NONE else stated) for place in at_the_end), 0.0)]
    mixed: list[tuple[str | None, ...]] = [(function,) * len(gaps) for function in (None, *INNER)]
    if 1 < len(gaps) <= MAX_MIXED_GAPS:
        some = (None, *INNER[: 5 if len(gaps) < MAX_MIXED_GAPS else 2])
        mixed += [each for each in product(some, repeat=len(gaps)) if len(set(each)) > 1]
    made = []
    for offset in range(max(len(gap) for gap in gaps)):  # before the norm, or behind it
        places = tuple(gap[max(0, len(gap) - 1 - offset)] for gap in gaps)
        for functions in mixed:
            cost = sum(map(_cost, functions)) - _EXPECTED * functions.count("relu") + len(set(functions)) - 1
            made.append((tuple(zip(places, functions, strict=True)), cost))
    return made


def _lasts(options: Options, found: Open) -> list[tuple[str | None, float]]:
    """The function behind the last layer."""
    if options.output_activation is not None:
        return [(None if options.output_activation == NONE else options.output_activation, 0.0)]
    possible = [function for function in OUTER if found.functions and function not in found.impossible]
    return [(function, _cost(function)) for function in (None, *possible)]


def _variants(part: Part) -> list[tuple[str, float]]:
    """The part in the notation, in each of the types that it may be of."""
    variants: tuple[str, ...] = part.types if isinstance(part, Norm) else ()
    if isinstance(part, FoundRecurrent) and part.spec.cell.nonlinearity is not None:
        return [(token_of(part), 0.0), (token_of(part, RNN_RELU.nonlinearity or ""), 0.5)]
    if isinstance(part, Conv1d):
        variants = ("same", "causal") if part.kernel % 2 else ("causal",)  # an even kernel is not centred on a step
    if len(variants) > 1 or isinstance(part, Conv1d):
        return [(token_of(part, kind), index / 2) for index, kind in enumerate(variants)]
    return [(token_of(part), 0.0)]


def _cost(function: str | None) -> float:
    return 0.0 if function is None else _COSTS[function]
