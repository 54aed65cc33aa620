"""Interventions: runs of a recurrent module in which signals are edited, and the steps and layers after them see it."""

from __future__ import annotations

from gatescope.interventions.intervention import Intervention
from gatescope.interventions.run import (
    EditedRun,
    Intervened,
    intervene,
    means_of,
    read_for_means,
    stated,
    trace_edited,
)

__all__ = [
    "EditedRun",
    "Intervened",
    "Intervention",
    "intervene",
    "means_of",
    "read_for_means",
    "stated",
    "trace_edited",
]
