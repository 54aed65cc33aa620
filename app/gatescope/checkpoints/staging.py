"""Folders to build in: nothing that is half done ever has a name that is read."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def hidden(parent: Path) -> Iterator[Path]:
    """A folder whose name begins with a dot; at the end it is gone, with what was not moved elsewhere."""
    folder = parent / f".import-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """A folder that is made if it is not there, and not left there, empty, when something fails."""
    was_there = folder.is_dir()
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if not was_there:
            with suppress(OSError):
                folder.rmdir()
        raise
