"""Options that several commands have, and the settings that they win over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from gatescope.server.settings import Settings

Device = Literal["auto", "cpu", "cuda"]
Models = Annotated[Path | None, typer.Option("--models", help="The folder of models.")]
DeviceOption = Annotated[Device | None, typer.Option(help="Where the models compute.")]


def settings(**given: object) -> Settings:
    """The environment's settings, with what was given on the command line."""
    from gatescope.server.settings import Settings

    return Settings.of_environment(**{name: value for name, value in given.items() if value is not None})
