"""What the tests of Keras files share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatescope.checkpoints.importer import Options, import_checkpoint
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Query


@pytest.fixture
def imported(tmp_path) -> Callable[..., Model]:
    """`imported(file, **options)`: the model that an import makes of it, loaded from its folder."""

    def load(file: Path, name: str = "mine", **options: Any) -> Model:
        made = import_checkpoint(file, tmp_path / "models", name, Options(**options))
        model = Model.load(made.folder, made.version, torch.device("cpu"))
        model.__dict__["notes"] = made.notes  # of the import
        return model

    return load


@pytest.fixture
def predicted() -> Callable[..., list[np.ndarray]]:
    """`predicted(model, x, static)`: the values of every head for (batch, time, feature) or (batch, time) ids."""

    def predict(model: Model, x: np.ndarray, static: np.ndarray | None = None) -> list[np.ndarray]:
        given = torch.tensor(np.asarray(x), dtype=torch.int64 if np.asarray(x).dtype.kind == "i" else torch.float32)
        lengths = torch.full((len(given),), given.shape[1])
        answer = model.pipeline.answer(
            Query(given, lengths, static_inputs=None if static is None else torch.tensor(static))
        )
        return [answer.prediction.values.numpy(), *(head.values.numpy() for head in (answer.heads or {}).values())]

    return predict
