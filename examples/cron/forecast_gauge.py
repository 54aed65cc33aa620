"""Write a model's last forecast as gauges for node_exporter's textfile collector; cron runs it.

It asks `gatescope predict`, which must be on the path. The file is replaced as a whole or not at all. When something
fails, what was there stays, and `gatescope_forecast_written_timestamp_seconds` shows how old it is.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

HELP = {
    "gatescope_forecast": "The last forecast of the model.",
    "gatescope_forecast_for_timestamp_seconds": "Which time the last forecast is for.",
    "gatescope_forecast_written_timestamp_seconds": "When the last forecast was made.",
}


def forecast(model: str, options: Sequence[str]) -> list[dict[str, str]]:
    """The last row of each sequence of what `gatescope predict` writes."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "forecast.csv"
        subprocess.run(["gatescope", "predict", model, *options, "--out", table], check=True)  # noqa: S603, S607
        with table.open(newline="", encoding="utf-8") as file:
            rows = {row.get("id", ""): row for row in csv.DictReader(file)}
    return list(rows.values())


def gauges(model: str, rows: Sequence[Mapping[str, str]], now: float) -> str:
    """The text that Prometheus reads."""
    samples: dict[str, list[str]] = {name: [] for name in HELP}
    for row in rows:
        sequence = {"id": row["id"]} if row.get("id") else {}
        for name, value in row.items():
            if name not in {"id", "time", "step"} and not name.endswith("_observed"):
                labels = _labels({"model": model, "output": name, **sequence})
                samples["gatescope_forecast"].append(f"{labels} {float(value)!r}")
        if row.get("time"):
            labels = _labels({"model": model, **sequence})
            samples["gatescope_forecast_for_timestamp_seconds"].append(f"{labels} {_unix(row['time'])!r}")
    samples["gatescope_forecast_written_timestamp_seconds"].append(f"{_labels({'model': model})} {now!r}")
    return "".join(_family(name, lines) for name, lines in samples.items() if lines)


def replace(file: Path, text: str) -> None:
    """Write a file that is there as a whole at any moment; the collector reads names that end in .prom alone."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _family(name: str, lines: Sequence[str]) -> str:
    return "".join([f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n", *(f"{name}{line}\n" for line in lines)])


def _labels(given: Mapping[str, str]) -> str:
    escaped: Iterator[str] = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for value in given.values()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in zip(given, escaped, strict=True)) + "}"


def _unix(text: str) -> float:
    """Unix seconds; a time without a zone is read as UTC, and a number as what it is."""
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def main() -> int:
    """Run once; exit status 1 when there is no forecast."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("file", type=Path, help="a .prom file in the collector's folder")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of `gatescope predict`: --input history.csv …")
    given = parser.parse_args()
    try:
        rows = forecast(given.model, given.options)
    except subprocess.CalledProcessError:
        return 1  # gatescope has said why
    replace(given.file, gauges(given.model, rows, time.time()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
