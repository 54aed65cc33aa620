"""`backtest`: predictions from many points of the past, and their errors beside those of naive forecasts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gatescope.errors import InvalidInput, Place
from gatescope.tables import measures, windows
from gatescope.tables.sequences import Sequences, Wanted, with_null

Ask = Callable[[dict[str, Any]], Mapping[str, Any]]
"""A predict body -> the reply to it."""

MEDIAN = 0.5
_ARRAYS = ("inputs", "future_inputs")

BATCH_STEPS = 200_000
"""Time steps of the origins that are asked for together, at most, with the padding of the shorter ones."""


@dataclass(frozen=True)
class Plan:
    """From where, and how far, is predicted."""

    horizon: int = 1
    """How many steps are predicted from each origin."""
    window: int | None = None
    """How many steps before it are read; all that there are by default."""
    stride: int | None = None
    """How many steps lie between origins; the horizon by default, so that each step is predicted once."""
    season: int | None = None
    """After how many steps the seasonal-naive forecast repeats itself; without it there is none."""
    start: int | None = None
    """The first origin, a season at least; the window or, without one, half of the longest sequence by default."""


@dataclass(frozen=True)
class _Origin:
    row: int
    step: int  # the first that is predicted


@dataclass(frozen=True)
class Backtest:
    """What came of it."""

    target: str
    origins: int
    pairs: int
    """Predictions for which there are a measured value and every baseline: all measures are of these."""
    point: str | None
    """What of a prediction is `predicted`, and so what `mae` to `kge` are of: the `prediction`, or the `median` of
    quantiles; None of quantiles without one, which have no such measures."""
    quantiles: list[float] | None
    """Those of a quantile task."""
    model: dict[str, float | None]
    """Each measure of the model; of a quantile task also the `measures.of_quantiles`."""
    baselines: dict[str, dict[str, float | None]]
    """`naive`, `seasonal_naive` where there is a season, and `mean`: the same of each."""
    by_step: list[float | None]
    """The model's mean absolute error at each step of the horizon."""
    rows: list[dict[str, Any]]
    """Each prediction: `id`, `origin`, `step`, `time`, `predicted`, the `quantiles` of a quantile task, `observed`, and
    what the baselines say."""

    def summary(self) -> dict[str, Any]:
        """All but the rows."""
        return {name: value for name, value in vars(self).items() if name != "rows"}


def backtest(sequences: Sequences, wanted: Wanted, target: str | None, plan: Plan, ask: Ask) -> Backtest:
    """Predict from every origin and compare; `ask` sends a predict body. The rest is as `asking` has it."""
    steps = asking(sequences, wanted, target, plan)
    body = next(steps)
    while True:
        try:
            body = steps.send(ask(body)["prediction"]["values"])
        except StopIteration as done:
            found: Backtest = done.value
            return found


def asking(
    sequences: Sequences,
    wanted: Wanted,
    target: str | None,
    plan: Plan,
    most_steps: int = BATCH_STEPS,
    on_progress: Callable[[int, int], None] | None = None,
) -> Generator[dict[str, Any], Sequence[Any], Backtest]:
    """A backtest for who asks himself.

    It yields predict bodies, is sent the `prediction.values` of the replies to them, [origin][step][output] or
    [origin][output], and returns what came of it.

    A model of the next step is asked with a horizon: it reads what came before the origin and, of the steps behind it,
    the known features. One of quantiles predicts no further than the first of them. A model of the same step reads the
    predicted steps, too.

    Args:
        sequences: without further steps at their end.
        wanted: what the model reads and gives.
        target: one of its outputs, which is measured in the table; may be left out where there is only one.
        plan: from where and how far.
        most_steps: how many time steps a body has at most, with its padding; of one origin it may have more.
        on_progress: is told how many bodies were answered, and how many there are.

    Raises:
        InvalidInput: the target is not measured, or no sequence is long enough.
    """
    run = _Run(sequences, wanted, _chosen(target, wanted), plan)
    origins = list(run.origins())
    if not origins:
        raise _refused("start", f"no sequence has {run.first + plan.horizon} steps: take a smaller window or horizon")
    rows: list[dict[str, Any]] = []
    parts = list(run.batches(origins, most_steps))
    for done, part in enumerate(parts):
        if on_progress is not None:
            on_progress(done, len(parts))
        replied = yield run.request(part)
        for origin, values in zip(part, replied, strict=True):
            rows += run.rows(origin, np.asarray(values, dtype=np.float64))
    return run.result(origins, rows)


def _chosen(target: str | None, wanted: Wanted) -> str:
    if target is None and len(wanted.outputs) != 1:
        raise _refused("target", f"say which of the outputs is compared: {', '.join(wanted.outputs)}")
    return wanted.outputs[0] if target is None else target


def finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a backtest with None for numbers that are not there, which JSON has no word for."""
    return [{name: None if value != value else value for name, value in row.items()} for row in rows]  # noqa: PLR0124


def flat(rows: list[dict[str, Any]], quantiles: Sequence[float] | None) -> list[dict[str, Any]]:
    """The rows of a backtest for a table: `predicted_0.1` and so on in place of `quantiles`."""
    names = [f"predicted_{quantile:g}" for quantile in quantiles or ()]
    return [
        {name: value for name, value in row.items() if name != "quantiles"}
        | dict(zip(names, row["quantiles"] or (), strict=True))
        for row in rows
    ]


class _Run:
    def __init__(self, sequences: Sequences, wanted: Wanted, target: str, plan: Plan) -> None:
        self.sequences, self.wanted, self.target, self.plan = sequences, wanted, target, plan
        if target not in wanted.outputs:
            raise _refused(
                "target", f"model '{wanted.model}' has no output '{target}'; it has {', '.join(wanted.outputs)}"
            )
        if wanted.feeds_back and wanted.quantiles and plan.horizon > 1:
            raise _refused("horizon", "quantiles are not fed back: of the next step, they are predicted for 1 step")
        count, self.quantiles = max(1, len(wanted.quantiles)), wanted.quantiles
        self.values = slice(wanted.outputs.index(target) * count, (wanted.outputs.index(target) + 1) * count)
        self.observed = self._measured()
        longest = max(map(len, sequences.inputs))
        season = plan.season or 1
        if plan.start is not None and plan.start < season:
            raise _refused("start", f"a season of {season:,} steps must come before it, so take {season:,} at least")
        self.first = plan.start or max(season, plan.window or longest // 2)

    def _measured(self) -> list[np.ndarray]:
        """Of each sequence, (time,)."""
        if self.target in self.sequences.observed:
            return list(self.sequences.observed[self.target])
        if self.target in self.sequences.columns:
            index = self.sequences.columns.index(self.target)
            return [values[:, index] for values in self.sequences.inputs]
        raise _refused("target", f"'{self.target}' is not measured: the table has no such column; map one to it")

    @property
    def point(self) -> int | None:
        """Which of the target's values is the point forecast."""
        if not self.quantiles:
            return 0
        return self.quantiles.index(MEDIAN) if MEDIAN in self.quantiles else None

    def origins(self) -> Iterator[_Origin]:
        stride = self.plan.stride or self.plan.horizon
        for row, values in enumerate(self.sequences.inputs):
            for step in range(self.first, len(values) - self.plan.horizon + 1, stride):
                yield _Origin(row, step)

    def batches(self, origins: list[_Origin], most_steps: int) -> Iterator[list[_Origin]]:
        def steps_of(origin: _Origin) -> int:
            return min(origin.step, self.plan.window or origin.step) + self.plan.horizon

        return windows.batches(origins, steps_of, most_steps)

    def request(self, origins: list[_Origin]) -> dict[str, Any]:
        """The predict body of these origins."""
        horizon, asked = self.plan.horizon, []
        for origin in origins:
            end = origin.step if self.wanted.feeds_back else origin.step + horizon
            begin = 0 if self.plan.window is None else max(0, end - self.plan.window)
            asked.append(windows.Window(origin.row, begin, end))
        runs_on = self.wanted.feeds_back and not self.quantiles
        body = windows.request(self.sequences, self.wanted, asked, horizon if runs_on else None)
        lists: dict[str, Any] = {name: list(map(with_null, body[name])) for name in _ARRAYS if name in body}
        if "static_inputs" in body:
            lists["static_inputs"] = with_null(body["static_inputs"])
        return body | lists

    def rows(self, origin: _Origin, values: np.ndarray) -> Iterator[dict[str, Any]]:
        """Each step behind an origin; `values` (step, output), of which the last ones are of these steps."""
        horizon, known = self.plan.horizon, self.observed[origin.row]
        predicted = np.atleast_2d(values)[-horizon:, self.values]
        if len(predicted) < horizon:
            raise _refused("horizon", f"the model predicts {len(predicted)} steps of a sequence, not {horizon}")
        before = known[: origin.step]
        measured = before[np.isfinite(before)]
        for step in range(horizon):
            place = origin.step + step
            yield {
                "id": None if self.sequences.ids is None else self.sequences.ids[origin.row],
                "origin": origin.step,
                "step": step,
                "time": None if self.sequences.timestamps is None else self.sequences.timestamps[origin.row][place],
                "predicted": np.nan if self.point is None else float(predicted[step, self.point]),
                "quantiles": predicted[step].tolist() if self.quantiles else None,
                "observed": float(known[place]),
                "naive": float(measured[-1]) if len(measured) else np.nan,
                "seasonal_naive": self._seasonal(before, step),
                "mean": float(measured.mean()) if len(measured) else np.nan,
            }

    def _seasonal(self, before: np.ndarray, step: int) -> float:
        """The value of the last season at this place of it; NaN without a season."""
        season = self.plan.season
        return np.nan if season is None else float(before[len(before) - season + step % season])

    def result(self, origins: list[_Origin], rows: list[dict[str, Any]]) -> Backtest:
        names = ["observed", "naive", *(["seasonal_naive"] if self.plan.season else []), "mean"]
        columns = np.array([[row[name] for row in rows] for name in names], dtype=np.float64)
        # (value, row): the quantiles, or the prediction alone
        given = np.array([row["quantiles"] or [row["predicted"]] for row in rows], dtype=np.float64).T
        is_known = np.isfinite(columns).all(axis=0) & np.isfinite(given).all(axis=0)
        (observed, *others), given = columns[:, is_known], given[:, is_known]
        predicted = np.full(len(observed), np.nan) if self.point is None else given[self.point]
        error, steps = np.abs(predicted - observed), np.array([row["step"] for row in rows])[is_known]
        by_step = [error[steps == step] for step in range(self.plan.horizon)]
        return Backtest(
            self.target,
            len(origins),
            len(observed),
            None if self.point is None else "median" if self.quantiles else "prediction",
            list(self.quantiles) or None,
            self._measures(predicted, given, observed),
            {name: self._measures(each, each[None], observed) for name, each in zip(names[1:], others, strict=True)},
            [float(each.mean()) if len(each) and self.point is not None else None for each in by_step],
            rows,
        )

    def _measures(self, predicted: np.ndarray, values: np.ndarray, observed: np.ndarray) -> dict[str, float | None]:
        """Of a point forecast (pair,), and of its values (quantile, pair)."""
        of_quantiles = measures.of_quantiles(values, observed, self.quantiles) if self.quantiles else {}
        return measures.of_pairs(predicted, observed, self._scale) | of_quantiles

    @cached_property
    def _scale(self) -> float | None:
        """The mean absolute error of the (seasonal) naive forecast of one step, before the first origin."""
        lag = self.plan.season or 1
        before = [values[: self.first] for values in self.observed]
        errors = [np.abs(values[lag:] - values[:-lag]) for values in before]
        known = np.concatenate([each[np.isfinite(each)] for each in errors])
        return float(known.mean()) if len(known) else None


def _refused(option: str, message: str) -> InvalidInput:
    return InvalidInput.at(Place((option,), message))
