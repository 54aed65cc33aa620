"""`Server`: uvicorn on sockets of our own, which tells its address once the models are there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from gatescope.errors import Unavailable
from gatescope.server.api.protocol import HttpProtocol

log = structlog.get_logger(__name__)

_SHORTEST_S = 0.001
"""With no time at all, `asyncio.wait_for` does not begin with what it waits for."""


class Server(uvicorn.Server):
    """Serves the application until it is told to stop.

    Args:
        app: made by `create_app`.
        drain_timeout_s: seconds that requests in flight get to finish when it is told to stop.
        max_body_bytes: the most that a WebSocket message may have.
        greet: called with the server's URL once every model was loaded or given up.
    """

    def __init__(self, app: FastAPI, drain_timeout_s: int, max_body_bytes: int, greet: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                proxy_headers=False,  # nothing here looks at who asks
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=max(drain_timeout_s, _SHORTEST_S),  # type: ignore[arg-type]
                ws_max_size=max_body_bytes,
            )
        )
        self._engine, self._edge = app.state.context.engine, app.state.edge
        self._greet = greet
        self._greeting: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections on these sockets; the greeting follows when there is something to ask."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("listening", url=url_of(listener))
        if sockets:
            self._greeting = asyncio.create_task(self._greet_when_loaded(url_of(sockets[0])))

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for the requests that are being answered; those that take too long are answered 503."""
        try:
            await super()._wait_tasks_to_complete()
        finally:  # nothing is left, the time is over, or the process is to end at once
            self._edge.cancel()
            await asyncio.sleep(0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal ends the service; a second one does so at once."""
        if self.should_exit:
            self.force_exit = True
        super().handle_exit(sig, frame)

    async def _greet_when_loaded(self, url: str) -> None:
        await self._engine.loaded()
        self._greet(url)


def listen(host: str, port: int) -> list[socket.socket]:
    """A listening socket for every address of the host.

    Raises:
        Unavailable: there is no such host, or its port is taken.
    """
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sockets.append(socket.create_server(address, family=family))
    except OSError as error:
        for opened in sockets:
            opened.close()
        said = str(error.strerror).partition(" (")[0]
        raise Unavailable(f"cannot listen on {host}, port {port}: {said}") from error
    return sockets


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine reaches this socket."""
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url_of(listener: socket.socket) -> str:
    """The URL to reach this socket at; one that listens on every interface is reached at the loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
