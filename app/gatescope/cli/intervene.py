"""`gatescope intervene`: what a model says with edited signals, beside what it says as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gatescope.cli.asking import (
    InputOptions,
    ModelName,
    TableOptions,
    Where,
    check_folder,
    model_path,
    warn_unverified,
)
from gatescope.cli.command import cli
from gatescope.cli.options import Options, with_options
from gatescope.cli.output import say, show
from gatescope.errors import InvalidInput

OUT_FORMATS = {
    ".json": "application/json",
    ".safetensors": "application/vnd.safetensors",
    ".npz": "application/x-npz",
}
"""The reply as it is."""


@dataclass(frozen=True)
class EditOptions(Options):
    """What becomes of which signals."""

    to: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SIGNAL=NUMBER", help="A value becomes this number; may be repeated."),
    ] = None
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SIGNAL=NUMBER", help="It is multiplied by this; may be repeated.")
    ] = None
    shift: Annotated[
        list[str] | None, typer.Option(metavar="SIGNAL=NUMBER", help="This is added to it; may be repeated.")
    ] = None
    mean: Annotated[
        list[str] | None, typer.Option(metavar="SIGNAL", help="It becomes its mean over its sequence; may be repeated.")
    ] = None
    freeze: Annotated[
        list[str] | None, typer.Option(metavar="SIGNAL", help="It stays what it was just before; may be repeated.")
    ] = None

    def edits(self) -> list[dict[str, Any]]:
        """One of each signal, as a request has them.

        Raises:
            InvalidInput: none is stated, one is no number, or there are several of a signal.
        """
        numbers = (("set", self.to), ("scale", self.scale), ("shift", self.shift))
        found = [_edit(name, each) for name, stated in numbers for each in stated or ()]
        wholes = (("mean", self.mean), ("freeze", self.freeze))
        found += [{"signal": each, name: True} for name, stated in wholes for each in stated or ()]
        if not found:
            raise InvalidInput("say what is edited: --set, --scale, --shift, --mean or --freeze")
        signals = [each["signal"] for each in found]
        if again := next((each for each in signals if signals.count(each) > 1), None):
            raise InvalidInput(f"there are several edits of {again}: their order is only told over HTTP or in Python")
        return found


@dataclass(frozen=True)
class PlaceOptions(Options):
    """Where signals are edited."""

    module: Annotated[str | None, typer.Option(help="Which recurrent module; the first by default.")] = None
    layer: Annotated[int | None, typer.Option(min=0, help="Of this layer; 0 by default.")] = None
    direction: Annotated[Literal["forward", "reverse"] | None, typer.Option(help="Which of its directions.")] = None
    unit: Annotated[list[int] | None, typer.Option(help="Only this unit; may be repeated.")] = None
    start: Annotated[int | None, typer.Option(help="From this time step on; a negative one from the end.")] = None
    end: Annotated[int | None, typer.Option("--stop", help="Up to the time step before this one.")] = None
    scope: Annotated[
        Literal["both", "recurrent", "outgoing"] | None,
        typer.Option(help="Who sees an edited hidden state: the layer's next step, whoever is above, or both."),
    ] = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of an edit that are stated."""
        span = {name: value for name, value in (("start", self.start), ("stop", self.end)) if value is not None}
        given = {"layer": self.layer, "direction": self.direction, "units": self.unit, "scope": self.scope}
        return {name: value for name, value in given.items() if value is not None} | ({"time": span} if span else {})


@cli.command()
@with_options
def intervene(  # noqa: PLR0913 - the options of a command
    model: ModelName,
    *,
    inputs: InputOptions,
    edits: EditOptions,
    place: PlaceOptions,
    signal: Annotated[
        list[str] | None, typer.Option(help="Answer this signal of both runs, too; may be repeated.")
    ] = None,
    tables: TableOptions,
    out: Annotated[Path | None, typer.Option(help="Write the answer: .json, .safetensors or .npz.")] = None,
    where: Where,
) -> None:
    """Run a model as it is, and with edited signals: the changes as a table on a terminal, JSON into a pipe."""
    from gatescope.cli import terminal

    _check_out(out)
    asked: dict[str, Any] = {"interventions": [each | place.fields for each in edits.edits()]}
    asked |= {"module": place.module} if place.module is not None else {}
    asked |= {"signals": signal} if signal else {}
    reading = tables.reading()
    with where.connected(model) as (connection, info):
        body, path = inputs.read(info, reading), f"{model_path(model)}/intervene"
        body = body._replace(request=body.request | asked)
        warn_unverified(info)
        media_type = OUT_FORMATS[".json" if out is None else out.suffix]
        reply = connection.post(path, body.labelled, media_type)
    if out is not None:
        out.write_bytes(reply)
        say(f"wrote {out}")
        return
    show(reply, lambda width: terminal.intervention(json.loads(reply), info, width))


def _edit(name: str, stated: str) -> dict[str, Any]:
    signal, sign, number = stated.partition("=")
    try:
        return {"signal": signal, name: float(number if sign else "")}
    except ValueError:
        raise InvalidInput(f"--{name} {stated}: write SIGNAL=NUMBER, such as forget_gate=0.5") from None


def _check_out(out: Path | None) -> None:
    if out is None:
        return
    if out.suffix not in OUT_FORMATS:
        raise InvalidInput(f"--out {out}: an answer is written as {', '.join(OUT_FORMATS)}, not as '{out.suffix}'")
    check_folder("--out", out)
