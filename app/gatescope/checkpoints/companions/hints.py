"""`Hints`: what configurations beside a checkpoint say about the model, as the options of an import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from gatescope.checkpoints.companions.plain import shown

MOST_DEPTH = 4
MOST_VISITED = 10_000
MOST_NAMES = 100_000
_LONGEST_NAME = 1000
_LARGEST = 1_000_000_000

_SIZES = {
    "hidden_size": ("hidden_size", "hidden_dim", "hidden_units", "hidden_channels", "n_hidden", "lstm_hidden_size"),
    "num_layers": ("num_layers", "n_layers", "num_lstm_layers", "lstm_layers", "num_hidden_layers", "n_rnn_layers"),
    "input_size": ("input_size", "input_dim", "n_features", "num_features", "in_features"),
    "output_size": ("output_size", "output_dim", "out_features", "num_classes", "n_classes", "num_labels", "n_targets"),
    "vocabulary_size": ("vocab_size", "vocabulary_size", "n_vocab", "num_embeddings", "ntoken", "n_tokens"),
    "window": ("seq_len", "seq_length", "sequence_length", "window_size", "lookback", "window", "n_steps"),
}
_SWITCHES = {
    "bidirectional": ("bidirectional", "bidir", "is_bidirectional"),
    "lowercase": ("lowercase", "do_lower_case", "lower"),
}
_NAMES = {
    "features": ("features", "feature_names", "feature_columns", "feature_cols", "input_features", "input_columns"),
    "outputs": ("targets", "target", "target_names", "target_columns", "target_cols", "target_col", "output_names"),
}


@dataclass(frozen=True)
class Hints:
    """What is said about a model; None or empty is not said. Sizes are to be held against the weights."""

    features: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    task: str | None = None
    """As in a manifest."""
    lowercase: bool | None = None
    bidirectional: bool | None = None
    hidden_size: int | None = None
    num_layers: int | None = None
    input_size: int | None = None
    output_size: int | None = None
    vocabulary_size: int | None = None
    window: int | None = None

    def over(self, other: Hints) -> Hints:
        """These, and where they say nothing, the others."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(other, **{name: value for name, value in said.items() if value not in (None, ())})


def read_hints(data: Any) -> tuple[Hints, tuple[str, ...]]:
    """What hyperparameters say, wherever in the data they stand, and a note for each that is said in two ways.

    Args:
        data: plain data: a configuration, or what stands beside the weights of a checkpoint.
    """
    found: dict[str, Any] = {}
    notes: list[str] = []
    named = list(_walk(data))
    for hint, keys, read in _kinds():
        said = {path: value for path, key, raw in named if key in keys and (value := read(raw)) is not None}
        if len(set(said.values())) == 1:
            found[hint] = next(iter(said.values()))
        elif said:
            ways = ", ".join(f"{path} = {shown(value)}" for path, value in list(said.items())[:3])
            notes.append(f"The configuration says {hint} in {len(said)} ways ({ways}); none is taken.")
    return Hints(**found), tuple(notes)


def _kinds() -> Iterator[tuple[str, tuple[str, ...], Any]]:
    for kinds, read in ((_SIZES, _size), (_SWITCHES, _switch), (_NAMES, names_of)):
        for hint, keys in kinds.items():
            yield hint, keys, read


def names_of(value: Any) -> tuple[str, ...] | None:
    """A list of names, or one name; None of anything else, or where a name stands twice."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not 0 < len(names) <= MOST_NAMES:
        return None
    usable = all(isinstance(name, str) and name.isprintable() and 0 < len(name) <= _LONGEST_NAME for name in names)
    return tuple(names) if usable and len(set(names)) == len(names) else None


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST else None


def _switch(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _walk(data: Any) -> Iterator[tuple[str, str, Any]]:
    """The path, key and value of each entry of nested mappings; bounded in depth and number."""
    waiting = [("", data, 0)]
    visited = 0
    for path, value, depth in waiting:
        if not isinstance(value, Mapping):
            continue
        for key, each in value.items():
            visited += 1
            if visited > MOST_VISITED:
                return
            if isinstance(key, str):
                yield f"{path}{key}", key.lower(), each
                if depth < MOST_DEPTH and isinstance(each, Mapping):
                    waiting.append((f"{path}{key}.", each, depth + 1))
