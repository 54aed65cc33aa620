"""Every subcommand, and the function that runs the one that was given."""

from __future__ import annotations

import sys
from typing import NoReturn

from gatescope.cli import analyse, ask, backtest, checkpoint, intervene, list_models, migrate, report, serve  # noqa: F401 - each adds its subcommands to `cli`
from gatescope.cli.command import cli
from gatescope.cli.output import say
from gatescope.errors import AppError


def run() -> None:
    """Run the command; an error that we foresaw is one line and exit status 1."""
    try:
        cli()
    except AppError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> NoReturn:
    say(f"gatescope: {message}")
    sys.exit(1)
