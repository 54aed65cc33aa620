"""`Sample`: inputs, and what the training code computed of them; a version's predictions are held against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from gatescope import gaps, padding
from gatescope.errors import ManifestError, WeightsError
from gatescope.pipeline.config import Config
from gatescope.pipeline.features import FeatureInputs
from gatescope.pipeline.pipeline import Pipeline
from gatescope.pipeline.query import Query
from gatescope.pipeline.tokens import TokenInputs
from gatescope.pipeline.vocabulary import UnknownToken, Vocabulary
from gatescope.state import State

FILE = "sample.json"
"""Beside a version's weights."""

DEFAULT_TOLERANCE = 1e-5
MAX_TOLERANCE = 1e-2
_FIELDS = frozenset({"inputs", "text", "static_inputs", "initial_state"})

LOAD_FACTOR = 10
"""A check at load allows so many times the tolerance: another device sums in another order."""


class Sample(Config):
    """`models/<name>/<version>/sample.json`."""

    title: str = "The sample that its predictions were compared with"
    """What it shows, as the title of an example."""

    request: dict[str, Any]
    """A predict body: `inputs` or `text`, and where the model takes them `static_inputs` and `initial_state`."""

    expected: list[Any]
    """The first head's values as the training code computed them, [batch][step][value] or [batch][value]; of a model
    without a head the recurrent layer's output, [batch][step][unit]."""

    tolerance: float = Field(default=DEFAULT_TOLERANCE, gt=0, le=MAX_TOLERANCE)
    """How far apart the two may be when the sample is taken: the largest difference, divided by the largest value."""

    max_error: float | None = Field(default=None, ge=0)
    """How far apart they were when it was taken."""

    @property
    def example(self) -> dict[str, Any]:
        """It as one of the model's examples."""
        return {"title": self.title, "request": self.request}

    @classmethod
    def read(cls, version: Path) -> Sample | None:
        """The sample in a version's folder, None where there is none.

        Raises:
            ManifestError: it cannot be read; the place is named.
        """
        path = version / FILE
        try:
            return cls.model_validate(orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ManifestError(f"{version.name}/{FILE} cannot be read: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise ManifestError(f"{version.name}/{FILE} is not JSON: {error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise ManifestError(f"{version.name}/{FILE}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@dataclass(frozen=True)
class Verified:
    """How a version's predictions were compared with numbers of the training code."""

    max_error: float
    tolerance: float
    sample: str | None
    """The title of the example that is the sample, where it is one."""
    by: Literal["sample", "graph"] = "sample"
    """What says that the predictions are the training code's: a sample, or that the model is the exported graph."""


OF_A_GRAPH = Verified(max_error=0.0, tolerance=DEFAULT_TOLERANCE, sample=None, by="graph")
"""Of a model that is the graph that was exported, without a sample."""


def verify(sample: Sample, pipeline: Pipeline, vocabulary: Vocabulary | None) -> Verified:
    """Predict a sample and hold the prediction against what is expected.

    Raises:
        ManifestError: the sample does not fit the model.
        WeightsError: the prediction is further off than `LOAD_FACTOR` times the tolerance.
    """
    expected = _rows(sample.expected)
    query = to_query(sample.request, pipeline, vocabulary)
    with _fitting():
        given = predicted(pipeline, query)
    found = error_of(given, expected)
    if not found <= LOAD_FACTOR * sample.tolerance:
        raise WeightsError(
            f"its predictions are not those of {FILE}: the largest difference is {found:.3g} of the largest value, and "
            f"{LOAD_FACTOR} · {sample.tolerance:g} is allowed; import the weights again, with a new sample"
        )
    return Verified(found, sample.tolerance, sample.title)


def to_query(request: dict[str, Any], pipeline: Pipeline, vocabulary: Vocabulary | None) -> Query:
    """The query of a sample's request.

    Raises:
        ManifestError: the request cannot be read.
    """
    with _fitting():
        if surplus := sorted(request.keys() - _FIELDS):
            raise ValueError(f"a sample has no '{surplus[0]}'")
        sequences = _sequences(request, pipeline, vocabulary)
        inputs, lengths = padding.pad(sequences)
        static, state = request.get("static_inputs"), request.get("initial_state")
        return Query(
            inputs,
            lengths,
            initial_state=None if state is None else _state(state, pipeline),
            static_inputs=None if static is None else torch.tensor(static, dtype=torch.float64),
            prediction=pipeline.head is not None,
            output=pipeline.head is None,
        )


def predicted(pipeline: Pipeline, query: Query) -> list[np.ndarray]:
    """The first head's values of each sequence, or the output of a model without one."""
    answer = pipeline.answer(query)
    if answer.prediction is not None:
        return _cut(answer.prediction.values, answer.prediction.steps)
    if answer.output is None:
        raise TypeError("the answer holds neither a prediction nor an output")
    return _cut(answer.output, answer.sequence_lengths)


def error_of(given: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The largest difference, divided by the largest expected value; infinite where shapes differ or values are NaN."""
    if [each.shape for each in given] != [each.shape for each in expected]:
        return np.inf
    difference = max(float(np.abs(one - other).max(initial=0.0)) for one, other in zip(given, expected, strict=True))
    largest = max(float(np.abs(each).max(initial=0.0)) for each in expected)
    if np.isnan(difference) or np.isnan(largest):
        return np.inf
    return difference / largest if largest else (0.0 if difference == 0 else np.inf)


@contextmanager
def _fitting() -> Iterator[None]:
    """What a request that does not fit the model raises here and there becomes `ManifestError`."""
    try:
        yield
    except UnknownToken as error:
        raise ManifestError(f"the request of {FILE} has the token {error.token!r}, which is not known") from error
    except KeyError as error:
        raise ManifestError(f"the request of {FILE} has no {error}") from error
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise ManifestError(f"the request of {FILE} does not fit the model: {error}") from error


def _sequences(request: dict[str, Any], pipeline: Pipeline, vocabulary: Vocabulary | None) -> list[Tensor]:
    """One tensor for each sequence: (time, feature), or (time,) of token ids."""
    if "text" in request:
        if vocabulary is None:
            raise ValueError("it has a text, but the model reads none")
        texts = [request["text"]] if isinstance(request["text"], str) else request["text"]
        return [torch.tensor(vocabulary.encode(vocabulary.split(text))) for text in texts]
    inputs = request["inputs"]
    step = () if vocabulary is not None else (len(pipeline.inputs.names),)  # type: ignore[union-attr]
    dtype = np.float64 if vocabulary is None else np.int64
    batch = [inputs] if _axes(inputs) == 1 + len(step) else inputs  # a lone sequence is a batch of one
    sequences = [torch.from_numpy(np.array(sequence, dtype=dtype)) for sequence in batch]
    for sequence in sequences:
        if not sequence.numel() or sequence.shape[1:] != step:
            wanted = f"{step[0]} features a time step" if step else "token ids"
            raise ValueError(f"a sequence has shape {list(sequence.shape)}, but the model takes {wanted}")
        if vocabulary is not None and not 0 <= int(sequence.min()) <= int(sequence.max()) < len(vocabulary):
            raise ValueError(f"a token id is beyond the {len(vocabulary)} of the vocabulary")
    return sequences if vocabulary is not None else [_filled(each, pipeline.inputs) for each in sequences]


def _filled(sequence: Tensor, inputs: FeatureInputs | TokenInputs) -> Tensor:
    """The same with missing values filled, as for a request."""
    if not isinstance(inputs, FeatureInputs):
        return sequence
    try:
        return torch.from_numpy(gaps.filled(sequence.numpy(), inputs.gap_rules, inputs.names))
    except gaps.GapRefused as error:
        raise ValueError(f"at time step {error.place.loc[0]}: {error}") from None


def _axes(values: Any) -> int:
    """How deep lists are nested."""
    return 1 + _axes(values[0]) if isinstance(values, list) and values else 0


def _state(given: dict[str, Any], pipeline: Pipeline) -> State:
    if "modules" in given:
        states = {name: _state_of(each) for name, each in given["modules"].items()}
        joined: State = pipeline.join_states(states)
        return joined
    return _state_of(given)


def _state_of(given: dict[str, Any]) -> State:
    return State(*(torch.tensor(given[name], dtype=torch.float32) for name in ("hidden_state", "cell_state")))


def _rows(expected: list[Any]) -> list[np.ndarray]:
    """One array for each sequence."""
    try:
        return [np.asarray(row, dtype=np.float64) for row in expected]
    except (TypeError, ValueError) as error:
        raise ManifestError(f"`expected` of {FILE} is no array of numbers: {error}") from error


def _cut(values: Tensor, steps: Tensor | None) -> list[np.ndarray]:
    """Each sequence's own steps."""
    rows = values.double().numpy()
    return list(rows) if steps is None else [row[:length] for row, length in zip(rows, steps.tolist(), strict=True)]
