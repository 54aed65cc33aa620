"""`GET /v1/models`: which models there are, what they take, and requests to try."""

from __future__ import annotations

from typing import Any

from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.heads import HeadConfig
from gatescope.pipeline.model import Model
from gatescope.pipeline.pipeline import predicts_next_step
from gatescope.server.api import reply
from gatescope.server.api.messages import Reply, Request
from gatescope.server.api.schema.replies import (
    ExampleInfo,
    HeadInfo,
    InputInfo,
    LSTMInfo,
    ModelInfo,
    ModelList,
    ModuleInfo,
    NamedLSTMInfo,
    NotComputedInfo,
    OutputInfo,
    SignalInfo,
    StaticInfo,
    VerifiedInfo,
)
from gatescope.server.repository.entry import Entry
from gatescope.spec import Spec


async def list_models(request: Request) -> Reply:
    """Every model of the server, also those that could not be loaded, with the reason."""
    return reply.of_schema(ModelList(models=[info(entry, None) for entry in request.context.engine.entries()]))


async def get_model(request: Request, name: str, version: str | None = None) -> Reply:
    """One model: its recurrent modules, what it takes and gives, and examples that are complete predict bodies."""
    return reply.of_schema(info(request.context.engine.entry(name), version))


def info(entry: Entry, version: str | None) -> ModelInfo:
    """What there is to know of a version, None for the one that answers by default."""
    chosen = entry.version(version)
    told = ModelInfo(
        name=entry.name,
        version=chosen,
        versions=entry.versions,
        state=entry.state(version),
        reason=entry.reason(version),
    )
    return told if chosen not in entry.loaded else told.model_copy(update=_of_loaded(entry.loaded[chosen]))


def _of_loaded(model: Model) -> dict[str, object]:
    return {
        "description": model.manifest.description,
        "task": model.manifest.task,
        "device": model.device,
        "dtype": model.dtype,
        "parameters": model.parameters,
        "fingerprint": model.fingerprint,
        "trace_method": model.trace_method,
        "cell": model.spec.cell.name,
        "signals": _signals(model.spec),
        "lstm": LSTMInfo(**_arguments(model.spec)),
        "lstms": [_named(name, model.pipeline.spec_of(name)) for name in model.pipeline.lstms],
        "modules": [_module(name, model.pipeline.spec_of(name)) for name in model.pipeline.lstms],
        "input": _input(model),
        "static": None if model.manifest.static is None else StaticInfo(feature_names=model.manifest.static.names),
        "output": _output(model),
        "window": model.manifest.window,
        "warmup_steps": model.manifest.warmup_steps,
        "missing": _missing(model),
        "verified": _verified(model),
        "ignored": list(model.manifest.ignored),
        "not_computed": [NotComputedInfo(**each.model_dump()) for each in model.manifest.not_computed],
        "examples": [ExampleInfo(**example) for example in model.examples],
    }


def _named(name: str, spec: Spec) -> NamedLSTMInfo:
    return NamedLSTMInfo(name=name, cell=spec.cell.name, signals=_signals(spec), **_arguments(spec))


def _module(name: str, spec: Spec) -> ModuleInfo:
    return ModuleInfo(
        name=name,
        cell=spec.cell.name,
        spec=LSTMInfo(**_arguments(spec)),
        states=list(spec.cell.states),
        signals=_signals(spec),
    )


def _arguments(spec: Spec) -> dict[str, Any]:
    return spec.arguments | spec.cell.stated


def _missing(model: Model) -> dict[str, str | float] | None:
    inputs = model.manifest.input
    return inputs.missing or None if isinstance(inputs, FeatureInputs) else None


def _verified(model: Model) -> VerifiedInfo | None:
    return None if model.verified is None else VerifiedInfo.model_validate(model.verified, from_attributes=True)


def _signals(spec: Spec) -> list[SignalInfo]:
    return [
        SignalInfo(
            name=signal.name,
            symbol=signal.symbol,
            low=signal.low,
            high=signal.high,
            description=signal.description,
            on_request=signal.is_on_request or None,
        )
        for signal in spec.signals
    ]


def _input(model: Model) -> InputInfo:
    inputs = model.manifest.input
    if isinstance(inputs, FeatureInputs):
        return InputInfo(kind="features", feature_names=inputs.names, derived=inputs.derived or None, text=False)
    return InputInfo(kind="tokens", vocabulary_size=len(model.vocabulary or ()), text=model.reads_text)


def _output(model: Model) -> OutputInfo:
    heads, head = [_head(config) for config in model.manifest.heads], model.manifest.head
    if head is None:
        return OutputInfo(kind="output", heads=heads)
    first = heads[0].model_dump(include={"kind", "names", "predicts", "quantiles"})
    labels = list(model.labels) or None  # those of a next-token head are the vocabulary
    return OutputInfo(**first, labels=labels, heads=heads)


def _head(config: HeadConfig) -> HeadInfo:
    told = HeadInfo(
        name=config.name,
        kind=config.task,
        names=list(config.names) or None,
        labels=list(config.labels) or None,
        quantiles=list(config.quantiles) or None,
        units=list(config.units) or None,
    )
    if config.task in {"binary", "multi_label"}:
        told.threshold = config.threshold
    if config.task != "classification":
        told.predicts = "next_step" if predicts_next_step(config) else "same_step"
    return told
