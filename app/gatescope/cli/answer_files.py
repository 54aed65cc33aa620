"""Files that hold an answer as arrays, with all that is known of its sequences: .npy, .npz, .nc and .zarr."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gatescope.cli.asking import model_path, need_extra
from gatescope.cli.output import say
from gatescope.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np

    from gatescope.cli.connection import Connection
    from gatescope.records import About, Record
    from gatescope.tables.requests import Body

ARRAY_FORMATS = (".npy", ".npz", ".nc", ".zarr")
REPLY_BYTES = 2**27
"""Signals of one reply, about: a table of more is asked for in parts."""


def check_extra(out: Path) -> None:
    """Refuse a file whose extra is not installed, before anything is computed."""
    if out.suffix == ".nc":
        need_extra("h5netcdf", "xarray")
    if out.suffix == ".zarr":
        need_extra("zarr", "zarr")


def write_arrays(connection: Connection, what: str, body: Body, info: Mapping[str, Any], out: Path) -> None:
    """Ask for a `predict` or a `trace`, and write what came of it, with names, times and what was measured."""
    parts = _answered(connection, what, body, info)
    if out.suffix == ".zarr":
        _write_zarr(parts, out)
    else:
        part = out.with_name(f".{out.name}.part")
        try:
            _WRITERS[out.suffix](parts, info, part)
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    say(f"wrote {out}")


def plot_forecast(connection: Connection, body: Body, info: Mapping[str, Any], file: Path) -> None:
    """Predict and draw what came of it: the first sequences of a table that has many."""
    from gatescope import forecast_plot
    from gatescope.tables.sequences import QUANTITIES

    if (info["output"] or {}).get("kind") not in QUANTITIES:
        raise InvalidInput(f"--plot {file}: predictions are drawn of a regression or of quantiles")
    each, count = len(info["output"]["names"]), 1
    if body.sequences is not None:
        count = len(body.sequences.inputs)
        first = body.sequences.first(max(1, forecast_plot.MOST_PANELS // each))
        body = body._replace(request=body.request | first.arrays(), sequences=first)
    ((reply, about, records),) = _answered(connection, "predict", body, info)
    if any(record.prediction_steps is None for record in records):
        raise InvalidInput(f"--plot {file}: it cannot be told of which steps the predictions are")
    warms_up = any(note["code"] == "warmup" for note in reply.get("notes", ()))
    has_horizon = bool(body.request.get("horizon"))
    panels = forecast_plot.of_records(records, about, info, has_horizon=has_horizon, warms_up=warms_up)
    title = f"{info['name']} (version {reply['model']['version']})"
    figure = forecast_plot.draw(
        panels,
        title if reply["model"].get("verified", True) else f"{title}, not verified",
        warmup_steps=info.get("warmup_steps") or 0,
        x_label="time step" if records[0].timestamps is None else about.time_zone,
        count=count * each,
    )
    figure.savefig(file)
    say(f"wrote {file}")


Part = tuple[dict[str, Any], "About", "list[Record]"]


def _answered(connection: Connection, what: str, body: Body, info: Mapping[str, Any]) -> Iterator[Part]:
    """Each reply and its records."""
    from gatescope.tables.recorded import inputs_of, recorded

    path, notes = f"{model_path(info['name'])}/{what}", dict[str, None]()
    for part in _parts(body, info) if what == "trace" else [body]:
        reply = connection.ask(path, part.labelled)
        has_horizon = bool(part.request.get("horizon"))
        yield reply, *recorded(reply, info, inputs_of(part, info), has_horizon=has_horizon)
        notes |= dict.fromkeys(note["message"] for note in reply.get("notes", ()) if note["code"] != "unverified")
    say(*(f"note: {note}" for note in notes))


def _parts(body: Body, info: Mapping[str, Any]) -> Iterator[Body]:
    """The same, some sequences at a time."""
    if body.sequences is None:
        yield body
        return
    spec = info["lstm"]
    directions = 2 if spec["bidirectional"] else 1
    width = len(info["signals"]) * spec["num_layers"] * directions * spec["hidden_size"]
    for sequences in body.sequences.parts(max(1, REPLY_BYTES // (4 * width))):
        yield body._replace(request=body.request | sequences.arrays(), sequences=sequences)


def _write_zarr(parts: Iterator[Part], out: Path) -> None:
    from gatescope.zarr_store import Writer

    store: Writer | None = None
    try:
        for _, about, records in parts:
            store = store or Writer(out, about)
            for record in records:
                store.append(record)
        if store is not None:
            store.close()
    except BaseException:
        if store is not None:
            shutil.rmtree(out, ignore_errors=True)
        raise


def _write_netcdf(parts: Iterator[Part], info: Mapping[str, Any], out: Path) -> None:
    import numpy as np

    from gatescope import dataset
    from gatescope.tables.recorded import signals_in

    replies, about, records = _whole(parts)
    traced = {name: _joined([reply[name] for reply in replies]) for name in signals_in(replies[0])}
    if traced:
        steps = list(range(max(each.steps for each in records)))
        described = replies[0] | {"residual": max(reply["residual"] for reply in replies), "time_steps": steps}
        made = dataset.of(described, np.array([each.steps for each in records]), traced, info)
        made = dataset.with_records(made, records, about)
    else:
        made = dataset.of_records(records, about)
    made.to_netcdf(out, engine="h5netcdf")


def _write_npz(parts: Iterator[Part], _: Mapping[str, Any], out: Path) -> None:
    import numpy as np

    from gatescope.records import padded

    _replies, about, records = _whole(parts)
    arrays: dict[str, Any] = {name: values for name, (_, values) in padded(records, about).items()}
    with out.open("wb") as file:
        np.savez(file, sequence_lengths=np.array([each.steps for each in records]), **arrays)


def _write_npy(parts: Iterator[Part], info: Mapping[str, Any], out: Path) -> None:
    import numpy as np

    from gatescope.records import padded

    _replies, about, records = _whole(parts)
    arrays = padded(records, about)
    if "prediction" not in arrays:
        raise InvalidInput(f"--out: model '{info['name']}' predicts nothing")
    with out.open("wb") as file:
        np.save(file, arrays["prediction"][1])


_WRITERS = {".nc": _write_netcdf, ".npz": _write_npz, ".npy": _write_npy}


def _whole(parts: Iterator[Part]) -> tuple[list[dict[str, Any]], About, list[Record]]:
    """All replies, what they have in common, and all records."""
    replies, abouts, records = zip(*parts, strict=True)
    return list(replies), abouts[0], [record for part in records for record in part]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One batch of several, (batch, layer, direction, time, unit), padded with NaN."""
    import numpy as np

    longest = max(part.shape[3] for part in parts)
    widths = [[(0, 0), (0, 0), (0, 0), (0, longest - part.shape[3]), (0, 0)] for part in parts]
    return np.concatenate(
        [np.pad(part, width, constant_values=np.nan) for part, width in zip(parts, widths, strict=True)]
    )
