"""`Record`: one sequence with all that was asked and all that came of it, as files of answers have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gatescope.signal_info import SignalInfo, signals_of


@dataclass(frozen=True, eq=False)
class Record:
    """One sequence. Its steps are those of the request and, behind them, those of a horizon."""

    steps: int
    signals: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Each (layer, direction, step, unit)."""
    inputs: np.ndarray | None = None
    """(step, feature), in the model's order: raw values; of fed-back steps what was fed back."""
    tokens: Sequence[str] | None = None
    """What a model of tokens read."""
    observed: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Output -> what was measured, (step,); NaN where nothing was."""
    prediction: np.ndarray | None = None
    """(predicted, value): a row for each prediction."""
    prediction_steps: np.ndarray | None = None
    """(predicted,): of which step each is. That of the next step behind the last one is of step `steps`."""
    timestamps: np.ndarray | None = None
    """(step,): `moments`."""
    prediction_timestamps: np.ndarray | None = None
    """(predicted,): when each prediction is for."""
    id: str | None = None


@dataclass(frozen=True)
class About:
    """What all records of one file have in common."""

    model: str | None = None
    version: str | None = None
    weights: str | None = None
    """A hash of the model's manifest, vocabulary and weights."""
    module: str | None = None
    """The recurrent module that was traced."""
    layers: tuple[int, ...] = ()
    directions: tuple[str, ...] = ()
    units: tuple[int, ...] = ()
    signals: Mapping[str, SignalInfo] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    """What the values of a prediction are called."""
    output_units: tuple[str, ...] = ()
    """The physical units of the model's outputs, where its manifest has them."""
    targets: tuple[str, ...] = ()
    """Those outputs that were measured."""
    predicts: str | None = None
    """`same_step` or `next_step`."""
    time_zone: str | None = None
    """UTC, where the times had a zone."""

    @classmethod
    def of(
        cls, reply: Mapping[str, Any], info: Mapping[str, Any], outputs: Sequence[str], targets: Sequence[str] = ()
    ) -> About:
        """What a predict or trace reply, and ModelInfo, say.

        Args:
            reply: its signals are not looked at.
            info: ModelInfo of the model.
            outputs: what the values of a prediction are called.
            targets: those outputs that were measured.
        """
        model, head = reply.get("model") or {}, ((info.get("output") or {}).get("heads") or [{}])[0]
        return cls(
            model.get("name"),
            model.get("version"),
            info.get("fingerprint"),
            reply.get("module"),
            tuple(reply.get("layers", ())),
            tuple(reply.get("directions", ())),
            tuple(reply.get("units", ())),
            signals_of(info, reply.get("module")),
            tuple((info.get("input") or {}).get("feature_names") or ()),
            tuple(outputs),
            tuple(head.get("units") or ()),
            tuple(targets),
            head.get("predicts"),
            "UTC" if _is_zoned(reply.get("timestamps")) else None,
        )

    def attributes(self) -> dict[str, Any]:
        """What a file says of itself; what is not known is left out."""
        told = {
            "model": self.model,
            "version": self.version,
            "weights": self.weights,
            "module": self.module,
            "predicts": self.predicts,
            "time_zone": self.time_zone,
            "output_units": list(self.output_units) or None,
        }
        return {name: value for name, value in told.items() if value is not None}


def _is_zoned(stamps: Sequence[Sequence[str | float]] | None) -> bool:
    first = stamps[0][0] if stamps and stamps[0] else None
    return isinstance(first, str) and datetime.fromisoformat(first).tzinfo is not None


def moments(stamps: Sequence[str | float]) -> np.ndarray:
    """Times as numbers of NumPy: datetime64[us], those with a zone in UTC; or float64 of times that are numbers."""
    if not stamps or not isinstance(stamps[0], str):
        return np.array(stamps, dtype=np.float64)
    read = [datetime.fromisoformat(str(stamp)) for stamp in stamps]
    if read[0].tzinfo is not None:
        read = [moment.astimezone(UTC).replace(tzinfo=None) for moment in read]
    return np.array(read, dtype="datetime64[us]")


def padded(records: Sequence[Record], about: About) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """What records hold but for their signals, by name: axes and values, padded with NaN, NaT, '' or −1.

    `prediction`, `prediction_steps` and `prediction_timestamps` have an axis of their own, as a sequence has as many
    predictions as the model makes of it.
    """
    made: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    texts = [None if each.tokens is None else np.array(each.tokens, dtype=object) for each in records]
    observed = [np.stack([each.observed[name] for name in about.targets], axis=-1) for each in records if each.observed]
    for name, axes, rows in (
        ("inputs", ("time", "feature"), [each.inputs for each in records]),
        ("tokens", ("time",), texts),
        ("observed", ("time", "target"), observed),
        ("timestamps", ("time",), [each.timestamps for each in records]),
        ("prediction", ("predicted", "output"), [each.prediction for each in records]),
        ("prediction_steps", ("predicted",), [each.prediction_steps for each in records]),
        ("prediction_timestamps", ("predicted",), [each.prediction_timestamps for each in records]),
    ):
        known = [row for row in rows if row is not None]
        if len(known) == len(records):
            made[name] = ("batch", *axes), _padded(known)
    if all(each.id is not None for each in records):
        made["ids"] = ("batch",), np.array([each.id for each in records], dtype=np.str_)
    for axis, names in (("feature", about.features), ("output", about.outputs), ("target", about.targets)):
        used = {dict(zip(axes, values.shape, strict=True)).get(axis) for axes, values in made.values()}
        if names and len(names) in used:
            made[axis] = (axis,), np.array(names, dtype=np.str_)
    return made


def _padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """(batch, longest, …)."""
    kind = rows[0].dtype.kind
    fill: Any = {"M": np.datetime64("NaT", "us"), "i": -1, "O": ""}.get(kind, np.nan)
    made = np.full((len(rows), max(map(len, rows)), *rows[0].shape[1:]), fill, dtype=rows[0].dtype)
    for row, values in zip(made, rows, strict=True):
        row[: len(values)] = values
    return made.astype(np.str_) if kind == "O" else made
