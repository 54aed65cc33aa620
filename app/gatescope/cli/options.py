"""Options that several commands have, and the settings that they win over."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

if TYPE_CHECKING:
    from gatescope.server.settings import Settings

Device = Literal["auto", "cpu", "cuda"]
Models = Annotated[Path | None, typer.Option("--models", help="The folder of models.")]
DeviceOption = Annotated[Device | None, typer.Option(help="Where the models compute.")]


class Options:
    """The base of dataclasses whose fields are options; see `with_options`."""


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same command for typer: a parameter that is a class of `Options` stands for an option of each of its fields.

    It is given to the command as an object of that class.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type[Options], list[str]]] = {}
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if not (isinstance(kind, type) and issubclass(kind, Options)):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(kind, include_extras=True)
        own = [each.name for each in fields(kind)]  # type: ignore[arg-type] # they are dataclasses
        groups[parameter.name] = kind, own
        for name in own:
            option = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[name])
            parameters.append(option)

    @wraps(command)
    def called(**given: Any) -> None:
        made = {name: kind(**{each: given.pop(each) for each in own}) for name, (kind, own) in groups.items()}
        command(**given, **made)

    del called.__wrapped__  # whose signature would be looked at
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called


def settings(**given: object) -> Settings:
    """The environment's settings, with what was given on the command line."""
    from gatescope.server.settings import Settings

    return Settings.of_environment(**{name: value for name, value in given.items() if value is not None})
