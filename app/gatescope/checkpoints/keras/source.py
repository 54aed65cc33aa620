"""`KerasSource`: a Keras file as an import takes it; its configuration says every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from gatescope.checkpoints.formats.checkpoint import Checkpoint
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.keras.model import KerasModel, read
from gatescope.checkpoints.structure import infer_manifest
from gatescope.checkpoints.structure.arrange import Arrangement, refuse
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.infer_manifest import Shapes
from gatescope.checkpoints.structure.inputs import Inputs, inputs_for
from gatescope.checkpoints.structure.interpret import Interpretation
from gatescope.checkpoints.structure.options import Options, given
from gatescope.checkpoints.understand import Understood
from gatescope.errors import InvalidInput, Place
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.layers import LayerConfig
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_v1 import ManifestV1
from gatescope.pipeline.tokens import TokenInputs

_STATED = ("layers", "prefix", "join", "embedding", "head", "steps", "activation", "output_activation", "ignore")
"""Options about what the configuration says."""

_OF_A_HEAD = ("task", "outputs", "predicts", "labels", "quantiles")
_LONGEST_DESCRIPTION = 200


@dataclass(frozen=True)
class KerasSource:
    """A file that Keras wrote."""

    path: Path
    graph: None = None
    """Of layers, not of a graph."""
    notes: tuple[str, ...] = ()

    @cached_property
    def model(self) -> KerasModel:
        """What it holds; raises `CheckpointError`."""
        return read(self.path)

    def read(self) -> Checkpoint:
        """The weights under PyTorch's names; raises `CheckpointError`."""
        return Checkpoint(self.model.weights, self.model.notes)

    def check(self, stated: Manifest | ManifestV1, options: Options) -> None:
        """Refuse a version of a model whose manifest says something else, as weights do not show all of what is said.

        Raises:
            InvalidInput: the layers differ, or how inputs are scaled or masked.
        """
        self._check_options(options)
        own = Manifest.model_validate(self._stub()).layers
        if not isinstance(stated, Manifest) or _dumped(stated.layers) != _dumped(own):
            _refuse_version("has other layers than this file")
        self._check_inputs(stated.input)

    def _check_inputs(self, stated: FeatureInputs | TokenInputs) -> None:
        model = self.model
        skipped = stated.masked if isinstance(stated, FeatureInputs) else stated.padding
        if skipped != (model.padding if model.reads_tokens else model.masked):
            _refuse_version("masks other steps than this file")
        if model.scaling is None or not isinstance(stated, FeatureInputs):
            return
        for feature, mean, std in zip(stated.features, *model.scaling, strict=True):
            if (feature.mean, feature.std) != (float(mean), float(std)):
                _refuse_version(f"scales '{feature.name}' otherwise than this file")

    def understood(
        self,
        contents: Contents,  # noqa: ARG002 - as any source
        read: Checkpoint,  # noqa: ARG002 - likewise
        options: Options,
        sample: GivenSample | None,
    ) -> Understood:
        """The manifest that serves the weights; raises `InvalidInput`."""
        self._check_options(options)
        model, notes = self.model, list[str]()
        if model.static_width is not None and not options.static:
            options = replace(options, static=tuple(f"static_{index}" for index in range(model.static_width)))
            notes.append("Static inputs: static_0 … (--static a,b,… for their names).")
        if len(options.static) != (model.static_width or 0):
            refuse(
                "static", f"has {len(options.static)} entries, but the model takes {model.static_width or 0} of them"
            )
        inputs = inputs_for(
            options,
            {},
            sample,
            rows=model.width if model.reads_tokens else None,
            width=model.width + len(options.static),
            owner="the embedding",
        )
        stated, said = self._stated(options, inputs)
        if sample is None:
            stated["examples"] = infer_manifest.EXAMPLES
        made = infer_manifest.validated(stated)
        return Understood(made, inputs.entries, None, (*notes, *inputs.notes, *said), sample)

    def _check_options(self, options: Options) -> None:
        for name in given(options, _STATED):
            refuse(name, "the configuration in the file says this: leave it out")

    def _stub(self) -> dict[str, Any]:
        stub_input = {"kind": "tokens", "vocabulary": "ids", "size": 1}
        return {"description": "-", "input": stub_input, "layers": list(self.model.layers)}

    def _stated(self, options: Options, inputs: Inputs) -> tuple[dict[str, Any], list[str]]:
        """The manifest as TOML has it, and what was guessed."""
        model = self.model
        first, *others = model.outputs
        described = replace(options, description=options.description or self._description())
        notes: list[str] = []
        stated, said = infer_manifest.stated(*self._output(first, described, notes), inputs)
        notes += said
        stated["layers"] = list(model.layers)
        stated["heads"][0]["layer"] = first
        for index, output in enumerate(others, start=1):
            own: list[str] = []
            head, said = infer_manifest.head_of(*self._output(output, Options(), own), inputs)
            stated["heads"].append({**head, "name": f"head_{index}", "layer": output})
            notes += [f"{output}: {note}" for note in (*own, *said)]
        if model.window is not None:
            stated["window"] = model.window
            notes.append(
                f"Window: built for {model.window} steps; of a longer sequence, a prediction for all of it reads the "
                f"last {model.window}."
            )
        self._complete(stated["input"])
        return stated, notes

    def _output(self, layer: str, options: Options, notes: list[str]) -> tuple[Interpretation, Shapes, Options]:
        """What is known of an output: its layer last, its shape, and its task where the function tells it."""
        model, shape = self.model, self.model.shapes[layer]
        made = next(each for each in model.layers if each["name"] == layer)
        read = Interpretation((made,), Arrangement(None, (), (), "stacked", ()), predicts=True)
        if made.get("function") == "sigmoid" and not given(options, _OF_A_HEAD):
            task, values = ("binary", "one value") if shape.width == 1 else ("multi_label", f"{shape.width} values")
            notes.append(f"Task: {task}, as it ends in a sigmoid of {values} (--task).")
            options = replace(options, task=task)
        return read, Shapes(model.width, shape.width, shape.is_sequence), options

    def _complete(self, stated: dict[str, Any]) -> None:
        """Put into [input] what the model skips and how it scales its inputs, behind the scaler where there is one."""
        model = self.model
        if model.padding is not None:
            stated["padding"] = model.padding
        if model.masked is not None:
            stated["masked"] = model.masked
        if model.scaling is None:
            return
        if len(model.scaling[0]) != len(stated["features"]):
            refuse("features", f"has {len(stated['features'])} entries, but the model scales {len(model.scaling[0])}")
        for feature, mean, std in zip(stated["features"], *model.scaling, strict=True):
            before, by = feature.get("mean", 0.0), feature.get("std", 1.0)
            feature |= {"mean": before + float(mean) * by, "std": by * float(std)}

    def _description(self) -> str:
        names = " → ".join(layer["name"] for layer in self.model.layers)
        return names if len(names) <= _LONGEST_DESCRIPTION else f"{names[:_LONGEST_DESCRIPTION]} …"


def _dumped(layers: Sequence[LayerConfig]) -> list[dict[str, Any]]:
    return [layer.model_dump() for layer in layers]


def _refuse_version(difference: str) -> NoReturn:
    message = f"the model that is there {difference}: import it under another name, or --force"
    raise InvalidInput.at(Place(("name",), message))
