"""All conversations, by what they are about."""

from collections.abc import Iterator

from conversation import Conversation

from scenarios import (
    access,
    administration,
    connections,
    formats,
    infer,
    modules,
    predict,
    service,
    sessions,
    trace,
    traces,
)

MODULES = (service, predict, formats, trace, traces, sessions, infer, connections, access, administration, modules)


def conversations() -> Iterator[Conversation]:
    """All of them, in the order in which they are held."""
    for module in MODULES:
        yield from module.conversations()
