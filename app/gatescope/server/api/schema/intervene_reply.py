"""What the reply to an intervention looks like."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from gatescope.server.api.schema.replies import ModelName, NoteReply, PredictionReply, States

_SIGNALS = "[batch][layer][direction][time][unit] under each signal's name; absent without `signals`"


class RunReply(BaseModel):
    """One of the two runs: a predict reply, with `signals` a trace reply; `model` and `notes` stand above."""

    sequence_lengths: list[int]
    ids: list[str] | None = None
    timestamps: list[list[str | float]] | None = None
    observed: dict[str, list[list[float | None]]] | None = None
    tokens: list[list[str]] | None = None
    unknown_tokens: list[list[int]] | None = None
    prediction: PredictionReply | None = None
    heads: dict[str, PredictionReply] | None = None
    output: list[list[list[float]]] | None = None
    final_state: States | None = Field(
        default=None, description="where the next step would begin, of `recurrent` edits of the last step as edited"
    )
    module: str | None = Field(default=None, description="this and what follows: absent without `signals`")
    axes: list[str] | None = None
    layers: list[int] | None = None
    directions: list[str] | None = None
    units: list[int] | None = None
    time_steps: list[int] | None = None
    signals: dict[str, list[list[list[list[list[float]]]]]] | None = Field(
        default=None,
        description=f"{_SIGNALS}. Of the intervened run those that were used, after the edits; a hidden state that is "
        "edited in one scope only as whoever is above reads it",
    )
    initial_state: States | None = None
    residual: float | None = Field(
        default=None,
        description="as in a trace reply; of the intervened run over the steps that the fused kernel ran, for the "
        "others are the equations' own",
    )


class ChangedLabel(BaseModel):
    """A label that is another in the intervened run."""

    sequence: int
    step: int | None = Field(default=None, description="absent where there is one label per sequence")
    baseline: str | list[str]
    intervened: str | list[str]


class PredictionDifference(BaseModel):
    """The intervened prediction minus that of the baseline."""

    values: list[Any]
    probabilities: list[Any] | None = Field(default=None, description="absent where the prediction has none")
    changed_labels: list[ChangedLabel] | None = Field(default=None, description="absent of quantities")


class DifferenceReply(BaseModel):
    """The intervened run minus the baseline, of all that both have."""

    prediction: PredictionDifference | None = None
    heads: dict[str, PredictionDifference] | None = None
    output: list[list[list[float]]] | None = None
    final_state: States | None = None
    signals: dict[str, list[list[list[list[list[float]]]]]] | None = Field(default=None, description=_SIGNALS)


class InterveneReply(BaseModel):
    """A run as it is, the same with changes, and the difference."""

    model: ModelName
    notes: list[NoteReply] | None = Field(default=None, description="what was assumed; absent where nothing was")
    baseline: RunReply
    intervened: RunReply
    difference: DifferenceReply
