"""A client that sends whatever bytes, and tells of each reply all that came over the wire."""

import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from conversation import HOST, Conversation, Frame, Request, Step

PATIENCE_S = 30.0
"""So long a reply may take."""

CLOSING_S = 5.0
"""So long a server may take to close a connection that it says it closes."""

PROBE = Request("GET", "/health/live", (("Host", HOST),))
MASK = b"\x01\x02\x03\x04"

INTERIM, SWITCHING = 100, 101
WITHOUT_BODY = (204, 304)
TEXT_FRAME, BINARY_FRAME, CLOSE_FRAME = 1, 2, 8


@dataclass
class Reply:
    """What came, and what was asked."""

    request: Request
    line: str = ""
    """The status line; empty where nothing came."""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    framing: str = "none"
    """How the body ended: by its length, in chunks, or with the connection."""
    interim: list[str] = field(default_factory=list)
    closes: str = "no"
    """Whether the server closed the connection behind it."""
    is_frame: bool = False
    """Whether it came over a WebSocket, and nothing else is told of it than:"""
    frame: Frame | None = None
    """The message; None where the connection ended."""

    @property
    def status(self) -> int:
        """The status; 0 where nothing came."""
        return int(self.line.split(" ")[1]) if self.line else 0

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for known, value in self.headers if known.lower() == name), None)


class Broken(Exception):
    """What came is no HTTP, or did not come."""


class Wire:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer, self._is_over = bytearray(), False
        self._interim: list[str] = []

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    @property
    def is_over(self) -> bool:
        """Whether the server has closed it."""
        return self._is_over

    def send(self, content: bytes) -> None:
        """Send bytes; whether they arrive shows in the replies."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(content)

    def interim(self) -> None:
        """Wait for an interim reply; another one is left for `reply`."""
        self._until(b"\r\n\r\n")
        if self._buffer.startswith(b"HTTP/1.1 100"):
            self._interim.append(self._head())

    def reply(self, request: Request) -> Reply:
        """The next reply."""
        reply = Reply(request, interim=self._interim)
        self._interim = []
        while True:
            self._until(b"\r\n\r\n")
            if not self._buffer:
                reply.closes = "at once"
                return reply
            head = self._head()
            line, *lines = head.split("\r\n")
            if not line.startswith("HTTP/1.1 "):
                raise Broken(f"a reply begins with {line[:80]!r}")
            if line.startswith(f"HTTP/1.1 {INTERIM}"):
                reply.interim.append(head)
                continue
            break
        reply.line = line
        reply.headers = [(name, value.strip(" \t")) for name, _, value in (each.partition(":") for each in lines)]
        self._read_body(reply)
        if reply.framing == "the end":
            reply.closes = "yes"
        elif (reply.header("connection") or "").lower() == "close":
            reply.closes = "yes" if self._closes() else "says so, but does not"
        return reply

    def end(self) -> str:
        """Whether the connection is still of use: `open`, `closed`, or what else comes."""
        if self._buffer:
            return f"more came: {bytes(self._buffer[:80])!r}"
        if self._is_over:
            return "closed"
        self.send(PROBE.written({}))
        reply = self.reply(PROBE)
        return "closed" if not reply.line else "open" if reply.line == "HTTP/1.1 200 OK" else reply.line

    def frame(self) -> Frame | None:
        """The next message of a WebSocket; None where the connection ended."""
        head = self._exactly(2)
        if len(head) < 2:
            return None
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
        return Frame(head[0] & 15, self._exactly(size))

    def send_frame(self, frame: Frame) -> None:
        """Send a message, masked as clients must."""
        size = len(frame.payload)
        length = struct.pack(">B", 128 | size) if size < 126 else struct.pack(">BH", 128 | 126, size)
        masked = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(frame.payload))
        self.send(bytes([128 | frame.opcode]) + length + MASK + masked)

    def _read_body(self, reply: Reply) -> None:
        if reply.request.method == "HEAD" or reply.status in WITHOUT_BODY or reply.status == SWITCHING:
            return
        if "chunked" in (reply.header("transfer-encoding") or ""):
            reply.framing, reply.body = "chunks", b"".join(self._chunks())
        elif (length := reply.header("content-length")) is not None:
            reply.framing, reply.body = "length", self._exactly(int(length))
            if len(reply.body) < int(length):
                raise Broken(f"a body of {length} bytes ended after {len(reply.body)}")
        else:
            while self._receive():
                pass
            reply.framing, reply.body = "the end", self._take(len(self._buffer))

    def _chunks(self) -> Iterator[bytes]:
        while True:
            self._until(b"\r\n")
            size = int(self._take(self._buffer.index(b"\r\n") + 2), 16)
            yield self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Broken("a chunk has another length than it says")
            if not size:
                return

    def _closes(self) -> bool:
        if self._buffer:
            return False
        self._socket.settimeout(CLOSING_S)
        try:
            return not self._receive()
        except TimeoutError:
            return False
        finally:
            self._socket.settimeout(PATIENCE_S)

    def _head(self) -> str:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            raise Broken(f"the connection ended within a head: {bytes(self._buffer[:200])!r}")
        return self._take(end + 4)[:-4].decode("latin-1")

    def _until(self, mark: bytes) -> None:
        while mark not in self._buffer and self._receive():
            pass

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size and self._receive():
            pass
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self) -> bool:
        """More bytes; False where there are no more."""
        if self._is_over:
            return False
        try:
            got = self._socket.recv(1 << 16)
        except ConnectionResetError:
            got = b""
        self._is_over = not got
        self._buffer += got
        return bool(got)


def hold(conversation: Conversation, port: int) -> Iterator[tuple[str, Reply | str, Mapping[str, str]]]:
    """Hold a conversation: of each reply its name, what came, and what earlier ones said.

    In the end comes of each connection that no reply has ended how it was left.
    """
    wires: dict[int, Wire] = {}
    captured: dict[str, str] = {}
    try:
        for step in conversation.steps:
            if step.connection not in wires:
                wires[step.connection] = Wire(port)
            wire = wires[step.connection]
            time.sleep(step.pause)
            _send(wire, step, captured)
            for name, reply in zip(step.replies, _replies(wire, step), strict=False):
                if step.capture is not None and name == step.replies[-1]:
                    captured |= _captured(step.capture, reply)
                yield name, reply, captured
            if step.abandons:
                wires.pop(step.connection).close()
        for number, wire in wires.items():
            if wire.is_over:
                continue
            yield f"{conversation.configuration}/{conversation.name}/(connection {number})", wire.end(), captured
    finally:
        for wire in wires.values():
            wire.close()


def _send(wire: Wire, step: Step, captured: Mapping[str, str]) -> None:
    for frame in step.frames:
        wire.send_frame(frame)
    content = b"".join(request.written(captured) for request in step.requests)
    for index, piece in enumerate(step.cut.pieces(content) if content else []):
        if index and step.cut.interim:
            wire.interim()
        elif index:
            time.sleep(step.cut.pause)
        wire.send(piece)


def _replies(wire: Wire, step: Step) -> Iterator[Reply]:
    if step.frames:
        for _ in step.replies:
            yield Reply(PROBE, is_frame=True, frame=wire.frame(), closes="yes" if wire.is_over else "no")
        return
    for request in step.requests:
        yield wire.reply(request)


def _captured(capture: tuple[str, str], reply: Reply) -> dict[str, str]:
    name, key = capture
    try:
        return {name: json.loads(reply.body)[key]}
    except (ValueError, KeyError):
        return {name: "nothing"}
