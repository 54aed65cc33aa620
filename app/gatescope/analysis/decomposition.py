"""What each time step wrote into the state of each unit.

c_T = Σ_s R_{s→T}·i_s·g_s + R_{0→T}·c_0 with R_{s→T} = f_{s+1}·…·f_T; of a GRU, with z in place of f,
h_T = Σ_s R_{s→T}·(1 − z_s)·n_s + R_{0→T}·h_0. A part says what was written at its step; what led to it being written
may lie further back.
"""

from __future__ import annotations

from typing import Any

from gatescope.analysis.analysis import Analysis, OnePlace
from gatescope.analysis.contributions import contributions
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.retention import RETAINING
from gatescope.analysis.subject import Subject


def decomposition(subject: Subject, parameters: Any) -> Findings:
    """The parts of the state at one step; the check is the largest distance of their sum from the traced state."""
    one = subject.only(parameters.sequence)
    found = contributions(one, parameters.layer, parameters.direction, one.step(parameters.time_step))
    residual = float((found.written.sum(0) + found.initial - found.state).abs().max())
    arrays = {
        "contribution": found.written.T.contiguous().numpy(),
        "initial": found.initial.numpy(),
        "state": found.state.numpy(),
    }
    return Findings(arrays, {"time_step": found.steps}, Check("residual", residual))


ANALYSIS = Analysis(
    name="decomposition",
    title="What each step wrote",
    question="Which time steps wrote what a unit holds now?",
    arrays={"contribution": ("unit", "time_step"), "initial": ("unit",), "state": ("unit",)},
    cells=RETAINING,
    parameters=OnePlace,
    run=decomposition,
)
