"""`Edge`: what all connections share, their bounds and how much they hold together."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from gatescope.server.api.exchange import Exchange
from gatescope.server.api.limits import ConnectionLimits

if TYPE_CHECKING:
    from gatescope.server.api.bodies import ArrivingBody
    from gatescope.server.api.protocol import HttpProtocol

SWEEP_S = 0.5
"""How often all connections are looked at for what takes too long."""


class Edge:
    """What all connections share: their bounds, and how much they hold together.

    Args:
        exchange: answers the requests.
        limits: the operator's.
    """

    def __init__(self, exchange: Exchange, limits: ConnectionLimits) -> None:
        self.exchange, self.limits = exchange, limits
        self.received_bytes = 0
        """Of the large bodies that have not been answered yet."""
        self._gathering: dict[ArrivingBody, HttpProtocol] = {}  # the large bodies that are not complete, in order
        self._connections: set[HttpProtocol] = set()
        self._unsent: set[HttpProtocol] = set()  # those that have more to send than their clients read
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._connections) >= self.limits.max_connections

    def may_grow(self, body: ArrivingBody) -> bool:
        """Whether more of this body may be received; the oldest one always may, so that one of them gets done."""
        return self.received_bytes < self.limits.max_received_bytes or next(iter(self._gathering), body) is body

    def count(self, body: ArrivingBody, connection: HttpProtocol, more: int) -> None:
        """So many bytes more of a large body are held."""
        self.received_bytes += more
        self._gathering.setdefault(body, connection)

    def forget(self, body: ArrivingBody, bytes_held: int = 0) -> None:
        """No more of this large body comes; so many bytes of it are held no longer."""
        self.received_bytes -= bytes_held
        self._gathering.pop(body, None)
        for waiting, connection in tuple(self._gathering.items()):
            if not self.may_grow(waiting):
                break
            connection.loop.call_soon(connection.go_on_reading)

    def add(self, connection: HttpProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """Look after this one, too."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_S, self._sweep, loop)

    def discard(self, connection: HttpProtocol) -> None:
        """It is closed."""
        self._connections.discard(connection)
        self._unsent.discard(connection)

    def hold(self, connection: HttpProtocol) -> None:
        """Its client reads too slowly; where all such connections hold too much together, the slowest are closed."""
        self._unsent.add(connection)
        most = self.limits.max_unsent_bytes
        sizes = {held: held.unsent_bytes for held in self._unsent}
        total = sum(sizes.values())
        for held in sorted(sizes, key=lambda held: held.progressed_at):
            if total <= most:
                return
            total -= sizes[held]
            held.abort()

    def release(self, connection: HttpProtocol) -> None:
        """Its client has caught up."""
        self._unsent.discard(connection)

    def cancel(self) -> None:
        """Answer whatever is being answered with 503: the service ends."""
        for connection in tuple(self._connections):
            connection.cancel()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = monotonic()
        for connection in tuple(self._connections):
            connection.look(now)
        self._timer = loop.call_later(SWEEP_S, self._sweep, loop) if self._connections else None
