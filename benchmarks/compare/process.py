"""The tables in process: a process for each checkout, which this one asks for one row after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks import library
from benchmarks.checkout import HERE, Checkout, search_path

SHARE = 0.1
"""Of a turn over HTTP: a turn in process."""

Process = subprocess.Popen[str]


class Broken(Exception):
    """The process of a checkout ended, or measures another package than that of its checkout."""


@contextmanager
def speeds(table: str, checkout: Checkout, seconds: float) -> Iterator[Mapping[str, Callable[[], float]]]:
    """Calls a second of every row of this table, by the benchmarks of this checkout and the package of that one.

    Raises:
        Broken: the process ended.
    """
    environment = {library.PACKAGE_VARIABLE: checkout.package, "PYTHONPATH": search_path(HERE.root, checkout.source)}
    command = [sys.executable, "-P", "-m", "benchmarks.compare.worker", table, str(checkout.root)]
    with subprocess.Popen(  # noqa: S603 - our own
        command, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            rows = _told(process)
            yield {row: partial(_asked, process, row, SHARE * seconds) for row in rows}
        finally:
            process.kill()


def _asked(process: Process, row: str, seconds: float) -> float:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    try:
        process.stdin.write(json.dumps([row, seconds]) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        raise Broken(f"the process that measures {row} has ended") from None
    return float(_told(process))


def _told(process: Process) -> Any:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = process.stdout.readline()
    if not line:
        raise Broken(f"a process that measures has ended with {process.wait()}")
    return json.loads(line)
