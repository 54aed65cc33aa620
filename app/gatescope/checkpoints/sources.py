"""`find`: the weights that an import is given, a file or a training run's folder, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from gatescope.checkpoints.companions import folders
from gatescope.checkpoints.companions.hints import Hints, read_hints
from gatescope.checkpoints.companions.neuralhydrology import Recipe, read_run
from gatescope.checkpoints.formats import checkpoint
from gatescope.checkpoints.formats.checkpoint import MOST_BYTES, Checkpoint
from gatescope.checkpoints.given_sample import GivenSample
from gatescope.checkpoints.graphs import kind_of
from gatescope.checkpoints.keras.file import is_keras
from gatescope.checkpoints.keras.source import KerasSource
from gatescope.checkpoints.structure.arrange import refuse
from gatescope.checkpoints.structure.contents import Contents
from gatescope.checkpoints.structure.infer_manifest import EXAMPLES
from gatescope.checkpoints.structure.options import DESCRIBING, Options
from gatescope.checkpoints.structure.options import given as given_options
from gatescope.checkpoints.understand import NO_HINTS, Understood, understand
from gatescope.errors import CheckpointError
from gatescope.pipeline.manifest import Manifest
from gatescope.pipeline.manifest_v1 import ManifestV1
from gatescope.source import opened


@dataclass(frozen=True)
class Source:
    """Where the weights are, and what is said of them elsewhere."""

    path: Path
    hints: Hints = NO_HINTS
    recipe: Recipe | None = None
    """Of a run whose configuration says everything."""
    notes: tuple[str, ...] = ()
    graph: str | None = None
    """The format of a graph, which says itself what is computed; None of weights."""

    def check(self, stated: Manifest | ManifestV1, options: Options) -> None:
        """Weights alone say nothing that a manifest could contradict but their names and shapes."""

    def read(self) -> Checkpoint:
        """The weights; raises `CheckpointError`."""
        read = checkpoint.read(self.path)
        rename: Mapping[str, str] = {} if self.recipe is None else self.recipe.rename
        weights: dict[str, Tensor] = {rename.get(name, name): value for name, value in read.weights.items()}
        return replace(read, weights=weights, notes=(*self.notes, *read.notes))

    def understood(
        self, contents: Contents, read: Checkpoint, options: Options, sample: GivenSample | None
    ) -> Understood:
        """The manifest that serves the weights; raises `InvalidInput` and `WeightsError`."""
        if self.recipe is None:
            said, notes = read_hints(read.beside)
            made = understand(contents, read, options, sample, self.hints.over(said))
            return replace(made, notes=(*notes, *made.notes))
        for name in given_options(options, DESCRIBING):
            if name != "description":
                refuse(name, "the run's configuration says this: leave it out, or import the file of weights elsewhere")
        known = {new: old for old, new in self.recipe.rename.items()}
        shapes = {known.get(name, name): list(value.shape) for name, value in read.weights.items()}
        stated = dict(self.recipe.fitted(shapes).manifest)
        if options.description is not None:
            stated["description"] = options.description
        if sample is None:
            stated["examples"] = EXAMPLES
        return Understood(Manifest.model_validate(stated), (), None, self.recipe.notes, sample)


def find(path: Path) -> Source | KerasSource:
    """The source at a path: a file, the folder of a run, or a folder that holds one checkpoint.

    Raises:
        InvalidInput: a run cannot be served, or a folder holds no weights, or several.
    """
    recipe = read_run(path) if path.is_dir() else read_run(path.parent, path)
    if recipe is not None:
        return Source(recipe.weights, recipe=recipe)
    found = folders.find(path)
    if is_keras(found.weights):
        return KerasSource(found.weights)
    return Source(found.weights, found.hints, notes=found.notes, graph=_graph_kind(found.weights))


def _graph_kind(path: Path) -> str | None:
    try:
        with opened(path, MOST_BYTES) as source:
            return kind_of(path, source)
    except CheckpointError:  # whoever reads the file says why
        return None
