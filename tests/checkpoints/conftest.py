"""Checkpoints as training scripts save them, and what was imported from them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gatescope.backends import reference
from gatescope.cells import LSTM
from gatescope.checkpoints.importer import Imported, Options, import_checkpoint
from gatescope.padding import pad
from gatescope.pipeline.model import Model
from gatescope.pipeline.query import Answer, Query
from gatescope.selection import Selection


@dataclass(frozen=True)
class Brought:
    """A model that was imported, loaded from where it lies now."""

    imported: Imported
    model: Model

    @property
    def manifest(self):
        return self.model.manifest

    @property
    def notes(self) -> str:
        return "\n".join(self.imported.notes)

    def ask(self, sequences: list[Tensor], **wanted: Any) -> Answer:
        return self.model.pipeline.answer(Query(*pad(sequences), **wanted))

    @property
    def layers(self) -> str:
        """The layers' names, in a line."""
        return ",".join(layer.name for layer in self.manifest.layers)

    def predicts(self, sequences: list[Tensor], expected: list[Tensor]) -> None:
        """Every sequence of the batch gets what the original module gives it alone."""
        prediction = self.ask(sequences).prediction
        for row, (sequence, own) in enumerate(zip(sequences, expected, strict=True)):
            values = prediction.values[row]
            cut = values if prediction.steps is None else values[: len(sequence)]
            torch.testing.assert_close(cut.double(), own.double(), rtol=0, atol=1e-5)

    def traces(self, lstms: dict[str, nn.LSTM], inputs: Tensor, fed: dict[str, Tensor] | None = None) -> None:
        """The trace of each recurrent layer over `inputs` is the oracle's, over what that layer is fed.

        Args:
            lstms: the modules, by the layers' names.
            inputs: of one sequence, as the model takes them.
            fed: what each is called with, (time, feature); where it is not given, the output of the one before it.
        """
        assert list(self.model.pipeline.lstms) == list(lstms)
        below = inputs
        for name, lstm in lstms.items():
            by_equations = reference.run(lstm, (below if fed is None else fed[name]).double())
            answer = self.ask([inputs], trace=Selection(), module=name)
            for signal in LSTM.signal_names:
                traced = answer.trace.signals[signal][0].double()  # (layer, direction, time, unit)
                torch.testing.assert_close(traced, by_equations[signal], rtol=0, atol=1e-5)
            below = by_equations["output"]
            torch.testing.assert_close(answer.trace.output[0].double(), below, rtol=0, atol=1e-5)


@pytest.fixture
def models(tmp_path) -> Path:
    """The folder of models, which is not there yet."""
    return tmp_path / "models"


@pytest.fixture
def saved(tmp_path) -> Callable[..., Path]:
    """`saved(module or what torch.save takes, name)`: the file."""

    def save(content: Any, name: str = "weights.pt") -> Path:
        content = content.state_dict() if isinstance(content, nn.Module) else content
        if name.endswith(".safetensors"):
            save_file({key: value.contiguous() for key, value in content.items()}, tmp_path / name)
        else:
            torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def bring(models, saved, tmp_path) -> Callable[..., Brought]:
    """Import a module, or what was saved of it, as `models/mine`; `sample` is a file, or what a .npz of it holds."""

    def import_(
        content: Any,
        *,
        file: str = "weights.pt",
        name: str = "mine",
        sample: Path | dict[str, Any] | None = None,
        tolerance: float = 1e-5,
        **options: Any,
    ) -> Brought:
        path = content if isinstance(content, Path) else saved(content, file)
        if isinstance(sample, dict):
            np.savez(tmp_path / "sample.npz", **{key: np.asarray(value) for key, value in sample.items()})
            sample = tmp_path / "sample.npz"
        imported = import_checkpoint(path, models, name, Options(**options), sample=sample, tolerance=tolerance)
        return Brought(imported, Model.load(imported.folder, imported.version, torch.device("cpu")))

    return import_


@pytest.fixture
def listing(tmp_path) -> Callable[[], dict[str, bytes | None]]:
    """Everything that lies in the test's folder, files with their content."""

    def look() -> dict[str, bytes | None]:
        return {
            str(path.relative_to(tmp_path)): path.read_bytes() if path.is_file() else None
            for path in sorted(tmp_path.rglob("*"))
        }

    return look


@pytest.fixture
def sequences(random) -> Callable[..., list[Tensor]]:
    """Ragged sequences: of so many features, or with `ids` of that vocabulary."""

    def make(width: int, *, ids: bool = False) -> list[Tensor]:
        lengths = (5, 3, 8)
        if ids:
            return [torch.randint(0, width, (length,), generator=random) for length in lengths]
        return [torch.randn(length, width, generator=random) for length in lengths]

    return make
