"""Where a command's words go: answers to standard output, all else to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(reply: bytes, render: Callable[[int], RenderableType], *, as_json: bool = False) -> None:
    """An answer: drawn on a terminal unless `as_json` says otherwise, as JSON into a pipe.

    Args:
        reply: the JSON.
        render: draws it; takes the width of the terminal in characters.
        as_json: JSON on a terminal, too.
    """
    if not sys.stdout.isatty() or as_json:
        sys.stdout.write(reply.decode() + "\n")
        return
    from rich.console import Console

    console = Console()
    console.print(render(console.width))


def answer(*lines: str) -> None:
    """An answer in words."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def say(*lines: str) -> None:
    """To standard error, so that a pipe gets only the answer."""
    sys.stderr.writelines(f"{line}\n" for line in lines)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """A spinner while something takes long, for people who watch."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        shown.add_task(doing)
        yield
