"""The study of docs/findings/grammar.md: `python -m studies.grammar --data input.txt`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from models import recipe
from models.shakespeare.train import load
from studies import page
from studies.grammar import figures, states
from studies.grammar.reading import Reader
from studies.grammar.study import measured
from studies.grammar.tables import tables


def main(arguments: list[str] | None = None) -> None:
    """Read, measure, draw and write."""
    options = _options(arguments)
    recipe.prepare()
    passages = states.read(options.data, options.passages, options.length)
    numbers = measured(Reader(load(), passages), options.others, Console(stderr=True).print)
    page.write(options.out, "grammar", numbers, tables)
    figures.lesions(numbers["states"], options.out)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.grammar", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help=states.SOURCE)
    parser.add_argument("--out", type=Path, default=page.FINDINGS, help="the folder of numbers and figures")
    parser.add_argument("--passages", type=int, default=40)
    parser.add_argument("--length", type=int, default=500, help="characters of each")
    parser.add_argument("--others", type=int, default=20, help="random units, and groups, beside the chosen ones")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
