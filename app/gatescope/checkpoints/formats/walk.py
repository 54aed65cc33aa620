"""Ways through what was saved; each container is walked through once, however often the file refers to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gatescope.checkpoints.formats.placeholders import Placeholder
from gatescope.checkpoints.formats.plain import NAMESPACE, Entries, Items


def everything(place: Any, seen: set[int]) -> Iterator[Any]:
    """Everything in containers of any kind and in the state of modules; `seen` is skipped and added to."""
    waiting = [place]
    while waiting:
        value = waiting.pop()
        yield value
        if not isinstance(value, Entries | Items | list | tuple | Placeholder) or _identity(value) in seen:
            continue
        seen.add(_identity(value))
        if isinstance(value, Entries):
            waiting += reversed([*value.named.values(), *(each for pair in value.others for each in pair)])
        elif isinstance(value, Items):
            waiting += reversed(value.items)
        elif isinstance(value, list | tuple):
            waiting += reversed(value)
        elif value.is_module:
            waiting.append(value.state)


def classes(place: Any) -> list[str]:
    """The classes of the placeholders in it, each once."""
    return list(dict.fromkeys(each.name for each in everything(place, set()) if isinstance(each, Placeholder)))


def holders(place: Any, is_wanted: Callable[[Any], bool]) -> set[int]:
    """The ids of the mappings and sequences from which something wanted can be reached."""
    above: dict[int, list[int]] = {id(place): []}
    found: set[int] = set()
    waiting = [place]
    while waiting:
        container = waiting.pop()
        for value in inside(container):
            if is_wanted(value):
                found.add(id(container))
            elif isinstance(value, Entries | list | tuple):
                if id(value) not in above:
                    above[id(value)] = []
                    waiting.append(value)
                above[id(value)].append(id(container))
    unfinished = list(found)
    while unfinished:
        new = [each for each in above[unfinished.pop()] if each not in found]
        found.update(new)
        unfinished += new
    return found


def inside(place: Any) -> Iterable[Any]:
    """What stands in a mapping under names, or in a sequence."""
    if isinstance(place, Entries):
        return place.named.values() if place.kind != NAMESPACE else ()
    return place if isinstance(place, list | tuple) else ()


def _identity(value: Any) -> int:
    """The same for all objects that share their entries or items."""
    if isinstance(value, Entries):
        return id(value.named)
    return id(value.items) if isinstance(value, Items) else id(value)
