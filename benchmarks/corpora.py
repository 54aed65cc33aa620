"""A corpus beside what it is made of: tracing onto the disk, and searches in their index."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.table import Table
from safetensors.torch import save_file
from torch import nn

from gatescope.corpus import build, pattern_units, search
from gatescope.records import About, Record
from gatescope.server.main import create_app
from gatescope.server.serving.owner import SERVICE
from gatescope.server.settings import Settings
from gatescope.zarr_store import Reader, Writer

FEATURES, UNITS, SEQUENCES, STEPS, ROUNDS = 8, 64, 400, 365, 3
SEARCHED_STEPS, SEARCHED_UNITS, THRESHOLD = 10**6, 256, 0.3


def measure() -> Table:
    """Tracing in a service beside its engine alone and beside writing the same records; then a search.

    Both write on the thread of the background, whose priority is low.
    """
    with tempfile.TemporaryDirectory() as folder:
        table = Table(title=f"corpora: {SEQUENCES} × {STEPS} steps, {UNITS} units; search: {SEARCHED_STEPS:,} steps")
        for column in ("what", "median"):
            table.add_column(column)
        for row in (*asyncio.run(_traced(Path(folder))), *_searched(Path(folder))):
            table.add_row(*row)
        return table


async def _traced(folder: Path) -> list[tuple[str, str]]:
    _write_model(folder / "models" / "basin")
    (folder / "data").mkdir()
    values = np.random.default_rng(0).normal(size=(SEQUENCES, STEPS, FEATURES)).astype(np.float32)
    np.save(folder / "data" / "values.npy", values)
    app = create_app(Settings(models_dir=folder / "models", corpora_dir=folder / "data", watch=False))
    ratios, speeds = [], []
    async with app.router.lifespan_context(app):
        here = app.state.context
        await here.engine.loaded()
        await _of_corpus(here)  # what is used for the first time takes longer
        for _ in range(ROUNDS):
            together, reader = await _of_corpus(here)
            alone = await _of_engine(here, values)
            writing = await here.jobs.background.run(_of_writing, reader, folder / "written.zarr")
            ratios.append(max(alone, writing) / together)
            speeds.append((together, alone, writing))
    names = "corpus, engine alone, writing alone (s)"
    told = ", ".join(f"{median(each):.2f}" for each in zip(*speeds, strict=True))
    return [(names, told), ("the slower of the two over the corpus", f"{median(ratios):.2f}")]


async def _of_corpus(here: Any) -> tuple[float, Reader]:
    from gatescope.server.api.corpora import tracing  # noqa: PLC0415

    model = here.engine.model("basin")
    corpus = here.corpora.begin(SERVICE, "values", (model.name, model.version, model.fingerprint), "values.npy", None)
    began = perf_counter()
    job: Any = tracing.begin(here, corpus)
    await job.task
    seconds = perf_counter() - began
    return seconds, here.corpora.reader(here.corpora.done(corpus.corpus_id, SERVICE))


async def _of_engine(here: Any, values: np.ndarray) -> float:
    from gatescope.pipeline.query import Query  # noqa: PLC0415
    from gatescope.selection import Selection  # noqa: PLC0415
    from gatescope.server.api.corpora.tracing import BATCH_BYTES, _step_bytes  # noqa: PLC0415

    model = here.engine.model("basin")
    rows = max(1, BATCH_BYTES // _step_bytes(model) // STEPS)
    everything = Selection().resolve(model.spec)
    began = perf_counter()
    for first in range(0, len(values), rows):
        inputs = torch.from_numpy(values[first : first + rows])
        query = Query(inputs, torch.full((len(inputs),), STEPS), trace=everything, final_state=True)
        await here.engine.answer(model, query)
    return perf_counter() - began


def _of_writing(reader: Reader, path: Path) -> float:
    records = list(reader)
    about = About(layers=(0,), directions=("forward",), units=tuple(range(UNITS)))
    began = perf_counter()
    with Writer(path, about) as writer:
        for record in records:
            writer.append(record)
    seconds = perf_counter() - began
    shutil.rmtree(path)
    return seconds


def _write_model(folder: Path) -> None:
    torch.manual_seed(0)
    module = nn.LSTM(FEATURES, UNITS)
    (folder / "1").mkdir(parents=True)
    weights = {f"lstm.{name}": value for name, value in module.state_dict().items()}
    save_file(weights, folder / "1" / "model.safetensors")
    features = ", ".join(f'{{name = "x{each}"}}' for each in range(FEATURES))
    manifest = f'description = "a basin"\n[input]\nkind = "features"\nfeatures = [{features}]\n'
    (folder / "model.toml").write_text(manifest)


def _searched(folder: Path) -> list[tuple[str, str]]:
    with Writer(folder / "searched.zarr", About()) as writer:
        for record in _slow_noise():
            writer.append(record)
    reader = Reader(folder / "searched.zarr")
    values = reader.record(0).signals["cell_state"][0, 0]
    units = _pattern(values)
    place, kept = ("cell_state", 0, 0), folder / "index"
    began = perf_counter()
    build(reader, place, THRESHOLD, kept)
    building = perf_counter() - began
    size = sum(file.stat().st_size for file in kept.rglob("*.npy"))
    told = [(f"the index of {SEARCHED_UNITS} units: built in s, MB", f"{building:.2f}, {size / 1e6:.0f}")]
    for selected in (units, range(SEARCHED_UNITS)):
        warm = []
        for _ in range(ROUNDS):
            began = perf_counter()
            found = search(build(reader, place, THRESHOLD, kept), selected, 50)
            warm.append(perf_counter() - began)
        told.append((f"a warm search for {len(selected)} units, {found.total:,} spans (s)", f"{median(warm):.2f}"))
    return told


def _slow_noise() -> Iterator[Record]:
    """Units that change over some ten steps, as cell states do."""
    random, steps = np.random.default_rng(1), 10_000
    kernel = np.exp(-np.arange(40) / 10)
    for _ in range(SEARCHED_STEPS // steps):
        noise = random.normal(size=(steps + 39, SEARCHED_UNITS)).astype(np.float32)
        smooth = np.stack([np.convolve(unit, kernel, "valid") for unit in noise.T], axis=1).astype(np.float32)
        yield Record(steps, {"cell_state": smooth[None, None]})


def _pattern(values: np.ndarray) -> list[int]:
    """The units of the span of ten steps or more to which most belong."""
    spans = [(start, start + length) for start in range(1000) for length in range(10, 20)]
    return max((pattern_units(values, *span, THRESHOLD) for span in spans), key=len)
