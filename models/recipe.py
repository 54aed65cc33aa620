"""What the training recipes share: one seed, one thread count, one progress bar, one way to write weights.

A recipe is `models/<name>/train.py`, run by people with `make train MODEL=<name>` and never by the service.
"""

from __future__ import annotations

import json
import os
import random
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MODELS = Path(__file__).parent
DATA = Path(os.environ.get("GATESCOPE_DATA", "data"))
"""The folder of the original files that a recipe reads, as their authors publish them."""


def prepare(seed: int = 0, threads: int = 1) -> None:
    """Make a run repeatable: every random generator seeded, one thread so that sums keep their order."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that a recipe calls may draw from it
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def manifest(name: str) -> dict[str, Any]:
    """The model's own `model.toml`, so that scaling and vocabularies are stated in one place only."""
    return tomllib.loads((MODELS / name / "model.toml").read_text(encoding="utf-8"))


def example(name: str, file: str) -> dict[str, Any]:
    """The body of an example request that stands in the model's folder."""
    body: dict[str, Any] = json.loads((MODELS / name / "examples" / file).read_text(encoding="utf-8"))
    return body


def original(name: str, file: str, source: str) -> str:
    """The text of an original file in the folder of data; ends the process with one line if it cannot be read.

    Args:
        name: of the model that is trained.
        file: as its authors call it.
        source: where to get it.
    """
    path = DATA / file
    needs = f"{name} is trained on {file}, from {source}"
    if not path.is_file():
        raise SystemExit(f"{path} is missing: {needs}. Put it there, or name its folder in GATESCOPE_DATA.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path} cannot be read ({error}): {needs}.") from None


def progress(total: int, description: str) -> Iterator[tuple[int, Progress]]:
    """Count 0 … total−1 with a bar; the recipe may write its loss with `bar.update(bar.task_ids[0], loss=…)`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(description, total=total, loss=float("nan"))
        for step in range(total):
            yield step, bar
            bar.advance(task)


def follow(average: nn.Module, module: nn.Module, step: int, most: float) -> None:
    """Move a running mean of the weights towards those of this step; it keeps a part that grows to `most` of itself."""
    keep = min(most, (step + 1) / (step + 10)) if step else 0.0
    with torch.no_grad():
        for mean, now in zip(average.parameters(), module.parameters(), strict=True):
            mean.mul_(keep).add_(now, alpha=1 - keep)


def save(module: nn.Module, name: str, version: str = "1") -> Path:
    """Write `models/<name>/<version>/model.safetensors` and say how far it lies from the file that was there."""
    path = MODELS / name / version / "model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().contiguous().float() for key, value in module.state_dict().items()}
    if path.exists():
        before = load_file(path)
        same = before.keys() == state.keys() and all(before[key].shape == state[key].shape for key in state)
        far = max(float((before[key] - state[key]).abs().max()) for key in state) if same else float("inf")
        print(f"largest difference from the weights that were there: {far:.3g}")
    save_file(state, path)
    path.chmod(0o644)  # save_file writes for its owner alone, but a container serves as another user
    print(f"wrote {path.relative_to(MODELS.parent)}: {path.stat().st_size / 1e6:.2f} MB")
    return path


def save_sample(name: str, title: str, request: dict[str, Any], expected: Sequence[Tensor], version: str = "1") -> Path:
    """Write `models/<name>/<version>/sample.json`, with which the service compares its own predictions.

    Args:
        name: of the model.
        title: what the sample shows.
        request: raw values or text, as a client posts them.
        expected: what the recipe's own module computes of each sequence, (time, value), in the units of a reply.
        version: of the weights.
    """
    values = [_rounded(value.tolist()) for value in expected]
    text = json.dumps({"title": title, "request": request, "expected": values}, ensure_ascii=False)
    path = MODELS / name / version / "sample.json"
    path.write_text(text.replace("], [", "],\n[").replace("[[[", "[[\n[") + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(MODELS.parent)}: {path.stat().st_size / 1e3:.1f} kB")
    return path


def _rounded(values: Any) -> Any:
    """Nine digits, from which a float32 is read back."""
    return [_rounded(value) for value in values] if isinstance(values, list) else float(f"{values:.9g}")
