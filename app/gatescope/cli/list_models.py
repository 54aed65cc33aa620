"""`gatescope list`: the models of a folder or of a running server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatescope.cli import options
from gatescope.cli.asking import Key, Url
from gatescope.cli.command import cli
from gatescope.cli.options import Models
from gatescope.cli.output import show

if TYPE_CHECKING:
    from rich.console import RenderableType


@cli.command("list")
def list_models(
    *,
    url: Url = None,
    key: Key = None,
    models: Models = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON also on a terminal.")] = False,
) -> None:
    """Show the models, their state, task and whether their predictions are verified."""
    from gatescope.cli.connection import Connection
    from gatescope.server import logs

    settings = None
    if url is None:
        logs.configure("console")
        logs.quiet()
        settings = options.settings(models_dir=models)
    with Connection(url, settings, key) as connection:
        found = connection.get("/v1/models")
    show(json.dumps(found, ensure_ascii=False).encode(), lambda _: _table(found["models"]), as_json=as_json)


def _table(models: list[Mapping[str, Any]]) -> RenderableType:
    from rich.table import Column, Table
    from rich.text import Text

    names = ("model", "version", "state", "task", "verified", "description")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for model in models:
        row = (model["name"], model["version"] or "", model["state"], _task(model), _verified(model), _said(model))
        table.add_row(*map(Text, row))
    return table


def _task(model: Mapping[str, Any]) -> str:
    return model["task"] or ("recurrent layers alone" if model["state"] == "ready" else "")


def _verified(model: Mapping[str, Any]) -> str:
    if model["state"] != "ready" or not model["task"]:
        return ""
    found = model.get("verified")
    if not found:
        return "no"
    return f"to {found['max_error']:.1g}" if found["by"] == "sample" else f"by its {found['by']}"


def _said(model: Mapping[str, Any]) -> str:
    return model["reason"] or model["description"] or ""
