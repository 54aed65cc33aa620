"""Logging: structlog for our own lines and for those of uvicorn, as JSON or for the eye."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import structlog

FLUSHED_AFTER_S = 0.1
"""So long a request's line may wait for others, to be written together with them."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is answered here; it stands in every line that is logged meanwhile."""


def configure(log_format: str) -> None:
    """Send every log line to standard error: `json`, `console`, or (`auto`) whichever suits it."""
    if log_format == "auto":
        log_format = "console" if sys.stderr.isatty() else "json"
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    rendered: list[structlog.types.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # they hold bodies and keys
        rendered += [structlog.processors.ExceptionRenderer(without_locals), structlog.processors.JSONRenderer()]
    else:
        plain = structlog.dev.plain_traceback
        rendered += [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=rendered, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.INFO
    for name in ("httpx", "asyncio", "matplotlib", "watchfiles"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _access.as_json = log_format == "json"


def quiet() -> None:
    """Only warnings and worse: for commands whose output is an answer, not a log."""
    logging.getLogger().setLevel(logging.WARNING)


def access(method: str, path: str, status: int, seconds: float, answered_id: str) -> None:
    """Log that a request was answered."""
    if logging.getLogger().isEnabledFor(logging.INFO):
        _access.add(_Line(method, path, status, seconds, answered_id, time.time()))


class _Line(NamedTuple):
    """An answered request."""

    method: str
    path: str
    status: int
    seconds: float
    request_id: str
    at: float  # Unix seconds

    def told(self) -> dict[str, Any]:
        """What the log says of it."""
        ms = round(self.seconds * 1000, 2)
        return {
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "ms": ms,
            "request_id": self.request_id,
        }

    def json(self) -> bytes:
        """The whole line."""
        timestamp = datetime.fromtimestamp(self.at, UTC)
        line = {**self.told(), "event": "request", "level": "info", "timestamp": timestamp}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


class _Access:
    """The lines of answered requests: as JSON, they are put together and written by the hundred.

    One by one, and through all that other lines go through, they would cost more than the answers.
    """

    def __init__(self) -> None:
        self.as_json = False
        self._lines: deque[_Line] = deque()
        self._log = structlog.get_logger("gatescope.access")
        atexit.register(self.flush)

    def add(self, line: _Line) -> None:
        if not self.as_json:
            self._log.info("request", **line.told())
            return
        self._lines.append(line)
        if len(self._lines) == 1:
            timer = threading.Timer(FLUSHED_AFTER_S, self.flush)
            timer.daemon = True
            timer.start()

    def flush(self) -> None:
        lines: list[_Line] = []
        while self._lines:  # whoever adds one meanwhile finds it gone, or begins another timer
            with suppress(IndexError):  # another thread may take the last one
                lines.append(self._lines.popleft())
        if lines:
            sys.stderr.write(b"".join(line.json() for line in lines).decode())
            sys.stderr.flush()


_access = _Access()


def _with_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if (known := request_id.get()) is not None:
        event.setdefault("request_id", known)
    return event
