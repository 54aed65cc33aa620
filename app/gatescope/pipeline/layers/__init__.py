"""The layers that a manifest may list: for each type what `[[layers]]` states, and the module that computes it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gatescope.pipeline.layers.activation import ActivationConfig, PReLUConfig
from gatescope.pipeline.layers.combine import AddConfig, ConcatConfig, MultiplyConfig
from gatescope.pipeline.layers.convolution import Conv1dConfig
from gatescope.pipeline.layers.crf import CRFConfig
from gatescope.pipeline.layers.linear import LinearConfig
from gatescope.pipeline.layers.norm import BatchNormConfig, LayerNormConfig, RMSNormConfig
from gatescope.pipeline.layers.pool import DirectionsConfig, PoolConfig
from gatescope.pipeline.layers.recurrent import GRUConfig, LSTMConfig, RNNConfig
from gatescope.pipeline.layers.tokens import EmbeddingConfig, OneHotConfig

LayerConfig = Annotated[
    EmbeddingConfig
    | OneHotConfig
    | LinearConfig
    | Conv1dConfig
    | BatchNormConfig
    | LayerNormConfig
    | RMSNormConfig
    | LSTMConfig
    | GRUConfig
    | RNNConfig
    | ActivationConfig
    | PReLUConfig
    | PoolConfig
    | DirectionsConfig
    | ConcatConfig
    | AddConfig
    | MultiplyConfig
    | CRFConfig,
    Field(discriminator="type"),
]
"""One entry of `[[layers]]`."""
