"""`Conversation`: what is sent to a server, connection by connection, and the names of the replies to it."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

HOST = "localhost:8000"
JSON = "application/json"
SLOWLY = ("X-Request-Timeout-Ms", "20000")
"""A header that today leads past the quick way of a hot route."""

Header = tuple[str, str]


@dataclass(frozen=True)
class Request:
    """One request; `{name}` in angle brackets stands for what an earlier reply said: `<<trace>>`."""

    method: str = "GET"
    target: str = ""
    headers: tuple[Header, ...] = ()
    body: bytes | None = None
    version: str = "1.1"
    raw: bytes | None = None
    """Sent as it is, in place of all the others; these still say how the reply is read."""

    key: str | None = None
    """Stands for a body that is not the same bytes everywhere, such as a compressed one."""

    def written(self, captured: Mapping[str, str]) -> bytes:
        """The bytes that go out."""
        if self.raw is not None:
            return filled(self.raw, captured)
        body = None if self.body is None else filled(self.body, captured)
        lines = [f"{self.method} {self.target} HTTP/{self.version}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if body is not None and not {"content-length", "transfer-encoding"} & {
            name.lower() for name, _ in self.headers
        }:
            lines.append(f"Content-Length: {len(body)}")
        head = "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")
        return filled(head, captured) + (body or b"")

    @property
    def told(self) -> bytes:
        """What is remembered of it, to see whether it is still the same."""
        known = self if self.key is None else replace(self, body=self.key.encode())
        return known.written({})

    def sent(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for known, value in self.headers if known.lower() == name]


def filled(content: bytes, captured: Mapping[str, str]) -> bytes:
    """The bytes with what earlier replies said."""
    for name, value in captured.items():
        content = content.replace(b"<<%b>>" % name.encode(), value.encode())
    return content


@dataclass(frozen=True)
class Cut:
    """How bytes are cut into writes."""

    every: int = 0
    """So many bytes at a time."""
    at: tuple[int, ...] = ()
    """At these places; negative ones count from the end."""
    pause: float = 0.0
    """Seconds between two writes."""
    interim: bool = False
    """The body goes out when an interim reply came."""

    def pieces(self, content: bytes) -> list[bytes]:
        """The writes."""
        if self.interim:
            end = content.index(b"\r\n\r\n") + 4
            return [content[:end], content[end:]]
        if self.every:
            return [content[start : start + self.every] for start in range(0, len(content), self.every)]
        places = sorted({place % len(content) for place in self.at} - {0})
        return [content[start:stop] for start, stop in pairwise([0, *places, len(content)])]


@dataclass(frozen=True)
class Frame:
    """A message of a WebSocket."""

    opcode: int
    payload: bytes


@dataclass(frozen=True)
class Step:
    """Something is sent on a connection, and so many replies are read."""

    connection: int
    requests: tuple[Request, ...] = ()
    replies: tuple[str, ...] = ()
    """Their names."""
    cut: Cut = field(default_factory=Cut)
    capture: tuple[str, str] | None = None
    """The name of a value, and the JSON field of the last reply that holds it."""
    pause: float = 0.0
    """Seconds that go by before."""
    frames: tuple[Frame, ...] = ()
    """Sent in place of requests, once a WebSocket is open."""
    abandons: bool = False
    """The connection is closed by the client after that."""

    @property
    def digest(self) -> str:
        """Changes with what is sent."""
        told = [request.told for request in self.requests] + [frame.payload for frame in self.frames]
        said = repr((self.cut, self.replies, self.frames and [frame.opcode for frame in self.frames]))
        return hashlib.blake2b(b"\0".join([*told, said.encode()]), digest_size=6).hexdigest()


@dataclass(frozen=True)
class Conversation:
    """Steps in their order, with a server of one configuration."""

    name: str
    configuration: str
    steps: tuple[Step, ...]

    @property
    def name_at(self) -> str:
        """With the configuration before it."""
        return f"{self.configuration}/{self.name}"

    @property
    def group(self) -> str:
        """What is tested together."""
        return f"{self.configuration}/{self.name.partition('/')[0]}"


class Talk:
    """Builds a conversation.

    Args:
        configuration: of the server.
        name: of the conversation; names of replies begin with it.
    """

    def __init__(self, configuration: str, name: str) -> None:
        self._configuration, self._name = configuration, name
        self._steps: list[Step] = []
        self._counts: Counter[str] = Counter()
        self._connection = self._connections = 0

    def done(self) -> Conversation:
        """The conversation."""
        return Conversation(self._name, self._configuration, tuple(self._steps))

    def dial(self) -> int:
        """What follows goes over a new connection."""
        self._connections += 1
        self._connection = self._connections
        return self._connection

    def over(self, connection: int) -> None:
        """What follows goes over this connection."""
        self._connection = connection

    def named(self, name: str) -> str:
        """A name that no other reply has: the second one of a name is `name#2`."""
        self._counts[name] += 1
        number = f"#{self._counts[name]}" if self._counts[name] > 1 else ""
        return f"{self._configuration}/{self._name}/{name}{number}"

    def ask(
        self,
        name: str,
        method: str,
        target: str,
        body: bytes | str | Mapping | Sequence | None = None,
        *headers: Header,
        times: int = 1,
        **others,
    ) -> None:
        """Send a request, and read the reply to it; the same several times."""
        capture, cut, pause = others.pop("capture", None), others.pop("cut", Cut()), others.pop("pause", 0.0)
        asked = request(method, target, body, *headers, **others)
        for _ in range(times):
            self._add(requests=(asked,), replies=(self.named(name),), cut=cut, capture=capture, pause=pause)

    def get(self, name: str, target: str, *headers: Header, **others) -> None:
        """GET."""
        self.ask(name, "GET", target, None, *headers, **others)

    def post(self, name: str, target: str, body=None, *headers: Header, **others) -> None:
        """POST, as JSON unless it is said otherwise."""
        self.ask(name, "POST", target, body, *headers, **others)

    def hot(self, name: str, target: str, body, *headers: Header, **others) -> None:
        """POST three times: as new, as known, and with a header that leads another way."""
        self.post(name, target, body, *headers, times=2, **others)
        self.post(f"{name} slowly", target, body, *headers, SLOWLY, **others)

    def together(self, *asked: tuple[str, Request], cut: Cut | None = None, pause: float = 0.0) -> None:
        """Send requests in one go, and read all replies."""
        names, requests = zip(*asked, strict=True)
        self._add(requests=requests, replies=tuple(map(self.named, names)), cut=cut or Cut(), pause=pause)

    def send(self, asked: Request, cut: Cut | None = None, pause: float = 0.0) -> None:
        """Send something, and read nothing."""
        self._add(requests=(asked,), cut=cut or Cut(), pause=pause)

    def read(self, name: str, asked: Request, pause: float = 0.0) -> None:
        """Read the reply to what was sent before."""
        self._add(requests=(replace(asked, raw=b""),), replies=(self.named(name),), pause=pause)

    def raw(self, name: str, content: bytes, method: str = "GET", **others) -> None:
        """Send these bytes on a new connection, and read one reply, or the end."""
        self.dial()
        cut = others.pop("cut", Cut())
        self._add(requests=(Request(method, raw=content, **others),), replies=(self.named(name),), cut=cut)

    def frame(self, name: str, opcode: int, payload: bytes, replies: int = 1) -> None:
        """Send a message over an open WebSocket, and read so many."""
        names = tuple(self.named(name) for _ in range(replies))
        self._add(requests=(), replies=names, frames=(Frame(opcode, payload),))

    def abandon(self) -> None:
        """Close the connection."""
        self._add(requests=(), abandons=True)

    def _add(self, **given) -> None:
        self._steps.append(Step(self._connection, **given))


def request(
    method: str,
    target: str,
    body: bytes | str | Mapping | Sequence | None = None,
    *headers: Header,
    content_type: str | None = JSON,
    host: str | None = HOST,
    version: str = "1.1",
    key: str | None = None,
) -> Request:
    """A request with the headers that it needs; a body that is no bytes or text becomes JSON."""
    content = body if body is None or isinstance(body, bytes) else as_bytes(body)
    first = [] if host is None else [("Host", host)]
    if content is not None and content_type is not None:
        first.append(("Content-Type", content_type))
    return Request(method, target, (*first, *headers), content, version, key=key)


def as_bytes(body: str | Mapping | Sequence) -> bytes:
    """Text as UTF-8, everything else as JSON."""
    return body.encode() if isinstance(body, str) else json.dumps(body, separators=(",", ":")).encode()
