"""`Reader`: the records of a folder, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gatescope.errors import InvalidInput
from gatescope.records import Record
from gatescope.zarr_store.layout import DATES, OFFSETS, PREDICTED, SCHEMA_VERSION, STEP, need


class Reader:
    """The records of a folder, read when they are asked for.

    Raises:
        InvalidInput: it is no finished folder of records, or one of a later kind.
        ModuleNotFoundError: zarr is not installed.
    """

    def __init__(self, path: Path) -> None:
        need()
        import zarr  # noqa: PLC0415

        try:
            self._group: Any = zarr.open_group(str(path), mode="r", zarr_format=3)
        except FileNotFoundError as error:
            raise InvalidInput(f"{path} is no finished folder of records") from error
        self.attributes: dict[str, Any] = self._group.attrs.asdict()
        version = self.attributes.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InvalidInput(f"{path} has the schema version {version}; this version reads {SCHEMA_VERSION}")

    def __len__(self) -> int:
        return int(self.attributes["sequences"])

    def __iter__(self) -> Iterator[Record]:
        return map(self.record, range(len(self)))

    @cached_property
    def ids(self) -> list[str] | None:
        """Of the sequences."""
        return self.names("ids") or None

    @cached_property
    def signals(self) -> Mapping[str, Any]:
        """Each a `zarr.Array` (step, layer, direction, unit) over all sequences."""
        return dict(self._group["signals"].arrays()) if "signals" in self._group else {}

    @cached_property
    def offsets(self) -> np.ndarray:
        """Where each sequence begins, and behind the last one its end."""
        return self._offsets(STEP)

    def array(self, name: str) -> Any:
        """A `zarr.Array` of the layout, such as `inputs`; None where it is not known."""
        return self._arrays.get(name)

    def names(self, axis: str) -> list[str]:
        """Of the entries of an axis such as `feature`; none where they are not known."""
        return list(map(str, self._arrays[axis][:])) if axis in self._arrays else []

    def record(self, index: int) -> Record:
        """One sequence; only its own blocks are read."""
        steps = slice(*self.offsets[index : index + 2].tolist())
        observed = self._part("observed", steps)
        tokens = self._part("tokens", steps)
        of_predicted = slice(0, 0)
        if "prediction" in self._arrays:
            of_predicted = slice(*self._predicted_offsets[index : index + 2].tolist())
        return Record(
            steps.stop - steps.start,
            {name: np.moveaxis(array[steps], 0, 2) for name, array in self.signals.items()},
            self._part("inputs", steps),
            None if tokens is None else list(map(str, tokens)),
            {} if observed is None else dict(zip(self._targets, observed.T, strict=True)),
            self._part("prediction", of_predicted),
            self._part("prediction_steps", of_predicted),
            self._part("timestamps", steps),
            self._part("prediction_timestamps", of_predicted),
            None if self.ids is None else self.ids[index],
        )

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        """All but those of signals: to open one takes as long as to read a block of it."""
        return dict(self._group.arrays())

    @cached_property
    def _targets(self) -> list[str]:
        return self.names("target")

    @cached_property
    def _predicted_offsets(self) -> np.ndarray:
        return self._offsets(PREDICTED)

    def _offsets(self, axis: str) -> np.ndarray:
        return np.asarray(self._arrays[OFFSETS[axis]][:])

    def _part(self, name: str, rows: slice) -> np.ndarray | None:
        if (array := self._arrays.get(name)) is None:
            return None
        values = np.asarray(array[rows])
        return values.astype("datetime64[us]") if array.attrs.get("units") == DATES["units"] else values
