"""Names as the module gave them, without what wraps it: `module.`, `_orig_mod.`, Lightning's `model.`."""

from __future__ import annotations

from collections.abc import Iterable

from gatescope.errors import CheckpointError
from gatescope.names import quoted

ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""torch.compile, FSDP and activation checkpointing wrap any module inside."""

AROUND = ("module", "model", "net")
"""DataParallel's name, and those that a LightningModule likes to give to the module that it trains."""


def unwrap(names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Name in the file -> name in the module, and a note of what was taken away.

    Raises:
        CheckpointError: two names are the same without their wrappers.
    """
    parts = {name: [part for part in name.split(".") if part not in ANYWHERE] for name in names}
    inside = [wrapper for wrapper in ANYWHERE if any(wrapper in name.split(".") for name in parts)]
    around = []
    while (wrapper := _shared(list(parts.values()))) is not None:
        parts = {name: rest for name, (_, *rest) in parts.items()}
        around.append(wrapper)
    return _distinct({name: ".".join(rest) for name, rest in parts.items()}), _notes(inside, around)


def _shared(names: list[list[str]]) -> str | None:
    """The wrapper that every name begins with, None if there is none."""
    return next((each for each in AROUND if all(len(name) > 1 and name[0] == each for name in names)), None)


def _distinct(unwrapped: dict[str, str]) -> dict[str, str]:
    first: dict[str, str] = {}
    for name, short in unwrapped.items():
        other = first.setdefault(short, name)
        if other != name:
            raise CheckpointError(
                f"{quoted(other)} and {quoted(name)} are both {quoted(short)} without their wrappers; "
                "save the state dict of one module"
            )
    return unwrapped


def _notes(inside: list[str], around: list[str]) -> tuple[str, ...]:
    taken = [f"'{wrapper}.' from the names that have it" for wrapper in inside]
    if around:
        taken.append(f"'{'.'.join(around)}.' from the front of every name")
    return (f"Taken away: {', and '.join(taken)}.",) if taken else ()
