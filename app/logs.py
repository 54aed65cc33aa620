"""Logging: structlog for our own lines and for those of uvicorn, as JSON or for the eye."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(log_format: str) -> None:
    """Send every log line to standard error: `json`, `console`, or (`auto`) whichever suits it."""
    if log_format == "auto":
        log_format = "console" if sys.stderr.isatty() else "json"
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
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


def quiet() -> None:
    """Only warnings and worse: for commands whose output is an answer, not a log."""
    logging.getLogger().setLevel(logging.WARNING)
