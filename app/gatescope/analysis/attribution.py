"""Each time step's part in each output, which adds up to the output.

Where the head is linear in the module's output at one step: with e_{s,T} as in `decomposition`, c_T = Σ_s e_{s,T} and
h_T = o_T⊙tanh(c_T), the part of step s is W_k·[o_T⊙(tanh Σ_{j≤s} e_{j,T} − tanh Σ_{j<s} e_{j,T})]. The parts telescope
to W_k·h_T (Murdoch, Szlam: Automatic Rule Extraction from Long Short Term Memory Networks, arXiv:1702.02540). They are
taken in the order in which the direction reads, after the initial state. They are those of the top layer's steps.

Where it is not: the gradient is integrated along the straight path from zeros to the inputs (Sundararajan, Taly, Yan:
Axiomatic Attribution for Deep Networks, arXiv:1703.01365). Its parts add up to the difference between the prediction
and that for zeros, which is then the `bias`, but for the error of the integration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gatescope.analysis.analysis import EVERY_CELL, Analysis, OneStep
from gatescope.analysis.contributions import contributions
from gatescope.analysis.gradients import each_gradient, jacobian, predicted_at, values_named
from gatescope.analysis.result import Check, Findings
from gatescope.analysis.retention import retention_of
from gatescope.analysis.subject import Subject
from gatescope.selection import Selection
from gatescope.weights import Weights

PATH_POINTS = 32
"""Of the path from zeros to the inputs: nodes of Gauss and Legendre."""

POINTS_AT_ONCE = 8
LINEAR_TOLERANCE = 1e-4
"""A head whose Jacobian changes by no more than this share, halfway to zero, is linear there."""


class AttributionParameters(OneStep):
    """Which outputs at which time step."""

    targets: list[str] | None = Field(default=None, min_length=1)
    """The names of the outputs or labels; all of them, if there are no more than 64."""

    def check(self, subject: Subject) -> None:
        """Refuse a sequence, time step or value that is not there."""
        super().check(subject)
        values_named(subject, self.targets)


class _Parts(NamedTuple):
    """Float64, of outputs."""

    contribution: Tensor  # (output, time)
    initial: Tensor  # (output,)
    bias: Tensor  # (output,)
    note: str


def attribution(subject: Subject, parameters: Any) -> Findings:
    """The parts of the prediction at one step; the check is the largest distance of their sum from it."""
    one = replace(subject.only(parameters.sequence), selection=Selection())  # all units make the prediction
    step = one.step(parameters.time_step)
    names, wanted = values_named(one, parameters.targets)
    with torch.no_grad():
        output = one.run(one.inputs).detach()
        prediction = predicted_at(one, output, step)[0, wanted].double().cpu()
    parts = _telescoped(one, output, step, wanted) or _integrated(one, step, wanted)
    total = parts.contribution.sum(1) + parts.initial + parts.bias
    arrays = {
        "contribution": parts.contribution,
        "initial": parts.initial,
        "bias": parts.bias,
        "prediction": prediction,
    }
    return Findings(
        {name: values.numpy() for name, values in arrays.items()},
        {"output": names, "time_step": range(one.lengths[0])},
        Check("residual", float((total - prediction).abs().max())),
        [parts.note],
    )


def _telescoped(subject: Subject, output: Tensor, step: int, wanted: Sequence[int]) -> _Parts | None:
    """The exact parts; None where the head is not linear, reads several steps, or the cell has no gate that keeps."""
    if retention_of(subject.spec.cell) is None:
        return None
    slopes = jacobian(subject, output, step, wanted)  # (output, time, directions · unit)
    halfway = jacobian(subject, output / 2, step, wanted)
    if not torch.allclose(slopes, halfway, rtol=0, atol=LINEAR_TOLERANCE * float(slopes.abs().max())):
        return None
    found = torch.zeros(len(wanted), subject.lengths[0], dtype=torch.float64)
    initial, spec = torch.zeros(len(wanted), dtype=torch.float64), subject.spec
    for index, direction in enumerate(spec.directions):
        own = slopes.chunk(spec.num_directions, dim=-1)[index]  # (output, time, unit)
        read = own.abs().amax(dim=(0, 2)).nonzero()[:, 0].tolist()
        if len(read) > 1:
            return None
        if read:
            steps, parts, begun = _of_direction(subject, direction, read[0], own[:, read[0]].double().cpu())
            found[:, steps.start : steps.stop] += parts
            initial += begun
    predicted = predicted_at(subject, output, step)[0, wanted].detach().double().cpu()
    bias = predicted - (slopes.double().cpu() * output[0].double().cpu()).sum((1, 2))
    return _Parts(found, initial, bias, "the head is linear: parts of the top layer's state, which add up exactly")


def _of_direction(subject: Subject, direction: str, step: int, slopes: Tensor) -> tuple[range, Tensor, Tensor]:
    """The parts of the top layer's hidden state of one direction at one step.

    Args:
        subject: one sequence, of all units.
        direction: which one.
        step: at which the head reads it.
        slopes: (output, unit) of the head.

    Returns:
        The steps that were read, (output, time) their parts, and (output,) that of the initial state.
    """
    spec, layer = subject.spec, subject.spec.num_layers - 1
    found = contributions(subject, layer, direction, step)
    if found.is_hidden:
        return found.steps, slopes @ found.written.T, slopes @ found.initial
    weight = Weights.of(subject.module, layer, direction).weight_hr
    if weight is not None:
        slopes = slopes @ weight.detach().double().cpu()
    gate = subject.at(layer, direction).signals("output_gate")["output_gate"][0, 0, 0, step].double().cpu()
    function = spec.cell.functions.output
    if function is None:
        raise TypeError(f"the cell '{spec.cell.name}' has no function of its cell state")
    in_order = found.written if direction == "forward" else found.written.flip(0)
    read = function.apply(torch.cat([found.initial[None], found.initial + in_order.cumsum(0)]))  # (1 + time, unit)
    parts = slopes @ (gate * read.diff(dim=0)).T
    return found.steps, parts if direction == "forward" else parts.flip(1), slopes @ (gate * read[0])


def _integrated(subject: Subject, step: int, wanted: Sequence[int]) -> _Parts:
    """The gradient along the path from zeros to the inputs."""
    inputs = subject.inputs.detach()
    nodes, weights = np.polynomial.legendre.leggauss(PATH_POINTS)
    points = torch.tensor(
        list(zip((nodes + 1) / 2, weights / 2, strict=True)), dtype=inputs.dtype, device=inputs.device
    )
    slopes = torch.zeros(len(wanted), *inputs.shape[1:], dtype=torch.float64)
    with torch.enable_grad():
        for part in subject.parts(torch.split(points, POINTS_AT_ONCE)):
            leaf = (part[:, 0, None, None] * inputs).requires_grad_()  # (point, time, feature)
            predicted = predicted_at(subject, subject.run(leaf), step)
            for index, gradient in enumerate(each_gradient(predicted, wanted, leaf)):
                slopes[index] += (part[:, 1, None, None] * gradient).sum(0).double().cpu()
    with torch.no_grad():
        bias = predicted_at(subject, subject.run(torch.zeros_like(inputs)), step)[0, wanted].double().cpu()
    contribution = (slopes * inputs[0].double().cpu()).sum(-1)
    note = f"the head is not linear at one step: gradients integrated over {PATH_POINTS} points from zero inputs"
    return _Parts(contribution, torch.zeros_like(bias), bias, note)


ANALYSIS = Analysis(
    name="attribution",
    title="What each step adds to the prediction",
    question="Which time steps made the prediction what it is?",
    arrays={
        "contribution": ("output", "time_step"),
        "initial": ("output",),
        "bias": ("output",),
        "prediction": ("output",),
    },
    cells=EVERY_CELL,
    parameters=AttributionParameters,
    needs=("head", "gradient"),
    run=attribution,
)
