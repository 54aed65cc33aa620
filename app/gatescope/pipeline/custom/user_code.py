"""`user_code`: calls code that is not ours; whatever that raises becomes `ModuleFailed`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gatescope.errors import AppError, ModuleFailed

log = logging.getLogger("gatescope.pipeline")

_LONGEST = 300  # characters of a message that was written for somebody else


@contextmanager
def foreign(doing: str) -> Iterator[None]:
    """Run a model's own code.

    Args:
        doing: what is done, as the beginning of a sentence.

    Raises:
        ModuleFailed: it raised anything at all, `SystemExit` included; the log has the traceback.
    """
    try:
        yield
    except (AppError, KeyboardInterrupt):
        raise
    except BaseException as error:
        log.warning("%s failed", doing, exc_info=error)
        said = str(error).strip().partition("\n")[0][:_LONGEST]
        raise ModuleFailed(f"{doing} raised {type(error).__name__}{': ' if said else ''}{said}") from error
