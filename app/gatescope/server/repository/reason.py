"""`reason_of`: what ModelInfo says of an error."""

from __future__ import annotations

import structlog

from gatescope.errors import AppError

log = structlog.get_logger(__name__)


def reason_of(error: Exception, model: str, version: str | None = None) -> str:
    """One sentence; of an error that nobody foresaw, the log says all."""
    if isinstance(error, AppError):
        return str(error)
    if isinstance(error, OSError):
        return f"{model} cannot be read: {error.strerror}"
    log.error("model failed to load", model=model, version=version, exc_info=error)
    return f"{type(error).__name__} while loading it; the log has the details"
