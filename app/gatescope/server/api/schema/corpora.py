"""What requests about corpora may say, and what their replies look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gatescope.server.api.problems import Problem
from gatescope.server.api.schema.fields import Units
from gatescope.server.api.schema.replies import ModelVersion
from gatescope.server.api.schema.requests import Body, Signal
from gatescope.server.serving.corpora import CorpusState


class CorpusRequest(Body):
    """A data set that is to be traced."""

    model: str
    """One of /v1/models."""

    version: str | None = None
    """The one that answers by default when not given."""

    name: str = Field(min_length=1, max_length=200)
    """What the corpus is called."""

    source: str = Field(min_length=1)
    """The path of a file below the folder of data sets: a table, .npy, or .txt with a sequence on each line."""

    id: str | None = None
    """Of a table: the column that tells sequences apart; found by its name where the table is small."""


class PatternRequest(Body):
    """A span of steps of one sequence, of a corpus or of a stored trace."""

    corpus: str | None = None
    """A corpus that this model has traced; the one that is searched when neither this nor `trace_id` is given."""

    trace_id: str | None = None
    """A stored trace of this model."""

    sequence: int | str = 0
    """Which sequence, counted from 0, or its id in a corpus."""

    start: int = Field(ge=0)
    """The first step."""

    stop: int = Field(ge=1)
    """The step behind the last one."""


class SearchRequest(Body):
    """A pattern, and what is looked at to find it again."""

    signal: Signal
    """A unit is on where this is at least the threshold."""

    layer: int = Field(default=0, ge=0)
    """Counted from 0."""

    direction: Literal["forward", "reverse"] = "forward"
    """One of the module's."""

    threshold: float
    """Of the signal, as float32."""

    units: Annotated[list[int] | str, Units] | None = None
    """Those that may belong to the pattern; all by default."""

    pattern: PatternRequest
    """What is looked for."""

    limit: int = Field(default=50, ge=1, le=1000)
    """So many places are told."""


class SearchPlace(BaseModel):
    """A span of one sequence where some of the selected units are off, on throughout, and off."""

    sequence: int
    id: str | None
    start: int
    stop: int
    units: list[int] = Field(description="the selected ones that belong to it")
    union: int = Field(description="how many units are selected or belong to it")
    tokens: list[str] | None = Field(description="of its first steps; null of a model of features")
    inputs: list[list[float | None]] | None = Field(
        description="(step, feature) of its first steps; null of a model of tokens"
    )


class SearchReply(BaseModel):
    """Where a pattern comes again."""

    corpus_id: str
    signal: str
    layer: int
    direction: str
    threshold: float
    units: list[int] = Field(description="those that belong to the pattern: the selected ones")
    total: int = Field(description="to how many spans at least one of them belongs")
    places: list[SearchPlace] = Field(description="by how many belong, then how small the union is, then by length")


class PeakReply(BaseModel):
    """A step at which a unit is higher, or lower, than beside it."""

    sequence: int
    id: str | None
    time_step: int
    value: float
    token: str | None
    inputs: list[float | None] | None


class TokenMeanReply(BaseModel):
    """What a unit does at one token."""

    token: str
    mean: float
    count: int


class FeatureMeansReply(BaseModel):
    """What a unit does in each bin of one feature."""

    feature: str
    edges: list[float] = Field(description="of equal bins, from the least to the largest value")
    means: list[float | None] = Field(description="null of a bin without values")
    counts: list[int]


class UnitReply(BaseModel):
    """What one unit does over a corpus."""

    corpus_id: str
    signal: str
    layer: int
    direction: str
    unit: int
    highest: list[PeakReply]
    lowest: list[PeakReply]
    tokens: list[TokenMeanReply] | None = Field(description="the highest mean first; null of a model of features")
    features: list[FeatureMeansReply] | None = Field(description="null of a model of tokens")


class CorpusStarted(BaseModel):
    """A corpus that has its turn as soon as it can."""

    corpus_id: str
    job_id: str


class CorpusReply(BaseModel):
    """A corpus, as it is now."""

    corpus_id: str
    owner: str | None = Field(description="the name of the key that it was made with; null of what is everybody's")
    name: str
    model: ModelVersion
    source: str | None = Field(description="null of an upload")
    media_type: str | None = Field(description="of an upload")
    state: CorpusState
    progress: float | None = Field(
        description="0 to 1; null until the first sequences are written, and of one that ended early"
    )
    job_id: str | None = Field(description="that traces it; null once it has ended")
    sequences: int | None = Field(description="null until it is done")
    steps: int | None = Field(description="of all sequences together; null until it is done")
    bytes: int = Field(description="on disk")
    created_at: float = Field(description="Unix seconds")
    problem: Problem | None = Field(description="of one that failed: the body of the error")
    notes: list[str] = Field(description="what was assumed when the source was read and traced")


class CorpusList(BaseModel):
    """Every corpus, the oldest first."""

    corpora: list[CorpusReply]
