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


class Notes:
    """Notes on many parts of one thing: each is said once, and after many of them only how many more there are."""

    _MOST = 20

    def __init__(self) -> None:
        self._said, self._left = set[str](), 0

    def say(self, *lines: str) -> None:
        """Say those that were not said yet."""
        for line in lines:
            if line in self._said:
                continue
            if len(self._said) == self._MOST:
                self._left += 1
                continue
            self._said.add(line)
            say(line)

    def end(self) -> None:
        """Say how many were left out."""
        if self._left:
            say(f"and {self._left:,} more notes like these")


@contextmanager
def bar(doing: str) -> Iterator[Callable[[float], None]]:
    """A bar that shows which part of something long is done, and how long the rest takes, for people who watch.

    It is told which part is done, 0…1.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("done, left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(doing, total=1.0)
        yield lambda share: shown.update(task, completed=share)


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
