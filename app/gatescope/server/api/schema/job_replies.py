"""What replies about jobs look like."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from gatescope.server.api.problems import Problem
from gatescope.server.serving.jobs import JobState


class JobStarted(BaseModel):
    """Work that no connection waits for has its turn as soon as it can."""

    job_id: str


class JobReply(BaseModel):
    """A job, as it is now."""

    job_id: str
    state: JobState
    progress: float | None = Field(description="0 to 1; null where it cannot be told")
    created_at: float = Field(description="Unix seconds")
    expires_at: float | None = Field(description="Unix seconds: when it is forgotten; null while it is open")
    result: dict[str, Any] | None = Field(description="of one that is done: the reply in JSON")
    problem: Problem | None = Field(description="of one that failed: the body of the error")
