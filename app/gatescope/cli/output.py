"""Where a command's words go: answers to standard output, all else to standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console()


def show(reply: bytes, render: Callable[[], Any], *, as_json: bool = False) -> None:
    """An answer: drawn on a terminal unless `as_json` says otherwise, as JSON into a pipe."""
    if sys.stdout.isatty() and not as_json:
        console.print(render())
    else:
        sys.stdout.write(reply.decode() + "\n")


def answer(*lines: str) -> None:
    """An answer in words."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def say(*lines: str) -> None:
    """To standard error, so that a pipe gets only the answer."""
    sys.stderr.writelines(f"{line}\n" for line in lines)


@contextmanager
def progress(doing: str) -> Iterator[None]:
    """A spinner while something takes long, for people who watch."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        shown.add_task(doing)
        yield
