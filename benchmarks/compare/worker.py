"""`python -m benchmarks.compare.worker TABLE ROOT`: measures the rows of a table that it is told on its input.

It writes the titles of the rows, and then one number for each `[row, seconds]` that it reads: calls a second.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import encoding, library, trace

TABLES = {"trace": trace.trace_rows, "steps": trace.step_rows, "encoding": encoding.rows}

WARM_UP = 2  # calls at most: what takes longer than a turn needs only one


def main(table: str, root: str) -> None:
    """Answer until the input ends."""
    if not library.folder().is_relative_to(root):
        raise SystemExit(f"{library.folder()} is not the package of {root}")
    library.tune_process()
    rows = TABLES[table]()
    _say(list(rows))
    for line in sys.stdin:
        row, seconds = json.loads(line)
        _say(_speed(rows[row](), seconds))


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _speed(way: Callable[[], object], seconds: float) -> float:
    began = time.perf_counter()
    for _ in range(WARM_UP):
        way()
        if time.perf_counter() - began > seconds:
            break
    took: list[float] = []
    ends = time.perf_counter() + seconds
    while not took or time.perf_counter() < ends:
        began = time.perf_counter()
        way()
        took.append(time.perf_counter() - began)
    return 1 / statistics.median(took)


if __name__ == "__main__":
    main(str(sys.argv[1]), str(Path(sys.argv[2]).resolve()))
