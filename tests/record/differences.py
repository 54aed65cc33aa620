"""The differences from the record that are wanted: each says which replies, what they are instead, and why.

A difference is asserted as precisely as the record itself: what it changes must then be so in each reply that it fits,
and it must fit one. Several may fit the same reply; they are applied in their order.

    WANTED = (
        Difference(
            why="pages of other origins are refused for everything that changes something",
            names="plain/sessions/handshakes/null",
            status=403,
            reason="Forbidden",
            json=lambda problem: problem | {"title": "ForeignOrigin", "status": 403},
        ),
        Difference(why="the server has no name", has_header="server", headers={"server": None}),
        Difference(
            why="every JSON reply of a model tells its cell",
            names="plain/models/*",
            has_text=r'"lstm":\\{',
            text=((r'("lstm":\\{)', r'"cell":"lstm",\\1'),),
        ),
    )
"""

import json as json_
import math
import re
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from normalise import Recorded

COMPUTED = re.compile(r'"(?:[^"\\]|\\.)*"|#')


class Inapplicable(Exception):
    """A difference cannot be made of a reply that it fits."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One wanted difference; what is left out stays as it was recorded."""

    why: str
    """One line."""

    # which replies it is of: those that all of this is true of

    names: str = "*"
    """A pattern of their names, as a shell has it; `[[]` stands for a bracket."""
    statuses: tuple[int, ...] = ()
    """The recorded status is one of these; any, if there are none."""
    has_header: str | None = None
    """The recorded reply has this header."""
    has_text: str | None = None
    """The recorded text matches this expression somewhere."""

    # what they are instead

    status: int | None = None
    """Instead of the recorded one."""
    reason: str | None = None
    """The reason phrase."""
    headers: Mapping[str, str | list[str] | None] | None = None
    """What headers hold instead; None for those that are not there any more."""
    closes: str | None = None
    """Whether the server closes the connection: `no`, `yes` or `at once`."""
    left: str | None = None
    """How a connection is left in the end, `open` or `closed`, in place of all the others."""
    framing: str | None = None
    """How the body ends: `none`, `length`, `chunks` or `the end`."""
    interim: tuple[str, ...] | None = None
    """Heads of interim replies."""
    body: str | None = None
    """The whole text of the body, in which `#` stands for no number."""
    text: tuple[tuple[str, str], ...] = ()
    """Expressions and what to put in their places in the recorded text; each must match in each reply."""
    json: Callable[[Any], Any] | None = None
    """Makes the wanted JSON of the recorded; numbers that were computed are numbers in it."""

    def fits(self, name: str, recorded: Recorded) -> bool:
        """Whether it is of this reply."""
        return (
            ("left" in recorded) == (self.left is not None)
            and fnmatchcase(name, self.names)
            and (not self.statuses or recorded["status"] in self.statuses)
            and (self.has_header is None or self.has_header in recorded.get("headers", {}))
            and (self.has_text is None or re.search(self.has_text, recorded.get("text", "")) is not None)
        )

    def applied(self, recorded: Recorded) -> Recorded:
        """What is wanted instead of a recorded reply; raises `Inapplicable`."""
        wanted = deepcopy(recorded)
        for part in ("status", "reason", "framing", "left"):
            if (value := getattr(self, part)) is not None:
                wanted[part] = value
        self._change_headers(wanted)
        if self.closes is not None:
            wanted.pop("closes", None)
            wanted |= {} if self.closes == "no" else {"closes": self.closes}
        if self.interim is not None:
            wanted.pop("interim", None)
            wanted |= {"interim": list(self.interim)} if self.interim else {}
        for expression, instead in self.text:
            wanted["text"], count = re.subn(expression, instead, wanted.get("text", ""))
            if not count:
                raise Inapplicable(f"{expression!r} is not in {wanted['text'][:200]!r}")
        if self.json is not None:
            _put(wanted, self.json(json_of(wanted)))
        if self.body is not None:
            _put_text(wanted, self.body)
        _state_length(wanted, recorded)
        if wanted == recorded:
            raise Inapplicable("it changes nothing")
        return wanted

    def _change_headers(self, wanted: Recorded) -> None:
        for name, value in (self.headers or {}).items():
            wanted.setdefault("headers", {}).pop(name, None)
            if value is not None:
                wanted["headers"][name] = [value] if isinstance(value, str) else value


WANTED: tuple[Difference, ...] = ()


def wanted(name: str, recorded: Recorded, used: set[str]) -> Recorded:
    """What is to come instead of a recorded reply, which differences may change; those that do are noted."""
    for difference in WANTED:
        if difference.fits(name, recorded):
            try:
                recorded = difference.applied(recorded)
            except Inapplicable as error:
                raise Inapplicable(f"the difference {difference.why!r} is none of {name}: {error}") from None
            used.add(difference.why)
    return recorded


def unused(used: Collection[str]) -> list[str]:
    """Why those are wanted that no reply has."""
    return [difference.why for difference in WANTED if difference.why not in used]


def json_of(recorded: Recorded) -> Any:
    """A body as JSON, its computed numbers in their places."""
    numbers = iter(recorded.get("numbers", []))

    def number(found: re.Match[str]) -> str:
        return json_.dumps(next(numbers)) if found[0] == "#" else found[0]

    text = re.sub(r":(<\w+>)", r':"<\1>"', recorded["text"])
    return json_.loads(COMPUTED.sub(number, text))


def _put(wanted: Recorded, value: Any) -> None:
    """Write JSON as a reply is recorded."""
    numbers: list[float] = []

    def written(item: Any) -> str:
        if isinstance(item, float) and not math.isinf(item):
            numbers.append(item)
            return "#"
        if isinstance(item, dict):
            return "{" + ",".join(f"{_quoted(name)}:{written(each)}" for name, each in item.items()) + "}"
        if isinstance(item, list | tuple):
            return "[" + ",".join(map(written, item)) + "]"
        return _quoted(item)

    wanted["text"] = re.sub(r':"<(<\w+>)>"', r":\1", written(value))
    wanted.pop("numbers", None)
    wanted |= {"numbers": numbers} if numbers else {}


def _quoted(item: Any) -> str:
    return json_.dumps(item, ensure_ascii=False)


def _put_text(wanted: Recorded, text: str) -> None:
    for part in ("numbers", "rounded", "digits"):
        wanted.pop(part, None)
    wanted["text"] = text


def _state_length(wanted: Recorded, recorded: Recorded) -> None:
    """The length of a body follows from it, where it was recorded and is the same in each run."""
    headers = wanted.get("headers", {})
    if wanted.get("text") == recorded.get("text") or headers.get("content-length", [""])[0] in ("", "<content-length>"):
        return
    headers["content-length"] = [str(len(wanted["text"].encode()))]
