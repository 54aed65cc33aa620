"""The Durance at Embrun: daily weather, discharge and the satellite's snow cover."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SOURCE = (
    "the Durance of the R package airGR 1.7.6 (data X0310010, GPL-2), as a CSV with the columns date, "
    "precipitation_mm, temperature_c, evapotranspiration_mm, discharge_mm, snow_cover_1 … snow_cover_5"
)
WEATHER = ("precipitation_mm", "temperature_c", "evapotranspiration_mm")
BANDS = tuple(f"snow_cover_{band}" for band in range(1, 6))
TRAINED = (np.datetime64("1999-10-01"), np.datetime64("2005-10-01"))
"""The days whose discharge is trained on; those before warm up, those after are held out."""


@dataclass(frozen=True)
class Basin:
    """One catchment, a row a day."""

    dates: npt.NDArray[np.datetime64]
    weather: Floats  # (day, 3): mm, °C, mm
    discharge: Floats  # (day,) mm, NaN where it was not measured
    snow: Floats  # (day,) covered share of the catchment, NaN where clouds hid one of its five bands

    @property
    def trained(self) -> Flags:
        """The days of the training years."""
        return (self.dates >= TRAINED[0]) & (self.dates < TRAINED[1])

    @property
    def held_out(self) -> Flags:
        """The days after the training years."""
        return self.dates >= TRAINED[1]

    @property
    def day_of_year(self) -> npt.NDArray[np.int64]:
        """0 to 365."""
        return np.asarray((self.dates - self.dates.astype("datetime64[Y]")).astype(np.int64))

    @property
    def scaled(self) -> Floats:
        """The weather in deviations of the training years, (day, 3)."""
        known = self.weather[self.trained]
        return np.asarray((self.weather - known.mean(axis=0)) / known.std(axis=0))

    def days(self, first: str, last: str) -> Flags:
        """The days from one date to another, both included."""
        return (self.dates >= np.datetime64(first)) & (self.dates <= np.datetime64(last))


def read(path: Path) -> Basin:
    """Read the table; ends the process with one line if it is not there."""
    if not path.is_file():
        raise SystemExit(f"{path} is missing: the study reads {SOURCE}")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    dates = np.array([row["date"] for row in rows], dtype="datetime64[D]")
    snow = _columns(rows, BANDS).mean(axis=1)
    return Basin(dates, _columns(rows, WEATHER), _columns(rows, ("discharge_mm",))[:, 0], snow)


def _columns(rows: list[dict[str, str]], names: tuple[str, ...]) -> Floats:
    return np.array([[float(row[name] or "nan") for name in names] for row in rows])
