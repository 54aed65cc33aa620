"""What requests of analyses may say, a schema for each from its parameters, and what the replies look like."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from gatescope.analysis.analysis import Analysis, Parameters
from gatescope.server.api.schema.replies import ModelVersion, NoteReply
from gatescope.server.api.schema.requests import AnalyseRequest, AnalyseTraceRequest


class AnalysisArray(BaseModel):
    """An array whose axes have names."""

    axes: list[str]
    values: list[Any] = Field(description="nested along the axes; null: not a number, or infinite")


class AnalysisCheck(BaseModel):
    """A number by which a reader can tell whether to believe the result."""

    kind: Literal["residual", "control", "interval"]
    value: float | None


class AnalysisReply(BaseModel):
    """What an analysis found, as an `xarray.Dataset` has it."""

    model: ModelVersion
    module: str = Field(description="the recurrent module that was looked at, as ModelInfo names it")
    analysis: str
    parameters: dict[str, Any]
    coordinates: dict[str, list[Any]] = Field(description="of each axis")
    arrays: dict[str, AnalysisArray]
    check: AnalysisCheck | None = Field(description="null of an analysis that has none")
    notes: list[NoteReply]


class AnalysisInfo(BaseModel):
    """One analysis."""

    name: str
    title: str
    question: str = Field(description="what it answers")
    parameters: dict[str, Any] = Field(description="JSON Schema")
    arrays: dict[str, list[str]] = Field(description="the axes of each array of its result")
    cells: list[str] = Field(description="those that it can look at")
    needs: list[str] = Field(description="what it needs beside a trace")


class AnalysisList(BaseModel):
    """Every analysis."""

    analyses: list[AnalysisInfo]


@cache
def request_of(analysis: Analysis) -> type[AnalyseRequest]:
    """Of the sequences of a predict body: that, and the parameters of the analysis."""
    return create_model(_name(analysis, "Request"), __base__=(AnalyseRequest, analysis.parameters))  # type: ignore[arg-type]


@cache
def stored_request_of(analysis: Analysis) -> type[AnalyseTraceRequest]:
    """Of a stored trace: the parameters of the analysis."""
    return create_model(_name(analysis, "TraceRequest"), __base__=(AnalyseTraceRequest, analysis.parameters))  # type: ignore[arg-type]


def parameters_in(request: BaseModel, analysis: Analysis) -> Parameters:
    """The parameters of the analysis that a request states."""
    return analysis.parameters.model_construct(
        **{name: getattr(request, name) for name in analysis.parameters.model_fields}
    )


def _name(analysis: Analysis, suffix: str) -> str:
    return analysis.name.title().replace("_", "") + suffix
