"""What the reply to a backtest looks like."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from gatescope.server.api.schema.replies import ModelName, NoteReply


class BacktestPrediction(BaseModel):
    """One step that was predicted."""

    id: str | None = Field(description="of its sequence; null where the table is one sequence")
    origin: int = Field(description="the first step that was not read, counted from 0")
    step: int = Field(description="how many steps behind the origin")
    time: str | float | None
    predicted: float | None = Field(description="null of quantiles without a median")
    quantiles: list[float] | None = Field(description="of a quantile task, in the order of the reply's `quantiles`")
    observed: float | None = Field(description="null where nothing was measured")
    naive: float | None = Field(description="the last value before the origin")
    seasonal_naive: float | None = Field(description="the value a season before; null without a season")
    mean: float | None = Field(description="of all values before the origin")


class BacktestReply(BaseModel):
    """A model's errors over the past, beside those of naive forecasts."""

    model: ModelName
    notes: list[NoteReply] | None = Field(default=None, description="what was assumed; absent where nothing was")
    target: str
    origins: int
    pairs: int = Field(
        description="predictions that have a measured value and every baseline: all measures are of these"
    )
    point: Literal["prediction", "median"] | None = Field(
        description="what mae to kge are of: of a quantile task the median; null where there is none, as they are"
    )
    quantiles: list[float] | None = Field(default=None, description="those of a quantile task; else absent")
    measures: dict[str, dict[str, float | None]] = Field(
        description="of `model`, `naive`, `seasonal_naive` and `mean`: mae, rmse, bias, mape, smape, mase, nse, kge; "
        "of a quantile task also pinball, of all quantiles and of each (pinball_0.1), and the coverage of each central "
        "interval (coverage_0.8); null where one is not defined"
    )
    by_step: list[float | None] = Field(description="the model's mean absolute error at each step of the horizon")
    predictions: list[BacktestPrediction]
