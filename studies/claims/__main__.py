"""`make claims`: everything; or the one part that is named: adding, copy, brackets, longer, cost or page."""

from __future__ import annotations

import os
from typing import Annotated

import torch
import typer
from rich.console import Console

from studies.claims import cost, page, plots, results
from studies.claims.learning import learn
from studies.claims.networks import UNGATED
from studies.claims.setup import LONGER, Setup
from studies.claims.tasks import LONGER_TASKS, TASKS

PARTS = (*TASKS, "longer", "cost", "page")
NICENESS = 19


def main(
    parts: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(PARTS)}; all if none.")] = None,
) -> None:
    """Measure the parts, and write their numbers, plots and tables."""
    os.nice(NICENESS)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    report = Console(stderr=True).print
    for part in parts or PARTS:
        if part in TASKS:
            results.write(learn(TASKS[part], Setup(), report), part)
        elif part == "longer":
            for task in LONGER_TASKS:
                results.write(learn(task, LONGER, report, UNGATED), f"{task.name}-longer")
        elif part == "cost":
            results.write(cost.measure(report), part)
        elif part == "page":
            plots.draw()
            page.write_tables()
        else:
            raise typer.BadParameter(f"there is no part '{part}'; there are {', '.join(PARTS)}")


if __name__ == "__main__":
    typer.run(main)
