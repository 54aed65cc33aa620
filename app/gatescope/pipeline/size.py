"""How large an answer becomes, held against the most bytes that the server makes."""

from __future__ import annotations

from math import prod

from gatescope.errors import InvalidInput, Place, ReplyTooLarge, TraceTooLarge
from gatescope.selection import Selection

FLOAT_BYTES = 4


def check_reply(floats: int, most_bytes: int) -> None:
    """Refuse to make a prediction, output and states that are together larger than the server makes.

    Raises:
        ReplyTooLarge: they are.
    """
    size = floats * FLOAT_BYTES
    if size > most_bytes:
        raise ReplyTooLarge(
            f"the answer would have {size:,} bytes of numbers; this server makes at most {most_bytes:,}: "
            "send fewer or shorter sequences at a time, or ask for fewer outputs"
        )


def check_trace(shape: tuple[int, ...], selection: Selection, most_bytes: int) -> None:
    """Refuse to make arrays of this shape, one per selected signal, when they are larger than the server makes.

    Raises:
        TraceTooLarge: they are.
    """
    signals = len(selection.signals or ())
    size = prod(shape) * signals * FLOAT_BYTES
    if size > most_bytes:
        raise TraceTooLarge(
            f"the trace has {size:,} bytes ({signals} signals of shape {list(shape)}); this server "
            f"makes at most {most_bytes:,}: ask for fewer signals, layers, directions, units or time steps"
        )


def check_steps(selection: Selection, steps: int) -> None:
    """Refuse a selection of none of so many time steps.

    Raises:
        InvalidInput: it is one; the place is `time`.
    """
    if not selection.time_steps(steps):
        raise InvalidInput.at(Place(("time",), f"selects none of the {steps} time steps"))
