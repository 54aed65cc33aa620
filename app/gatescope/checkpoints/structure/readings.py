"""`readings`: every chain of layers that an arrangement leaves open, the simplest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from gatescope.checkpoints.structure.arrange import Arrangement
from gatescope.checkpoints.structure.kinds import CRF, FoundLSTM, Linear, Norm, Part
from gatescope.checkpoints.structure.notation import ONE_HOT, STATIC
from gatescope.checkpoints.structure.options import NONE, Options

INNER = ("relu", "tanh", "gelu", "leaky_relu", "elu", "silu", "sigmoid", "selu", "softplus", "mish", "hardtanh")
"""Functions between layers, the most used first."""

OUTER = ("relu", "sigmoid", "tanh", "softplus", "exp", "softmax", "log_softmax", "l2_norm", "elu", "leaky_relu", "gelu")
"""Functions behind the last layer."""

POOLED = ("last", "final", "mean", "max", "sum", "first")

MAX_MIXED_GAPS = 3
"""Gaps between linear layers in which different functions are tried; in more, one function is tried in all."""

_COSTS = {name: 1 + index / 100 for names in (INNER, OUTER) for index, name in enumerate(names)}
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


def readings(arrangement: Arrangement, options: Options, found: Open) -> list[Tokens]:
    """The chains, each a line of tokens of `notation`; the simplest first.

    Args:
        arrangement: of the parts.
        options: what is stated.
        found: what else is known.
    """
    chains = {
        before + recurrent + behind: cost_before + cost_recurrent + cost_behind
        for before, cost_before in _before(arrangement, options, found)
        for recurrent, cost_recurrent in _recurrent(arrangement, options, found)
        for behind, cost_behind in _behind(arrangement, options, found)
    }
    return sorted(chains, key=lambda chain: chains[chain])


def start_of(arrangement: Arrangement, found: Open) -> Tokens:
    """What stands before the recurrent layers where nothing is missing there, without functions between."""
    return next(_before(arrangement, Options(), Open(found.per_step, found.reads_tokens, found.has_static, False)))[0]


def token_of(part: Part, variant: str = "") -> str:
    """A part in the notation."""
    return (part.path or "(top)") + (f"={variant}" if variant else "")


def core(arrangement: Arrangement, between: str | None = None) -> Tokens:
    """The recurrent layers as they are joined, with a function between them."""
    paths = [token_of(lstm) for lstm in arrangement.lstms]
    if arrangement.join.startswith("parallel"):
        return (f"parallel({'|'.join(paths)})" + ("=add" if arrangement.join.endswith("add") else ""),)
    tokens: list[str] = []
    for part in arrangement.recurrent:
        if isinstance(part, FoundLSTM) and between is not None and tokens:
            tokens.append(between)
        tokens.append(_with_residual(part) if arrangement.join == "residual" else token_of(part))
    return tuple(tokens)


def _with_residual(part: FoundLSTM | Norm) -> str:
    fits = isinstance(part, FoundLSTM) and part.spec.input_size == part.spec.output_size
    return f"residual({token_of(part)})" if fits else token_of(part)


def _before(arrangement: Arrangement, options: Options, found: Open) -> Iterator[tuple[Tokens, float]]:
    start: Tokens = ()
    if arrangement.embedding is not None:
        start = (token_of(arrangement.embedding),)
    elif found.reads_tokens:
        start = (ONE_HOT,)
    if found.has_static:
        start = (*start, STATIC)
    slots: list[list[tuple[Tokens, float]]] = []
    for part in arrangement.before:
        functions: list[str | None] = [None, *(INNER if found.functions and not options.activation else ())]
        slots.append(
            [
                ((token, *((function,) if function else ())), cost + _cost(function))
                for token, cost in _variants(part)
                for function in functions
            ]
        )
    for chosen in product(*slots):
        yield start + tuple(token for tokens, _ in chosen for token in tokens), sum(cost for _, cost in chosen)


def _recurrent(arrangement: Arrangement, options: Options, found: Open) -> Iterator[tuple[Tokens, float]]:
    several = len(arrangement.lstms) > 1 and not arrangement.join.startswith("parallel")
    functions = [None, *(INNER[:2] if several and found.functions and options.join is None else ())]
    for function in functions:
        yield core(arrangement, function), _cost(function)


def _behind(arrangement: Arrangement, options: Options, found: Open) -> Iterator[tuple[Tokens, float]]:
    """Pools, merges of directions and functions among the layers behind the recurrent ones."""
    parts = arrangement.behind
    crf = [token_of(part) for part in parts if isinstance(part, CRF)]
    weighted = [part for part in parts if not isinstance(part, CRF)]
    for merge, merge_cost in _merges(arrangement, found):
        for how, position, pool_cost in _pools(arrangement, options, found, len(weighted), merge):
            for functions, cost in _functions(weighted, options, found):
                line = _line(weighted, functions, how, position)
                for tokens, variant_cost in line:
                    whole = (*merge, *tokens, *crf)
                    yield whole, cost + merge_cost + pool_cost + variant_cost


def _line(
    parts: Sequence[Part], functions: Sequence[str | None], how: str | None, position: int
) -> Iterator[tuple[Tokens, float]]:
    """The parts with the function before each, and behind the last; and the pool before one of them."""
    for variants in product(*(_variants(part) for part in parts)):
        tokens: list[str] = []
        for index in range(len(parts) + 1):
            if how is not None and index == position:
                tokens.append(how)
            if (function := functions[index]) is not None:
                tokens.append(function)
            if index < len(parts):
                tokens.append(variants[index][0])
        yield tuple(tokens), sum(cost for _, cost in variants)


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


def _functions(parts: Sequence[Part], options: Options, found: Open) -> Iterator[tuple[tuple[str | None, ...], float]]:
    """A function, or None, before each part and behind the last."""
    count = len(parts)
    linear = [index for index, part in enumerate(parts) if isinstance(part, Linear)]
    gaps = [range(first + 1, second + 1) for first, second in pairwise(linear)]
    firsts = [None, *(INNER if found.functions and count and options.activation is None else ())]
    lasts = _lasts(options, found)
    starts = range(linear[0] + 1) if linear and found.functions else range(1)
    for (place_of_first, first), (inner, places), last in product(
        [(start, each) for each in firsts for start in (starts if each else (0,))],
        _inner(gaps, options, found),
        lasts,
    ):
        functions: list[str | None] = [None] * (count + 1)
        for place, function in zip(places, inner, strict=True):
            functions[place] = function
        functions[count] = last
        if count:
            functions[place_of_first] = first
        chosen = [function for function in functions if function is not None]
        kinds = len(set(inner)) - 1 if inner else 0
        expected = sum(1 for function in inner if function == "relu")
        yield tuple(functions), sum(map(_cost, chosen)) - 1.5 * expected + max(0, kinds)


def _inner(
    gaps: Sequence[range], options: Options, found: Open
) -> Iterator[tuple[tuple[str | None, ...], tuple[int, ...]]]:
    """The functions in the gaps between linear layers, and their places: in every gap the same one, then any."""
    if not gaps:
        yield (), ()
        return
    if options.activation is not None:
        stated = None if options.activation == NONE else options.activation
        yield (stated,) * len(gaps), tuple(gap[-1] for gap in gaps)
        return
    if not found.functions:
        yield ("relu",) * len(gaps), tuple(gap[-1] for gap in gaps)
        return
    depth = max(len(gap) for gap in gaps)
    for offset in range(depth):  # before the norm, or behind it
        places = tuple(gap[max(0, len(gap) - 1 - offset)] for gap in gaps)
        for function in (*INNER[:1], None, *INNER[1:]):
            yield (function,) * len(gaps), places
        if 1 < len(gaps) <= MAX_MIXED_GAPS:
            for mixed in product((None, *INNER[: 5 if len(gaps) < MAX_MIXED_GAPS else 2]), repeat=len(gaps)):
                if len(set(mixed)) > 1:
                    yield mixed, places


def _lasts(options: Options, found: Open) -> tuple[str | None, ...]:
    if options.output_activation is not None:
        return (None if options.output_activation == NONE else options.output_activation,)
    return (None, *(OUTER if found.functions else ()))


def _variants(part: Part) -> list[tuple[str, float]]:
    """The part in the notation, in each of the types that it may be of."""
    types = part.types if isinstance(part, Norm) else ("",)
    if len(types) == 1:
        return [(token_of(part), 0.0)]
    return [(token_of(part, kind), index / 2) for index, kind in enumerate(types)]


def _cost(function: str | None) -> float:
    return 0.0 if function is None else _COSTS[function]
