"""What requests about corpora may say, and what their replies look like."""

from __future__ import annotations

from pydantic import BaseModel, Field

from gatescope.server.api.problems import Problem
from gatescope.server.api.schema.replies import ModelVersion
from gatescope.server.api.schema.requests import Body
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


class CorpusStarted(BaseModel):
    """A corpus that has its turn as soon as it can."""

    corpus_id: str
    job_id: str


class CorpusReply(BaseModel):
    """A corpus, as it is now."""

    corpus_id: str
    name: str
    model: ModelVersion
    source: str
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
