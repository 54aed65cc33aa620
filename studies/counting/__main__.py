"""The study of docs/findings/counting.md: `python -m studies.counting`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from rich.console import Console

from models import recipe
from studies import page
from studies.counting import figures
from studies.counting.network import Cell, Language, Settings
from studies.counting.study import of_seed
from studies.counting.tables import tables


def main(arguments: list[str] | None = None) -> None:
    """Train, measure, draw and write."""
    options = _options(arguments)
    recipe.prepare()
    report = Console(stderr=True).print
    settings = Settings(options.hidden, options.steps)
    networks: dict[str, dict[str, list[object]]] = {}
    for language in get_args(Language):
        for cell in get_args(Cell):
            found = [of_seed(cell, language, seed, settings) for seed in range(options.seeds)]
            networks.setdefault(language, {})[cell] = list(found)
            report(f"{language}, {cell}: right up to {[each['furthest'] for each in found]}")
    numbers = {"settings": {"hidden": settings.hidden, "steps": settings.steps}, "networks": networks}
    page.write(options.out, "counting", numbers, tables)
    figures.right(numbers, options.out)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.counting", description=__doc__)
    parser.add_argument("--out", type=Path, default=page.FINDINGS, help="the folder of numbers and figures")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=Settings.hidden, help="units of the networks")
    parser.add_argument("--steps", type=int, default=Settings.steps, help="of each training")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
