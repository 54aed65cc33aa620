"""`make bench`: every table; or the command that is named first."""

from __future__ import annotations

import sys
from importlib import import_module

import typer

COMMANDS = ("compare", "device", "hostile", "overload")
"""Each a module with a `main`, imported when it is asked for: a machine may lack what the others need."""


def main() -> None:
    """Run the command that is named, or print the tables."""
    command = sys.argv.pop(1) if sys.argv[1:2] and sys.argv[1] in COMMANDS else "tables"
    typer.run(import_module(f"benchmarks.{command}").main)


if __name__ == "__main__":
    main()
