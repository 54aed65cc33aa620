"""The command itself, to which the other modules here add what it can do."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated, NoReturn

import typer

from gatescope.cli.output import say
from gatescope.errors import AppError

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve trained nn.LSTM models and look inside them.",
)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        sys.stdout.write(f"gatescope {version_of('gatescope')}\n")
        raise typer.Exit


@cli.callback()
def gatescope(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serve trained nn.LSTM models and look inside them."""


def main() -> None:
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
