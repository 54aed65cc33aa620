"""What lies in a folder of records: names, axes, and how arrays are made."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.records import Record

SCHEMA_VERSION = 1

STEP, PREDICTED, SEQUENCE, BOUNDARY = "step", "predicted", "sequence", "boundary"
OFFSETS = {STEP: "offsets", PREDICTED: "prediction_offsets"}
TIMES = ("timestamps", "prediction_timestamps")
DATES = {"units": "microseconds since 1970-01-01", "calendar": "proleptic_gregorian"}

_CONFIG: Any = {"write_empty_chunks": True}
"""Each block is written without a look whether it holds gaps alone."""


def need() -> None:
    """Before an hour of computing, not after it.

    Raises:
        ModuleNotFoundError: zarr is not installed.
    """
    if find_spec("zarr") is None:
        raise ModuleNotFoundError("a folder of Zarr needs zarr: pip install 'gatescope[zarr]'", name="zarr")


def arrays_of(record: Record) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Name -> axes and values of what a record has."""
    made: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    widest = max((values.shape[-1] for values in record.signals.values()), default=0)
    for name, values in record.signals.items():
        unit = "unit" if values.shape[-1] == widest else "projected_unit"
        made[f"signals/{name}"] = (STEP, "layer", "direction", unit), np.moveaxis(values, 2, 0)
    given: dict[str, tuple[tuple[str, ...], Any]] = {
        "inputs": ((STEP, "feature"), record.inputs),
        "tokens": ((STEP,), None if record.tokens is None else np.array(record.tokens, dtype=object)),
        "observed": ((STEP, "target"), np.stack(list(record.observed.values()), axis=1) if record.observed else None),
        "timestamps": ((STEP,), record.timestamps),
        "prediction": ((PREDICTED, "output"), record.prediction),
        "prediction_steps": ((PREDICTED,), record.prediction_steps),
        "prediction_timestamps": ((PREDICTED,), record.prediction_timestamps),
        "ids": ((SEQUENCE,), None if record.id is None else np.array([record.id], dtype=object)),
    }
    return made | {name: (axes, values) for name, (axes, values) in given.items() if values is not None}


def created(path: Path, axes: tuple[str, ...], like: np.ndarray, block: int, attributes: Mapping[str, Any]) -> Any:
    """An array without rows, for such as `like` has."""
    import zarr  # noqa: PLC0415
    from zarr.codecs import BloscCodec  # noqa: PLC0415

    is_text, is_time = like.dtype.kind in "OUT", like.dtype.kind == "M"
    dtype: Any = "str" if is_text else np.dtype("int64") if is_time else like.dtype
    return zarr.create_array(
        store=str(path),
        shape=(0, *like.shape[1:]),
        chunks=(block, *like.shape[1:]),
        dtype=dtype,
        compressors="auto" if is_text else [BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle")],
        fill_value="" if is_text else np.nan if like.dtype.kind == "f" else 0,
        dimension_names=axes,
        attributes=dict(attributes),
        zarr_format=3,
        config=_CONFIG,
    )


def opened(path: Path) -> Any:
    """An array that is there, to be written."""
    import zarr  # noqa: PLC0415

    return zarr.open_array(str(path), mode="r+", zarr_format=3).with_config(_CONFIG)
