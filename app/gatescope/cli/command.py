"""The command itself, to which the other modules here add what it can do."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

cli = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Serve trained nn.LSTM models and look inside them.",
)


def _tell_version(asked: bool) -> None:  # noqa: FBT001 - as typer calls it
    if asked:
        from importlib.metadata import version

        sys.stdout.write(f"gatescope {version('gatescope')}\n")
        raise typer.Exit


@cli.callback()
def gatescope(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Serve trained nn.LSTM models and look inside them."""
