"""How much each input step moves the prediction: the L2 norm of its gradient.

Madsen: Visualizing memorization in RNNs, Distill 2019. Its code shows the square of the norm; here it is the norm.
"""

from __future__ import annotations

from typing import Any

import torch

from gatescope.analysis.analysis import EVERY_CELL, Analysis, OneStep
from gatescope.analysis.gradients import each_gradient, predicted_at, values_named
from gatescope.analysis.result import Findings
from gatescope.analysis.subject import Subject


class ConnectivityParameters(OneStep):
    """Which value of the prediction at which time step."""

    target: str | None = None
    """The name of the output or label; the largest one at this step if it is not given."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence, time step or value that is not there."""
        super().check(subject)
        if self.target is not None:
            values_named(subject, [self.target])


def connectivity(subject: Subject, parameters: Any) -> Findings:
    """‖∂ prediction / ∂ x_t‖₂ of the inputs as the module reads them, by one backward pass."""
    one = subject.only(parameters.sequence)
    step = one.step(parameters.time_step)
    with torch.enable_grad():
        leaf = one.inputs.detach().clone().requires_grad_()
        predicted = predicted_at(one, one.run(leaf), step)
        (name,), wanted = values_named(one, [parameters.target or _largest(one, predicted)])
        (gradient,) = each_gradient(predicted, wanted, leaf)
    norms = gradient[0].norm(dim=-1).double().cpu().numpy()
    largest = norms.max()
    relative = norms / largest if largest > 0 else norms
    notes = [f"of '{name}', the largest value there"] if parameters.target is None and len(predicted[0]) > 1 else []
    return Findings({"gradient_norm": norms, "relative": relative}, {"time_step": range(one.lengths[0])}, notes=notes)


def _largest(subject: Subject, predicted: torch.Tensor) -> str:
    names = [] if subject.head is None else subject.head.names
    return names[int(predicted[0].argmax())]


ANALYSIS = Analysis(
    name="connectivity",
    title="What the prediction depends on",
    question="A small change of which time step would move the prediction most?",
    arrays=dict.fromkeys(("gradient_norm", "relative"), ("time_step",)),
    cells=EVERY_CELL,
    parameters=ConnectivityParameters,
    needs=("head", "gradient"),
    run=connectivity,
)
