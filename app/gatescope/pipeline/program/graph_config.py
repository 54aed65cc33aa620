"""`GraphConfig`: [graph] of a manifest, which says what a graph's inputs and outputs are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gatescope.pipeline.config import Config

_MOST_STATES = 2


class GraphConfig(Config):
    """A graph that runs as a whole, in a file beside the manifest's other versions."""

    format: Literal["onnx", "pt2"]
    """Of the file: `onnx`, which is `<version>/model.onnx`, or `pt2`, an archive of `torch.export`."""

    input: str
    """The graph's input that takes the sequences."""

    sequence_lengths: str | None = None
    """The graph's input that takes how many steps each of them has, where it has one."""

    initial_state: tuple[str, ...] = Field(default=(), max_length=_MOST_STATES)
    """The graph's inputs that take the state to start from: the hidden state, and of an LSTM the cell state."""

    prediction: str | None = None
    """The graph's output that is the prediction; None where it has none."""

    is_probability: bool = False
    """Whether the prediction's values are probabilities, as behind a softmax or a sigmoid."""

    final_state: tuple[str, ...] = Field(default=(), max_length=_MOST_STATES)
    """The graph's outputs that are the state behind the last step, in the order of `initial_state`."""

    layout: Literal["batch_first", "time_first"] = "batch_first"
    """Which of its axes comes first."""

    @model_validator(mode="after")
    def _states_agree(self) -> GraphConfig:
        if self.final_state and len(self.final_state) != len(self.initial_state):
            raise ValueError("`final_state` has one output for each input of `initial_state`")
        return self
