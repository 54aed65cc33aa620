"""`nodes_of`: a model's configuration -> its layers in the order in which they run, those of models inside it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatescope.checkpoints.keras.calls import Call, calls_of, entry_name, in_model, reference_of, references_of
from gatescope.checkpoints.keras.classes import (
    COMBINES,
    COMPARES,
    INPUT,
    MODELS,
    OF_OPERATIONS,
    OPERATIONS,
    STORED,
    check_builtin,
    numbered,
    refusal,
)
from gatescope.errors import CheckpointError
from gatescope.names import listed, printable, quoted

MOST_LAYERS = 1000
MOST_LEVELS = 8


@dataclass(frozen=True)
class Node:
    """One layer where it is called."""

    name: str  # unique; of a layer in a model inside the model after both
    kind: str  # its class
    stated: Mapping[str, Any]  # its configuration
    inputs: tuple[str, ...]  # the values that it reads
    place: str  # where a `.keras` file has it, such as "layers/lstm"
    top: str  # the layer of the outermost model that it belongs to
    trainable: bool
    weights: str  # the first call of the same layer, by name; its own name where it is called once
    arguments: tuple[Any, ...] = ()  # what an operation is given beside values


@dataclass(frozen=True)
class Given:
    """An input of the model."""

    name: str
    shape: tuple[int | None, ...] | None  # without the batch; None where the file does not say
    dtype: str


@dataclass
class Nodes:
    """A model without models inside."""

    layers: list[Node] = field(default_factory=list)
    """In the order in which they run."""
    inputs: list[Given] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """Values, which are called after the node that gives them, or after an input."""
    names: set[str] = field(default_factory=set)
    """Of all layers and inputs."""

    def claim(self, name: str) -> str:
        """Take a name; raises `CheckpointError` where it is taken."""
        if name in self.names:
            raise CheckpointError(f"it has two layers {quoted(name)}")
        self.names.add(name)
        return name


def nodes_of(config: Mapping[str, Any]) -> Nodes:
    """The layers of a model.

    Raises:
        CheckpointError: it is a subclass of `Model`, holds layers that are not known or that read each other in a
            circle, or the configuration is damaged.
    """
    kind = config.get("class_name")
    if not isinstance(kind, str) or kind not in MODELS:
        raise CheckpointError(
            f"it is {quoted(kind)}, a class of one's own, whose code is not in the file: build the same model with "
            "keras.Sequential or keras.Model(inputs, outputs), and save that"
        )
    check_builtin(config, str(config.get("name", "model")), kind)
    flat = Nodes()
    flat.outputs = _Model(flat, "", "", "", trainable=True).run(kind, _config(config), None)
    if not flat.inputs:
        flat.inputs.append(Given("input", None, "float32"))
    return flat


@dataclass
class _Model:
    """A model, the outermost or one inside it, whose layers are put to the flat list."""

    flat: Nodes
    prefix: str  # before the names of its layers
    place: str  # before the places of its layers
    top: str  # the layer of the outermost model that it is; empty of that itself
    trainable: bool
    level: int = 0

    def run(self, kind: str, config: Mapping[str, Any] | list[Any], given: Sequence[str] | None) -> list[str]:
        """The values that it gives for these values; None makes inputs of the model of them."""
        if self.level > MOST_LEVELS:
            raise CheckpointError(f"it has models inside models, more than {MOST_LEVELS} deep")
        listing = config.get("layers") if isinstance(config, Mapping) else config
        if not isinstance(listing, list) or not listing:
            raise CheckpointError("it has a model without layers")
        if len(listing) > MOST_LAYERS or len(self.flat.layers) > MOST_LAYERS:
            raise CheckpointError(f"it has more than {MOST_LAYERS} layers")
        entries = [_entry(each) for each in listing]
        if kind == "Sequential":
            return self._chain(entries, config, given)
        if not isinstance(config, Mapping):
            raise CheckpointError("its configuration is damaged")
        return self._graph(entries, config, given)

    def _chain(
        self, entries: list[dict[str, Any]], config: Mapping[str, Any] | list[Any], given: Sequence[str] | None
    ) -> list[str]:
        places = self._places([entry for entry in entries if entry["class_name"] != INPUT])
        built = config.get("build_input_shape") if isinstance(config, Mapping) else None
        first = entries[0]
        shape = _shape(_config(first)) if isinstance(_config(first), Mapping) else None
        if given is None:
            shape = shape if shape is not None else _listed_shape(built)
            is_input = first["class_name"] == INPUT
            values = [self._input(first if is_input else {"name": f"{entry_name(first)}_input"}, shape)]
        else:
            values = list(given)
        rest = [entry for entry in entries if entry["class_name"] != INPUT]
        if any(entry["class_name"] == INPUT for entry in entries[1:]) or len(values) != 1 or not rest:
            raise CheckpointError("it has a Sequential model with several inputs, or without layers")
        for entry, place in zip(rest, places, strict=True):
            values = self._called(entry, place, Call([]), values, 0)
            if len(values) != 1:
                raise CheckpointError(
                    f"its layer {quoted(entry_name(entry))} gives several values in a Sequential model"
                )
        return values

    def _graph(
        self, entries: list[dict[str, Any]], config: Mapping[str, Any], given: Sequence[str] | None
    ) -> list[str]:
        layers = [entry for entry in entries if entry["class_name"] not in OPERATIONS]
        places = dict(zip((entry_name(entry) for entry in layers), self._places(layers), strict=True))
        if len(places) < len(layers):
            raise CheckpointError("it has two layers of the same name")
        by_name = {entry_name(entry): entry for entry in entries}
        values: dict[tuple[str, int], list[str]] = {}
        ports = [reference_of(each) for each in references_of(config.get("input_layers"))]
        if given is not None and len(given) != len(ports):
            raise CheckpointError(
                f"its model {quoted(self.prefix)} takes {len(ports)} inputs, but is given {len(given)}"
            )
        for index, (name, _, _) in enumerate(ports):
            entry = by_name.get(name, {})
            if entry.get("class_name") != INPUT:
                raise CheckpointError(f"its input {quoted(name)} is no layer of it")
            made = given[index] if given is not None else self._input(entry, _shape(_config(entry)))
            values[name, 0] = [made]
        models = {name for name, entry in by_name.items() if entry["class_name"] in MODELS}
        waiting = [
            (entry, number, in_model(call, models))
            for entry in entries
            if entry["class_name"] != INPUT
            for number, call in enumerate(calls_of(entry))
        ]
        for entry, _, call in waiting:
            if any(by_name.get(name, {}).get("class_name") not in {COMPARES, *COMBINES} for name in call.masks):
                raise CheckpointError(f"its layer {quoted(entry_name(entry))} is given a mask that is not Keras's own")
        self._run_all(waiting, values, places)
        outputs = in_model(Call([reference_of(each) for each in references_of(config.get("output_layers"))]), models)
        return [self._value(values, each) for each in outputs.reads]

    def _run_all(
        self,
        waiting: list[tuple[dict[str, Any], int, Call]],
        values: dict[tuple[str, int], list[str]],
        places: Mapping[str, str],
    ) -> None:
        """Call every layer, those first whose inputs are there."""
        while waiting:
            later = []
            for entry, number, call in waiting:
                if any((name, number_read) not in values for name, number_read, _ in call.reads):
                    later.append((entry, number, call))
                    continue
                name = entry_name(entry)
                read = [self._value(values, each) for each in call.reads]
                values[name, number] = self._called(entry, places.get(name, ""), call, read, number)
            if len(later) == len(waiting):
                names = listed([entry_name(entry) for entry, _, _ in later])
                raise CheckpointError(f"its layers {names} read each other in a circle, or what is not there")
            waiting = later

    def _value(self, values: Mapping[tuple[str, int], list[str]], read: tuple[str, int, int]) -> str:
        name, call, output = read
        found = values.get((name, call), [])
        if output >= len(found):
            raise CheckpointError(
                f"what reads its layer {quoted(name)} takes output {output}, such as a state (return_state): only the "
                "first output of a layer is served"
            )
        return found[output]

    def _called(self, entry: dict[str, Any], place: str, call: Call, given: list[str], number: int) -> list[str]:
        """What a layer gives for these values."""
        name, kind, config = entry_name(entry), entry["class_name"], _config(entry)
        own = f"{self.prefix}{name}"
        trainable = self.trainable and bool(not isinstance(config, Mapping) or config.get("trainable", True))
        top = self.top or name
        if kind in MODELS:
            if number:
                raise CheckpointError(f"its model {quoted(own)} is called several times, which is not served")
            inner = _Model(self.flat, f"{own}.", f"{place}/", top, trainable, self.level + 1)
            return inner.run(kind, config, given)
        if not isinstance(config, Mapping):
            raise CheckpointError(f"its layer {quoted(own)} has no configuration")
        called = self.flat.claim(f"{own}.{number}" if number else own)
        self.flat.layers.append(Node(called, kind, config, tuple(given), place, top, trainable, own, call.arguments))
        return [called]

    def _input(self, entry: Mapping[str, Any], shape: tuple[int | None, ...] | None) -> str:
        name = self.flat.claim(entry_name(entry))
        config = entry.get("config")
        dtype = config.get("dtype") if isinstance(config, Mapping) else None
        self.flat.inputs.append(Given(name, shape, dtype if isinstance(dtype, str) else "float32"))
        return name

    def _places(self, entries: Sequence[Mapping[str, Any]]) -> list[str]:
        """Where a `.keras` file has each layer."""
        return [f"{self.place}layers/{name}" for name in numbered([entry["class_name"] for entry in entries])]


def _entry(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("class_name"), str):
        raise CheckpointError("its configuration lists what is no layer: it is damaged, save the model again")
    kind, name = given["class_name"], entry_name(given)
    check_builtin(given, name, kind)
    is_operation = str(given.get("module")).startswith(OF_OPERATIONS)  # such as ops.add, which is no Add layer
    if kind not in OPERATIONS and (is_operation or kind not in STORED):
        raise CheckpointError(refusal(name, kind))
    return given


def _config(entry: Mapping[str, Any]) -> Mapping[str, Any] | list[Any]:
    config = entry.get("config")
    if not isinstance(config, Mapping | list):
        raise CheckpointError("its configuration has a layer without one: it is damaged, save the model again")
    return config


def _shape(config: Mapping[str, Any] | list[Any]) -> tuple[int | None, ...] | None:
    """Of an input, without the batch."""
    if not isinstance(config, Mapping):
        return None
    return _listed_shape(config.get("batch_shape", config.get("batch_input_shape")))


def _listed_shape(shape: Any) -> tuple[int | None, ...] | None:
    if not isinstance(shape, list | tuple) or len(shape) < 2:  # noqa: PLR2004 - the batch and one more
        return None
    if any(each is not None and (type(each) is not int or each < 1) for each in shape[1:]):
        raise CheckpointError(f"its input has the shape {printable(str(shape))}, which cannot be")
    return tuple(shape[1:])
