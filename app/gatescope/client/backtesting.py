"""`backtest`: how well a model would have predicted the past, beside naive forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, Unpack

import httpx
import numpy as np

from gatescope.client.body import encode
from gatescope.client.call import Call, of_model
from gatescope.client.fields import Array, Planned
from gatescope.client.many import Calls, Part
from gatescope.client.reading import tables_of
from gatescope.client.reply import json
from gatescope.client.tables import Tables

_PLAN = ("target", "horizon", "window", "stride", "season", "start")
_FORECAST = "forecast"


@dataclass(frozen=True, eq=False)
class Backtest:
    """What came of it."""

    model: str
    version: str
    target: str

    origins: int
    """From how many points was predicted."""

    pairs: int
    """Predictions that have a measured value and every baseline: all measures are of these."""

    measures: Mapping[str, Mapping[str, float | None]]
    """`mae`, `rmse`, … of `model`, `naive`, `seasonal_naive` and `mean`; None where one is not defined."""

    by_step: Sequence[float | None]
    """The model's mean absolute error at each step of the horizon."""

    predictions: Sequence[Mapping[str, Any]] = field(repr=False)
    """Each prediction, as `docs/api.md` describes it."""

    point: str | None = None
    """What of a prediction is `predicted`: the `prediction`, or the `median` of quantiles; None where there is none."""

    quantiles: Sequence[float] | None = None
    """Those of a quantile task."""

    verified: bool = True
    """False of a model whose predictions were never compared with those of the training code."""

    notes: Sequence[Mapping[str, Any]] = ()
    """What was assumed: `code`, `message` and, where there is one, `loc`."""

    tables: Tables | None = field(default=None, repr=False)
    """What was asked, where it were tables."""

    @classmethod
    def of(cls, said: Mapping[str, Any], tables: Tables | None) -> Self:
        """What the fields of a reply say."""
        told = ("target", "origins", "pairs", "measures", "by_step", "predictions")
        about, more = said["model"], {name: said[name] for name in told}
        more |= {name: said[name] for name in ("point", "quantiles", "notes") if name in said}
        return cls(about["name"], about["version"], **more, verified=about.get("verified", True), tables=tables)

    @property
    def scores(self) -> Any:
        """The measures as a frame: a row for each forecast, the model's first.

        Raises:
            ValueError: what was asked was no table.
        """
        kind = self._asked().kind
        measures = next(iter(self.measures.values()))
        columns = {name: [_number(each[name]) for each in self.measures.values()] for name in measures}
        return kind.named_rows(list(self.measures), _FORECAST, columns)

    @property
    def frames(self) -> dict[Any, Any]:
        """The predictions of each sequence as a frame, by its id; without ids they are numbered, a lone one is None.

        Each row is called as the step that was predicted; `origin` and `step` are as in `predictions`.

        Raises:
            ValueError: what was asked was no table.
        """
        tables = self._asked()
        if tables.keys is None:
            return {None: self._frame(tables, 0, self.predictions)}
        rows: dict[str, list[Mapping[str, Any]]] = {name: [] for name in tables.ids or ()}
        for each in self.predictions:
            rows[each["id"]].append(each)
        named = zip(tables.keys, rows.values(), strict=True)
        return {key: self._frame(tables, row, own) for row, (key, own) in enumerate(named) if own}

    def to_frame(self) -> Any:
        """All predictions as one frame, with the ids of several sequences.

        Raises:
            ValueError: what was asked was no table.
        """
        tables, frames = self._asked(), self.frames
        return frames[None] if None in frames else tables.joined(frames)

    def _frame(self, tables: Tables, row: int, predictions: Sequence[Mapping[str, Any]]) -> Any:
        """The predictions of one sequence, each row called as the step that was predicted."""
        names = [name for name in predictions[0] if name not in {"id", "time", "quantiles"}]
        columns = {name: _column([each[name] for each in predictions]) for name in names}
        for place, quantile in enumerate(self.quantiles or ()):
            columns[f"predicted_{quantile:g}"] = [each["quantiles"][place] for each in predictions]
        places = np.array([each["origin"] + each["step"] for each in predictions], dtype=int)
        axis = tables.series[row].axis
        return tables.kind.made(None if axis is None else axis.at(places), axis, columns)

    def _asked(self) -> Tables:
        if self.tables is None or self.tables.kind is None:
            raise ValueError("what was asked was no table: give a data frame, or a dictionary of them, to get one")
        return self.tables


def backtest(model: str, inputs: Array, **asked: Unpack[Planned]) -> Calls[Backtest]:
    """How well a model would have predicted the past from many points of it, beside naive forecasts.

    Args:
        model: its name, of a regression.
        inputs: as for `predict`; tables have what was measured as a feature, or as a column that `observed` names.
        **asked: how tables are read, as for `predict`; which output is compared (`target`); and from where and how far
            is predicted: `horizon`, `window`, `stride`, `season` and `start`, as `docs/api.md` describes them.

    Raises:
        InvalidInput: something does not fit the model, or no sequence is long enough.
        AppError: what else the server refuses.
    """
    plan = {name: asked.get(name) for name in _PLAN if asked.get(name) is not None}
    given = {name: value for name, value in asked.items() if name not in (*_PLAN, "version")}
    tables, rest = tables_of(inputs, given)
    body = encode(rest | (tables.fields() if tables is not None else {"inputs": inputs}))

    def read(reply: httpx.Response) -> Backtest:
        return Backtest.of(json(reply), tables)

    call: Call[Backtest] = Call("POST", of_model(model, asked.get("version"), "backtest"), read, body, parameters=plan)
    return Calls([Part(lambda: call, None if tables is None else tables.ids, 1)], lambda answers: answers[0])


def _column(values: Sequence[Any]) -> Any:
    """Whole numbers as they are, other numbers with NaN where there is none."""
    return [_number(value) for value in values] if any(not isinstance(value, int) for value in values) else values


def _number(value: Any) -> Any:
    return float("nan") if value is None else value
