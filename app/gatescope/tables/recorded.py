"""`recorded`: a reply and what was asked as records, for files that hold all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gatescope.records import About, Record, moments
from gatescope.tables.answers import rows_of
from gatescope.tables.requests import Body
from gatescope.tables.sequences import Wanted

_SIGNAL_AXES = 5  # batch, layer, direction, time, unit
_PER_STEP = 2  # axes of one sequence's values: (step, value)


def recorded(
    reply: Mapping[str, Any],
    info: Mapping[str, Any],
    inputs: Sequence[np.ndarray] | None = None,
    *,
    has_horizon: bool = False,
) -> tuple[About, list[Record]]:
    """The records of a predict or trace reply, and what they have in common.

    Args:
        reply: with arrays, as the client reads it; with the times, ids and measured values of its sequences, if it was
            asked with them.
        info: the model's ModelInfo.
        inputs: `inputs_of` what was asked.
        has_horizon: whether the predictions are of the last steps, which were asked for as a horizon.
    """
    lengths = [int(length) for length in reply["sequence_lengths"]]
    signals = signals_in(reply)
    predictions = _predictions(reply.get("prediction", {}).get("values"), len(lengths))
    reader = _Reader(reply, info, signals, has_horizon=has_horizon)
    records = [
        reader.record(row, steps, predictions[row], None if inputs is None else inputs[row])
        for row, steps in enumerate(lengths)
    ]
    return About.of(reply, info, _outputs(info, predictions), tuple(reply.get("observed", ()))), records


def signals_in(reply: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The signals of a trace reply with arrays."""
    return {name: each for name, each in reply.items() if isinstance(each, np.ndarray) and each.ndim == _SIGNAL_AXES}


def inputs_of(body: Body, info: Mapping[str, Any]) -> list[np.ndarray] | None:
    """What each sequence of a request reads, (step, feature), the known features of further steps behind it.

    The features are the model's; one that was not sent, as it follows from the time, is NaN.

    None of a model of tokens, and of a request in another layout than [batch][time][feature].
    """
    names = (info.get("input") or {}).get("feature_names")
    if names is None:
        return None
    if body.sequences is not None:
        further: Iterable[np.ndarray] = body.sequences.future_inputs or [row[:0] for row in body.sequences.inputs]
        whole = [np.concatenate(parts) for parts in zip(body.sequences.inputs, further, strict=True)]
        return [_in_order(row, body.sequences.columns, names) for row in whole]
    request = body.request
    if "inputs" not in request or request.get("layout", "batch_time_feature") != "batch_time_feature":
        return None
    rows, ahead = _rows(request["inputs"]), _rows(request.get("future_inputs"))
    lengths = request.get("sequence_lengths")
    rows = rows if lengths is None else [row[:length] for row, length in zip(rows, lengths, strict=True)]
    whole = [np.concatenate(parts) for parts in zip(rows, ahead, strict=True)] if ahead else rows
    columns = request.get("columns")
    if columns is None:
        return whole if all(row.shape[1] == len(names) for row in whole) else None
    return [_in_order(row, columns, names) for row in whole]


def _in_order(values: np.ndarray, columns: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """(step, column) as (step, name); NaN where a name is no column."""
    made = np.full((len(values), len(names)), np.nan)
    for index, name in enumerate(names):
        if name in columns:
            made[:, index] = values[:, list(columns).index(name)]
    return made


def _rows(values: Any) -> list[np.ndarray]:
    """Each sequence's (time, feature); null becomes NaN."""
    if values is None or not len(values):
        return []
    is_lone = np.ndim(values[0][0]) == 0
    return [np.asarray(row, dtype=np.float64) for row in ([values] if is_lone else values)]


def _predictions(values: Any, count: int) -> list[np.ndarray | None]:
    """Of each sequence, (step, value) or (value,), without padding."""
    if values is None:
        return [None] * count
    is_per_step = [np.ndim(row) == _PER_STEP for row in values]
    found = [rows.astype(np.float32) for rows in rows_of(values)]
    return [rows if per_step else rows[0] for rows, per_step in zip(found, is_per_step, strict=True)]


def _outputs(info: Mapping[str, Any], predictions: Sequence[np.ndarray | None]) -> tuple[str, ...]:
    """What the values are called: the names of quantities, or the labels that they are scores of."""
    known = next((each for each in predictions if each is not None), None)
    if known is None or info.get("output") is None:
        return ()
    output = info["output"]
    named = Wanted.of(info).value_names if output.get("names") and info["input"]["feature_names"] else None
    names = named or output.get("names") or output.get("labels") or ()
    return tuple(names) if len(names) == known.shape[-1] else ()


class _Reader:
    def __init__(
        self,
        reply: Mapping[str, Any],
        info: Mapping[str, Any],
        signals: Mapping[str, np.ndarray],
        *,
        has_horizon: bool,
    ) -> None:
        self._reply, self._signals, self._has_horizon = reply, signals, has_horizon
        self._features = (info.get("input") or {}).get("feature_names") or ()
        output = info.get("output") or {}
        self._outputs, self._shift = output.get("names") or (), int(output.get("predicts") == "next_step")

    def record(self, row: int, steps: int, values: np.ndarray | None, inputs: np.ndarray | None) -> Record:
        """One sequence, its predictions (step, value) or (value,) and its inputs."""
        places = None if values is None else self._places(values, steps)
        stamps, tokens = _of_row(self._reply, "timestamps", row), _of_row(self._reply, "tokens", row)
        said = _of_row(self._reply.get("prediction", {}), "timestamps", row)
        ahead = None if said is None else moments(said if isinstance(said, list) else [said])
        return Record(
            steps,
            {name: each[row, ..., :steps, :] for name, each in self._signals.items()},
            None if inputs is None else self._read(inputs, steps, values),
            tokens if tokens is not None and len(tokens) == steps else None,
            {
                name: _behind(np.array(rows[row], dtype=np.float64), steps)
                for name, rows in self._reply.get("observed", {}).items()
            },
            None if values is None else np.atleast_2d(values),
            places,
            moments(stamps) if stamps is not None and len(stamps) == steps else None,
            ahead if places is not None and ahead is not None and len(ahead) == len(places) else None,
            _of_row(self._reply, "ids", row),
        )

    def _places(self, values: np.ndarray, steps: int) -> np.ndarray | None:
        """Of which step each prediction is; None where it cannot be told, as the module has steps of its own."""
        count = len(np.atleast_2d(values))
        if self._has_horizon:
            return np.arange(steps - count, steps)
        is_known = values.ndim < _PER_STEP or count == steps
        return np.arange(steps - count, steps) + self._shift if is_known else None

    def _read(self, inputs: np.ndarray, steps: int, values: np.ndarray | None) -> np.ndarray | None:
        """The inputs with what was fed back; None where they are not of these steps."""
        if self._has_horizon and values is not None:
            begin = steps - len(values)
            inputs = np.concatenate((inputs, np.full((max(0, steps - len(inputs)), inputs.shape[1]), np.nan)))
            for output, name in enumerate(self._outputs):
                if name in self._features:
                    column = inputs[begin:, self._features.index(name)]  # a view
                    column[:] = np.where(np.isnan(column), values[:, output], column)
        return inputs if len(inputs) == steps else None


def _of_row(fields: Mapping[str, Any], name: str, row: int) -> Any:
    return fields[name][row] if fields.get(name) is not None else None


def _behind(values: np.ndarray, steps: int) -> np.ndarray:
    """The values, and NaN for the steps behind them."""
    return np.concatenate((values, np.full(max(0, steps - len(values)), np.nan)))[:steps]
