"""Functions of one number, as gates, candidates and outputs of cells apply them, by the names that a manifest has.

A name may have arguments in parentheses: `hard_sigmoid(1/6, 0.5)`. Without them it has those of `DEFAULTS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property, partial

import torch
from torch import Tensor
from torch.nn import functional

LEAST_FAST_TANH = 4096
"""With so many numbers `fast_tanh` is the faster, in place."""


@dataclass(frozen=True)
class Function:
    """A function of one number; two of the same name are the same function."""

    name: str  # with its arguments, where they are not those that the bare name has
    apply: Callable[[Tensor], Tensor] = field(compare=False, repr=False)  # it returns a new tensor
    spelling: str = field(compare=False, repr=False)  # how a formula spells it, such as "tanh({})"
    low: float | None = field(default=None, compare=False, repr=False)  # None: there is no lower bound
    high: float | None = field(default=None, compare=False, repr=False)
    into: Callable[..., Tensor] | None = field(default=None, compare=False, repr=False)  # the same with `out`

    @cached_property
    def write(self) -> Callable[..., Tensor]:
        """`write(values, out=…)` writes it into a tensor, which may be the values themselves."""
        return self._copy if self.into is None else self.into

    def _copy(self, values: Tensor, *, out: Tensor) -> Tensor:
        return out.copy_(self.apply(values))


@dataclass(frozen=True)
class Functions:
    """What a cell's equations apply, and where; a cell has those that its equations have."""

    candidate: Function  # of a plain recurrent network its only function
    gate: Function | None = None
    output: Function | None = None  # of the cell state
    reset_after: bool | None = None  # whether the reset gate scales W_hn·h + b_hn, and not h before the product


def _complement(value: Tensor) -> Tensor:
    return 1 - value


def fast_tanh(values: Tensor) -> Tensor:
    """2σ(2x) − 1 in float32 and float64: tanh(x) to rounding, in a third of the time that torch takes for tanh."""
    if values.dtype in (torch.float32, torch.float64):
        return (2 * values).sigmoid_().mul_(2).sub_(1)
    return values.tanh()


def _write_fast_tanh(values: Tensor, *, out: Tensor) -> Tensor:
    """`fast_tanh` of many numbers; of few, four operations take longer than one."""
    if values.numel() < LEAST_FAST_TANH:
        return torch.tanh(values, out=out)
    return torch.mul(values, 2, out=out).sigmoid_().mul_(2).sub_(1)


def _softplus(values: Tensor) -> Tensor:
    return torch.logaddexp(values, values.new_zeros(()))  # `functional.softplus` is cut off at 20


def _hard_sigmoid(values: Tensor, alpha: float, beta: float) -> Tensor:
    return (values * alpha).add_(beta).clamp_(0, 1)


def _write_hard_sigmoid(values: Tensor, alpha: float, beta: float, *, out: Tensor) -> Tensor:
    return torch.mul(values, alpha, out=out).add_(beta).clamp_(0, 1)


SIGMOID = Function("sigmoid", torch.sigmoid, "sigmoid({})", 0, 1, torch.sigmoid)
TANH = Function("tanh", torch.tanh, "tanh({})", -1, 1, torch.tanh)
RELU = Function("relu", torch.relu, "relu({})", 0, None, partial(torch.clamp_min, min=0))
LINEAR = Function("linear", torch.clone, "{}")
FAST_TANH = Function("tanh", torch.tanh, "tanh({})", -1, 1, _write_fast_tanh)
COMPLEMENT = Function("complement", _complement, "(1 − {})")

_PLAIN = (
    SIGMOID,
    TANH,
    RELU,
    LINEAR,
    Function("softsign", functional.softsign, "softsign({})", -1, 1),
    Function("softplus", _softplus, "softplus({})", 0),
    Function("selu", functional.selu, "selu({})", -1.7581),  # −1.0507 · 1.6733
    Function("gelu", functional.gelu, "gelu({})", -0.17),  # its least value is −0.16997
    Function("silu", functional.silu, "silu({})", -0.2785),  # its least value is −0.27846
    Function("exponential", torch.exp, "exp({})", 0, None, torch.exp),
)
_BY_NAME = {function.name: function for function in _PLAIN}


@cache
def hard_sigmoid(alpha: float, beta: float) -> Function:
    """min(1, max(0, alpha·x + beta)): (0.2, 0.5) in ONNX and Keras 2, (1/6, 0.5) in Keras 3 and PyTorch."""
    spelling = f"clip({_text(alpha)}·({{}}) {'−' if beta < 0 else '+'} {_text(abs(beta))}, 0, 1)"
    applied, into = (partial(each, alpha=alpha, beta=beta) for each in (_hard_sigmoid, _write_hard_sigmoid))
    return Function(_name("hard_sigmoid", alpha, beta), applied, spelling, 0, 1, into)


@cache
def leaky_relu(alpha: float) -> Function:
    """X from 0 on, alpha·x below."""
    low = 0 if alpha <= 0 else None
    applied = partial(functional.leaky_relu, negative_slope=alpha)
    return Function(_name("leaky_relu", alpha), applied, f"leaky_relu({{}}, {_text(alpha)})", low)


@cache
def elu(alpha: float) -> Function:
    """X from 0 on, alpha·(exp(x) − 1) below."""
    spelling = "elu({})" if alpha == 1 else f"elu({{}}, {_text(alpha)})"
    return Function(_name("elu", alpha), partial(functional.elu, alpha=alpha), spelling, min(0.0, -alpha))


DEFAULTS: dict[str, tuple[float, ...]] = {"hard_sigmoid": (0.2, 0.5), "leaky_relu": (0.01,), "elu": (1.0,)}
"""The arguments of functions that have such, where a name states none: as ONNX has them."""

_MADE: dict[str, Callable[..., Function]] = {"hard_sigmoid": hard_sigmoid, "leaky_relu": leaky_relu, "elu": elu}

NAMES = (*_BY_NAME, *DEFAULTS)
"""Every function that `function_named` knows, without arguments."""

_NAME = re.compile(r"(?P<name>[a-z_]{1,32})(\((?P<arguments>[^()]{1,80})\))?")
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?(e-?\d{1,2})?(/\d{1,20})?")


def function_named(text: str) -> Function:
    """The function of this name, such as `tanh`, `hard_sigmoid` or `hard_sigmoid(1/6, 0.5)`.

    Raises:
        ValueError: there is none, or it has not that many arguments.
    """
    match = _NAME.fullmatch(text.strip())
    name = match["name"] if match else text
    if match is None or name not in NAMES:
        raise ValueError(f"there is no function '{text}'; known are {', '.join(NAMES)}")
    if match["arguments"] is None:
        return _MADE[name](*DEFAULTS[name]) if name in _MADE else _BY_NAME[name]
    given = tuple(_number(argument.strip(), text) for argument in match["arguments"].split(","))
    if len(given) != len(DEFAULTS.get(name, ())):
        raise ValueError(f"'{text}': {name} has {len(DEFAULTS.get(name, ())) or 'no'} arguments, not {len(given)}")
    return _MADE[name](*given)


def _number(argument: str, text: str) -> float:
    try:
        value = float(Fraction(argument)) if _NUMBER.fullmatch(argument) else math.nan
    except (ZeroDivisionError, OverflowError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"'{text}': '{argument}' is no number such as 0.2 or 1/6")
    return value


def _name(name: str, *arguments: float) -> str:
    if arguments == DEFAULTS[name]:
        return name
    return f"{name}({', '.join(map(_text, arguments))})"


def _text(value: float) -> str:
    """A number as `function_named` reads it back: 0.2, or 1/6."""
    fraction = Fraction(value).limit_denominator(12)
    is_short = len(repr(float(value))) <= len("0.0625")
    return f"{value!r}" if is_short or float(fraction) != value else str(fraction)
