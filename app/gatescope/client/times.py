"""Times as requests have them: ISO 8601, from NumPy's datetimes."""

from __future__ import annotations

import numpy as np

_UNITS = ("D", "s", "ms", "us", "ns")


def iso(wall: np.ndarray, utc: np.ndarray | None = None) -> list[str]:
    """Times as ISO 8601, with no more digits than they need.

    Args:
        wall: (time,) datetime64 as clocks there show it.
        utc: the same moments in UTC, of times that have a zone; their distance is written behind each.
    """
    units = _UNITS if utc is None else _UNITS[1:]
    unit = next((unit for unit in units if (wall.astype(f"M8[{unit}]") == wall).all()), "ns")
    written: list[str] = np.datetime_as_string(wall.astype(f"M8[{unit}]")).tolist()
    if utc is None:
        return written
    seconds = (wall.astype("M8[s]") - utc.astype("M8[s]")).astype(int).tolist()
    return [text + _offset(second) for text, second in zip(written, seconds, strict=True)]


def _offset(seconds: int) -> str:
    sign, (minutes, rest) = "-" if seconds < 0 else "+", divmod(abs(seconds), 60)
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}" + (f":{rest:02}" if rest else "")
