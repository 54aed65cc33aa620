"""`Server`: uvicorn on sockets of our own, which tells its address once the models are there."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address

import structlog
import uvicorn
from fastapi import FastAPI

from app.errors import Unavailable
from app.interpreter import TURN_S
from app.protocol import Protocol
from app.settings import Settings

COLLECTED_AFTER = 50_000
"""So many more objects must have been made than freed until the collector looks for cycles among the new ones."""

log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """Serves the application until it is told to stop.

    Args:
        app: made by `create_app`.
        settings: the operator's.
        greet: called with the server's URL once every model was loaded or given up.
    """

    def __init__(self, app: FastAPI, settings: Settings, greet: Callable[[str], None]) -> None:
        patience = settings.shutdown_timeout_s
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                proxy_headers=False,  # nothing here looks at who asks
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=patience,
                ws_max_size=settings.max_body_bytes,
            )
        )
        self._engine = app.state.context.engine
        self._greet = greet
        self._greeting: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections on these sockets; the greeting follows when there is something to ask."""
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("listening", url=url_of(listener))
        if sockets:
            self._greeting = asyncio.create_task(self._greet_when_loaded(url_of(sockets[0])))

    async def _greet_when_loaded(self, url: str) -> None:
        await self._engine.loaded()
        _settle()
        self._greet(url)


def _settle() -> None:
    """Let nothing interrupt the answers for long.

    What stands now stays, so the collector need not look at it again, and there is little else for it to find. The
    device's thread need not wait long for its turn at the interpreter, while the event loop is busy.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER, 50, 50)
    sys.setswitchinterval(TURN_S)


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
