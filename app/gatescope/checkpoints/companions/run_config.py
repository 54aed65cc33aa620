"""`RunConfig`: the configuration of a neuralhydrology run, and why its model cannot be served where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gatescope.checkpoints.companions.plain import Unreadable, listed, nearest, shown

CELLS = {
    "cudalstm": "nn.LSTM",
    "embcudalstm": "nn.LSTM",
    "customlstm": "its own LSTM cell, with the equations of nn.LSTM",
    "lstm": "its own LSTM cell, with the equations of nn.LSTM",
}
"""The models that are one LSTM over dynamic inputs and static attributes; `lstm` is the old name of `customlstm`."""

REFUSED = {
    "ealstm": "its input gate reads the static attributes alone, which nn.LSTM has not",
    "gru": "it is a GRU, and a manifest's layers have none",
    "mclstm": "its cell conserves mass, which nn.LSTM does not",
    "mtslstm": "it has an LSTM for each time scale",
    "odelstm": "its states follow an ordinary differential equation between the steps",
    "transformer": "it is no recurrent network",
    "mamba": "it is a state space model",
    "arlstm": "it reads its own last prediction where an observation is missing",
    "handoff_forecast_lstm": "it hands the states of one LSTM to another",
    "multihead_forecast_lstm": "it has a forecast LSTM behind its hindcast LSTM",
    "sequential_forecast_lstm": "it has a forecast LSTM behind its hindcast LSTM",
    "stacked_forecast_lstm": "it has a forecast LSTM behind its hindcast LSTM",
    "hybridmodel": "it drives a conceptual model",
}
"""Other models of neuralhydrology, and why they cannot be served."""

HEADS = ("regression", "gmm", "cmal")
_MIXTURES = "its head gives the parameters of a mixture distribution"
ACTIVATIONS = ("linear", "relu", "softplus")

_UNSUPPORTED = {
    "use_basin_id_encoding": "the model also reads which basin it is, one-hot",
    "hindcast_inputs": "the model reads hindcasts and forecasts apart",
    "forecast_inputs": "the model reads hindcasts and forecasts apart",
    "autoregressive_inputs": "the model reads its own earlier predictions",
    "mass_inputs": "the model conserves mass",
    "nan_handling_method": "the model reads groups of inputs that may be missing",
    "timestep_counter": "the model also reads a counter of time steps",
}
"""Settings under which the LSTM reads more than is computed here."""

_KEYS = ("model", "dynamic_inputs", "seq_length")
_FREQUENCY_KEYS = ("dynamic_inputs", "seq_length", "predict_last_n", "hidden_size")
_LARGEST = 1_000_000
_MOST_LAYERS = 32


@dataclass(frozen=True)
class Embedding:
    """A fully connected network in front of the LSTM."""

    sizes: tuple[int, ...]
    """Of its linear layers' outputs."""
    activation: str
    """Between them."""


@dataclass(frozen=True)
class RunConfig:
    """What of a run's configuration says how its model computes."""

    model: str
    dynamic: tuple[str, ...]
    static: tuple[str, ...]
    """In the order in which the model reads them: attributes by the alphabet, then evolving ones."""
    targets: tuple[str, ...]
    clipped: frozenset[str]
    hidden_size: int
    window: int
    predict_last_n: int
    head: str
    activation: str
    statics_embedding: Embedding | None
    dynamics_embedding: Embedding | None
    notes: tuple[str, ...]


def is_run(config: Any) -> bool:
    """Whether this is the configuration of a neuralhydrology run."""
    has_targets = isinstance(config, Mapping) and ("target_variables" in config or "target_variable" in config)
    return has_targets and all(key in config for key in _KEYS)


def read_config(config: Mapping[str, Any]) -> RunConfig:
    """The parts of a configuration that are needed.

    Raises:
        Unreadable: its model is not one LSTM, or a setting is not what neuralhydrology writes; the key is named.
    """
    return _Reader(config).read()


class _Reader:
    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._notes: list[str] = []

    def read(self) -> RunConfig:
        model = self._model()
        self._refuse_unsupported()
        targets = self._names("target_variables", "target_variable")
        if not targets:
            raise Unreadable("target_variables is empty: the run predicts nothing")
        if not (dynamic := self._dynamic()):
            raise Unreadable("dynamic_inputs is empty: the run reads nothing")
        static, embedded = self._static(), self._embedding("statics_embedding")
        if embedded is None and model == "embcudalstm":
            raise Unreadable("model: embcudalstm has an embedding, but statics_embedding does not say which")
        if embedded is not None and not static:
            raise Unreadable("statics_embedding: the run has no static attributes to embed")
        window, last = self._whole("seq_length"), self._whole("predict_last_n", 1)
        return RunConfig(
            model=model,
            dynamic=dynamic,
            static=static,
            targets=targets,
            clipped=self._clipped(targets),
            hidden_size=self._whole("hidden_size"),
            window=window,
            predict_last_n=last,
            head=self._head(),
            activation=self._activation(),
            statics_embedding=embedded,
            dynamics_embedding=self._embedding("dynamics_embedding"),
            notes=tuple(self._notes),
        )

    def _model(self) -> str:
        model = str(self._config["model"]).lower()
        if model in CELLS:
            return model
        if model in REFUSED:
            raise Unreadable(f"model: {model} cannot be served, as {REFUSED[model]}; {listed(CELLS)} can")
        raise Unreadable(
            f"model: {shown(model)} is not known{nearest(model, list(CELLS))}; {listed(CELLS)} can be served"
        )

    def _refuse_unsupported(self) -> None:
        for key, reason in _UNSUPPORTED.items():
            if self._config.get(key):
                raise Unreadable(f"{key}: {reason}, which cannot be served; train without it")

    def _dynamic(self) -> tuple[str, ...]:
        value = self._of_one_frequency("dynamic_inputs")
        if isinstance(value, list) and value and all(isinstance(group, list) for group in value):
            value = [name for group in value for name in group]
        return self._checked_names("dynamic_inputs", value)

    def _static(self) -> tuple[str, ...]:
        given = self._names("static_attributes", "camels_attributes") + self._names("hydroatlas_attributes")
        ordered = tuple(sorted(given))
        if ordered != given:
            self._notes.append(
                f"Static attributes: read in alphabetical order ({listed(ordered)}), as neuralhydrology feeds them; "
                "config.yml lists them in another."
            )
        evolving = self._names("evolving_attributes", "static_inputs")
        if evolving:
            self._notes.append(
                f"Evolving attributes ({listed(evolving)}) are static inputs here: their values at the last step."
            )
        repeated = [name for name in ordered if name in evolving or ordered.count(name) > 1]
        if repeated:
            raise Unreadable(f"static_attributes: {shown(repeated[0])} stands there twice")
        return ordered + evolving

    def _clipped(self, targets: tuple[str, ...]) -> frozenset[str]:
        clipped = self._names("clip_targets_to_zero")
        for name in clipped:
            if name not in targets:
                raise Unreadable(f"clip_targets_to_zero: {shown(name)} is no target{nearest(name, targets)}")
        return frozenset(clipped)

    def _head(self) -> str:
        head = str(self._config.get("head", "")).lower()
        if head == "umal":
            raise Unreadable("head: umal cannot be served, as its LSTM also reads the quantile that is asked for")
        if head not in HEADS:
            raise Unreadable(f"head: {shown(head)} is not known; regression can be served, and gmm and cmal without it")
        if head != "regression":
            self._notes.append(f"Head: left out, as {_MIXTURES} ({head}); the LSTM alone is served.")
        return head

    def _activation(self) -> str:
        given = self._config.get("output_activation") or "linear"
        activation = str(given).lower()
        if activation not in ACTIVATIONS:
            self._notes.append(f"Output activation: linear, as neuralhydrology ignores {shown(given)}.")
            return "linear"
        return activation

    def _embedding(self, key: str) -> Embedding | None:
        stated = self._config.get(key)
        if not stated:
            return None
        if stated is True:  # as before version 0.9.11
            stated = {
                "hiddens": self._config.get("embedding_hiddens"),
                "activation": self._config.get("embedding_activation", "tanh"),
            }
        if not isinstance(stated, Mapping) or str(stated.get("type", "fc")).lower() != "fc":
            raise Unreadable(f"{key}: {shown(stated)} cannot be served; a fully connected network (type: fc) can")
        hiddens = stated.get("hiddens")
        sizes: list[Any] = hiddens if isinstance(hiddens, list) else [hiddens]
        if not 1 <= len(sizes) <= _MOST_LAYERS or not all(_is_size(size) for size in sizes):
            raise Unreadable(f"{key}.hiddens is {shown(hiddens)}, not a list of sizes")
        activation = stated.get("activation", "tanh")
        if isinstance(activation, list) and len(set(map(str, activation))) == 1:
            activation = activation[0]
        if activation not in ("tanh", "sigmoid", "relu", "linear"):
            raise Unreadable(f"{key}.activation is {shown(activation)}; tanh, sigmoid, relu and linear can be served")
        return Embedding(tuple(sizes), activation)

    def _whole(self, key: str, default: int | None = None) -> int:
        value = self._of_one_frequency(key, default)
        if not _is_size(value):
            raise Unreadable(f"{key} is {shown(value)}, not a whole number above 0")
        return int(value)

    def _names(self, key: str, old_key: str | None = None) -> tuple[str, ...]:
        """A list of names, empty where there is none; `old_key` is what older versions called it."""
        used = key if key in self._config or old_key is None else old_key
        value = self._config.get(used)
        return self._checked_names(used, [] if value is None else value)

    def _checked_names(self, key: str, value: Any) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise Unreadable(f"{key} is {shown(value)}, not a list of names")
        if len(set(names)) < len(names):
            raise Unreadable(f"{key} has {shown(next(name for name in names if names.count(name) > 1))} twice")
        return tuple(names)

    def _of_one_frequency(self, key: str, default: Any = None) -> Any:
        """The value, of which there is one for each frequency where there are several."""
        value = self._config.get(key, default)
        if key in _FREQUENCY_KEYS and isinstance(value, Mapping):
            if len(value) != 1:
                raise Unreadable(
                    f"{key}: the run has {len(value)} frequencies ({listed(value)}), and one can be served"
                )
            (value,) = value.values()
        return value


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST
