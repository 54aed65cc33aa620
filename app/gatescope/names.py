"""Names that a file gives to things, on their way into messages."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_NAME = 256
"""Of a name in a file, in characters."""

LONGEST_SHOWN = 80
LISTED = 8

RESAVE = 'save the weights alone with torch.save(model.state_dict(), "weights.pt") and give that file'


def printable(text: str) -> str:
    """A name for a line of text: what cannot be printed is escaped, what is too long is cut."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…")[1:-1]


def quoted(name: object) -> str:
    """A name as it stands in a sentence."""
    return f"'{printable(str(name))}'"


def listed(names: Sequence[object]) -> str:
    """Several names, the first few in full."""
    shown = ", ".join(quoted(name) for name in names[:LISTED])
    return f"{shown} and {len(names) - LISTED} more" if len(names) > LISTED else shown
