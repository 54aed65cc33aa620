"""`Graph`: the layers of a manifest with their weights, run in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from gatescope.decompose import Explanation, Point, explain
from gatescope.errors import ManifestError, WeightsError
from gatescope.forward import differentiable, forward
from gatescope.interventions import Intervention, trace_edited
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.layers.layer import Layer, Shape, Steps, Weights
from gatescope.pipeline.layers.recurrent import Recurrent
from gatescope.selection import Selection
from gatescope.spec import Spec
from gatescope.state import State
from gatescope.tracing import Trace, trace

INPUTS, STATIC = "inputs", "static"
"""What the request gives, as layers read it."""

_NOTHING = Selection(signals=())

MOST_KEPT = 16 * 1024
"""The zeros from which a run begins are kept if they have at most so many rows times units: to make them anew costs
little beside such a run, but each small operation gives the interpreter away and must wait to get it back."""


@dataclass(frozen=True)
class Look:
    """What is wanted of one recurrent layer."""

    module: str
    output: bool = False
    trace: Selection | None = None
    explain: Point | None = None
    interventions: tuple[Intervention, ...] = ()
    raise_if_cancelled: Callable[[], None] | None = None


@dataclass
class Run:
    """What the layers gave."""

    values: dict[str, Tensor]
    """By layer; the padding of a sequence holds anything."""
    states: dict[str, State] = field(default_factory=dict)
    """By recurrent layer, where it ended."""
    output: Tensor | None = None
    """Of the layer that is looked at, NaN in the padding."""
    trace: Trace | None = None
    explained: Explanation | None = None


class Graph(nn.Module):
    """Layers in the order in which they run.

    Args:
        configs: of the layers.
        given: what `inputs` and, where there is one, `static` hold.
        weights: of all layers, by their full names.
        ignored: names or prefixes of weights that are left aside knowingly.

    Raises:
        ManifestError: a layer is named twice, or reads what is not there or what it cannot read.
        WeightsError: a weight is missing or has another shape, or there is one that no layer uses.
    """

    def __init__(
        self,
        configs: Sequence[LayerConfig],
        given: Mapping[str, Shape],
        weights: Mapping[str, Tensor],
        ignored: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.shapes: dict[str, Shape] = dict(given)
        self.reads: dict[str, tuple[str, ...]] = {}
        self._layers: dict[str, Layer] = {}
        taken: set[str] = set()
        before = INPUTS
        for config in configs:
            inputs = config.inputs or (before,)
            self._check_name(config.name, inputs)
            prefix = config.name if config.weights is None else config.weights
            own = Weights(weights, taken, config.name, prefix.removesuffix("."))
            layer = config.build(own, [self.shapes[name] for name in inputs])
            self._layers[config.name], self.reads[config.name] = layer, inputs
            self.shapes[config.name] = layer.shape
            before = config.name
        self.last = before
        self.layers = nn.ModuleList(self._layers.values())
        self.recurrent = {name: layer for name, layer in self._layers.items() if isinstance(layer, Recurrent)}
        if not self.recurrent:
            raise ManifestError("there is no recurrent layer: it needs one of type lstm, gru or rnn")
        _refuse_surplus(weights, taken, ignored)
        self._plans: dict[tuple[frozenset[str], frozenset[str], bool], list[tuple[str, Layer, tuple[str, ...]]]] = {}
        self.eval()

    def layer(self, name: str) -> Layer:
        """The layer of this name."""
        return self._layers[name]

    @property
    def runs_in_parts(self) -> bool:
        """Whether every recurrent layer can be run part by part, from the first step to the last."""
        shapes = [self.shapes[name] for name in self.recurrent]
        forward_only = not any(layer.spec.bidirectional for layer in self.recurrent.values())
        return forward_only and all(shape.is_local and not shape.sums_up for shape in shapes)

    def run(
        self,
        given: Mapping[str, Tensor],
        steps: Steps,
        begin: Mapping[str, State],
        wanted: frozenset[str],
        look: Look | None = None,
        *,
        with_states: bool = False,
        replaced: Mapping[str, Tensor] | None = None,
    ) -> Run:
        """Run the layers that are needed.

        Args:
            given: `inputs` (batch, time, feature) encoded or (batch, time) ids, and `static` (batch, feature).
            steps: of the batch.
            begin: the states of recurrent layers that do not start from their own.
            wanted: the layers whose values are wanted.
            look: what is wanted of a recurrent layer.
            with_states: whether the final states of all recurrent layers are wanted.
            replaced: values of layers that are not run, by name.
        """
        targets = wanted if look is None else wanted | {look.module}
        run = Run({**given, **(replaced or {})})
        for name, layer, reads in self._plan(targets, frozenset(replaced or ()), with_states=with_states):
            values = [run.values[each] for each in reads]
            if not isinstance(layer, Recurrent):
                run.values[name] = layer(*values, steps=steps)
                continue
            state = begin.get(name) or _initial_state(layer, values[0])
            watched = look if look is not None and look.module == name else None
            if watched is not None and watched.explain is not None:
                run.explained = explain(layer.module, values[0][0], state, watched.explain)
                return run
            output, final, traced = _recurrent(layer, values[0], state, steps, watched, with_states=with_states)
            run.values[name] = output
            if final is not None:
                run.states[name] = final
            if watched is not None:
                run.trace, run.output = traced, output if watched.output else None
        return run

    def _plan(
        self, targets: frozenset[str], replaced: frozenset[str], *, with_states: bool
    ) -> list[tuple[str, Layer, tuple[str, ...]]]:
        """The layers that must run for the values of these, in order, each with what it reads."""
        plan = self._plans.get((targets, replaced, with_states))
        if plan is None:
            wanted = targets | self.recurrent.keys() if with_states else targets
            needed = self._with_ancestors(wanted, replaced)
            plan = [(name, layer, self.reads[name]) for name, layer in self._layers.items() if name in needed]
            self._plans[targets, replaced, with_states] = plan
        return plan

    def _check_name(self, name: str, inputs: Sequence[str]) -> None:
        if name in (INPUTS, STATIC):
            raise ManifestError(f"a layer is called '{name}', which is what the request gives: call it something else")
        if name in self.shapes:
            raise ManifestError(f"there are two layers '{name}'")
        for read in inputs:
            if read == STATIC and STATIC not in self.shapes:
                raise ManifestError(f"layer '{name}' reads 'static', but the manifest has no [static]")
            if read not in self.shapes:
                raise ManifestError(f"layer '{name}' reads '{read}', which is no earlier layer")

    def _with_ancestors(self, wanted: Collection[str], replaced: Collection[str]) -> frozenset[str]:
        """These layers and those from which their values are computed, but for what is replaced."""
        found: set[str] = set()
        waiting = list(wanted)
        while waiting:
            each = waiting.pop()
            if each in self.reads and each not in found and each not in replaced:
                found.add(each)
                waiting += self.reads[each]
        return frozenset(found)


def _recurrent(
    layer: Recurrent, inputs: Tensor, state: State, steps: Steps, look: Look | None, *, with_states: bool
) -> tuple[Tensor, State | None, Trace | None]:
    """The output, the final state where it is wanted, and the trace where that is wanted."""
    if inputs.requires_grad:
        if steps.ragged or look is not None or with_states:
            raise TypeError("gradients are of the output alone, of sequences of one length")
        return differentiable(layer.module, inputs, state), None, None
    if look is not None and look.interventions:
        selection = look.trace or _NOTHING
        given = layer.module, inputs, look.interventions, steps.lengths, state, selection
        edited = trace_edited(*given, raise_if_cancelled=look.raise_if_cancelled).with_residual()
        return edited.output, edited.final_state, None if look.trace is None else edited
    if look is not None and look.trace is not None:
        traced = trace(layer.module, inputs, steps.lengths, state, look.trace).with_residual()
        return traced.output, traced.final_state, traced
    output, final = forward(
        layer.module,
        inputs,
        steps.lengths,
        state,
        ragged=steps.ragged,
        with_state=with_states,
        with_padding=look is not None and look.output,
    )
    return output, final, None


def _initial_state(layer: Recurrent, inputs: Tensor) -> State:
    rows, spec = inputs.shape[0], layer.spec
    learned = layer.initial_state(rows)
    if learned is not None:
        return learned
    if rows * spec.hidden_size > MOST_KEPT:
        return State.zeros(spec, rows, inputs)
    return _zeros(spec, rows, inputs.dtype, inputs.device)


@lru_cache(maxsize=256)
def _zeros(spec: Spec, rows: int, dtype: torch.dtype, device: torch.device) -> State:
    """Where most runs begin; nobody writes into it."""
    return State.zeros(spec, rows, torch.empty(0, dtype=dtype, device=device))


def _refuse_surplus(weights: Mapping[str, Tensor], taken: Collection[str], ignored: Collection[str]) -> None:
    for name in weights:
        is_ignored = any(name == prefix or name.startswith(f"{prefix}.") for prefix in ignored)
        if name not in taken and not is_ignored and not name.endswith("num_batches_tracked"):
            raise WeightsError(
                f"the weights hold '{name}', which no layer of the manifest uses: give it a layer, or list it in "
                "`ignored` if the predictions do not depend on it"
            )
