"""`ExportedModule`: the graph of a `torch.export` archive as a module, whose recurrent nodes are recurrent modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gatescope.errors import CheckpointError, ModuleFailed
from gatescope.names import printable, quoted
from gatescope.pipeline.export import archive
from gatescope.pipeline.export.archive import Archive
from gatescope.pipeline.export.exported import Exported, protected_storages
from gatescope.pipeline.export.graph import Graph, Range
from gatescope.pipeline.export.inputs import Input
from gatescope.pipeline.export.interpreter import Context, run, storage_of
from gatescope.pipeline.export.sizes import free_sizes

_ANY = Range(None, None)
_SPECIALISED = 2
"""Every export holds from this size on, because 0 and 1 are special to it; its graph runs over 1 all the same."""


@dataclass(frozen=True)
class Output:
    """One value that forward returns."""

    name: str  # its place in what the exported forward returned, such as "output", "output_1" or "final_state.0"
    dtype: torch.dtype | None
    shape: tuple[int, ...] | None  # for the sample; None: it is no tensor, and forward returns None for it


class ExportedModule(nn.Module):
    """A module that runs the graph of an archive. Its recurrent modules stand in it under the names that they had.

    Args:
        read: the archive.

    Raises:
        CheckpointError: the graph calls what may not run, has no recurrent node, takes what is no sequence, or
            contradicts itself.
    """

    def __init__(self, read: Archive) -> None:
        super().__init__()
        self._program = program = Exported(read)
        program.check_sample()
        self._sizes = free_sizes(program)
        self._constants = nn.Module()
        for index, tensor in enumerate(program.tensors.values()):
            self._constants.register_buffer(str(index), tensor)
        self._recurrent = {name: _place(self, name, module) for name, module in program.modules.items()}
        self._checked = [program.sequence.shape[:2]]
        self.eval()

    @classmethod
    def load(cls, path: Path) -> ExportedModule:
        """The module of a file.

        Raises:
            CheckpointError: it cannot be read, is not safe to read, or cannot be run.
        """
        read = archive.read(path)
        try:
            return cls(read)
        except CheckpointError as error:
            raise CheckpointError(f"{printable(path.name)}: {error}") from None

    @property
    def graph(self) -> Graph:
        """What is run."""
        return self._program.graph

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What forward takes, in order."""
        return self._program.inputs

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What forward returns, in order."""
        graph, found = self._program.graph, []
        for name, reference in zip(graph.output_names, graph.outputs, strict=True):
            meta = None if reference is None else graph.metas.get(reference.name)
            shape = None if meta is None else tuple(dimension.size for dimension in meta.shape)
            found.append(Output(name, None if meta is None else meta.dtype, shape))
        return tuple(found)

    @property
    def fixed_batch(self) -> int | None:
        """The one number of rows that forward takes; None: any."""
        return None if self._sizes.batch is None else self._sizes.batch.size

    @property
    def fixed_steps(self) -> int | None:
        """The one number of steps that forward takes; None: any."""
        return None if self._sizes.steps is None else self._sizes.steps.size

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found out about the sizes that forward takes, a sentence each."""
        batch, steps = self._program.sequence.shape[:2]
        notes = []
        if self._sizes.batch is not None:
            notes.append(f"It takes exactly {batch} sequences at a time: {self._sizes.batch.reason}.")
        if self._sizes.steps is not None:
            notes.append(f"It takes sequences of exactly {steps} steps: {self._sizes.steps.reason}.")
        if self._sizes.steps_are_inferred:
            notes.append(
                f"It was exported with {steps} steps. Its graph depends on that number nowhere, so it takes any; a "
                "branch of its code on the number of steps leaves no trace in the file."
            )
        return tuple(notes)

    @property
    def batch_range(self) -> Range:
        """Between which numbers of rows the export holds."""
        return self._range(0)

    @property
    def steps_range(self) -> Range:
        """Between which numbers of steps the export holds."""
        return self._range(1)

    def forward(self, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        """What the exported forward returns, its nested values one after another.

        Args:
            inputs: as `inputs` lists them.

        Raises:
            ModuleFailed: they are not what the graph takes, or a node fails.
        """
        program = self._program
        if len(inputs) != len(program.inputs):
            raise ModuleFailed(f"the exported graph takes {len(program.inputs)} inputs, and {len(inputs)} are given")
        given = {each.name: value for each, value in zip(program.inputs, inputs, strict=True)}
        batch, steps = self._checked_sizes(given)
        tensors = dict(zip(program.tensors, self._constants.buffers(), strict=True))
        modules = {name: self.get_submodule(place) for name, place in self._recurrent.items()}
        device = next(self.parameters()).device
        cast = {each.name: given[each.name].to(device, each.dtype) for each in program.inputs}
        values = program.values(cast, tensors, modules)
        protected = protected_storages(values)
        context = Context(batch, steps, device, protected)
        returned = run(lambda: program.interpreter.run(values, context))
        return tuple(
            value.clone() if isinstance(value, Tensor) and storage_of(value) in protected else value
            for value in returned
        )

    def _checked_sizes(self, given: dict[str, Tensor]) -> tuple[int, int]:
        """The batch and the steps of these inputs, which fit one another and what the graph takes."""
        sequence = given[self._program.sequence.name]
        if sequence.dim() != len(self._program.sequence.shape):
            expected = _shape(self._program.sequence.shape)
            raise ModuleFailed(f"the exported graph takes sequences like {expected}, not {_shape(sequence.shape)}")
        batch, steps = sequence.shape[:2]
        for each in self._program.inputs:
            shape = tuple(given[each.name].shape)
            if shape != each.sized(batch, steps):
                raise ModuleFailed(
                    f"input {quoted(each.name)} of the exported graph must be {_shape(each.sized(batch, steps))} for a "
                    f"batch of {batch} × {steps} steps, not {_shape(shape)}"
                )
        _check("sequences at a time", batch, self.fixed_batch, self.batch_range)
        _check("steps", steps, self.fixed_steps, self.steps_range)
        if not any(batch <= most_batch and steps <= most_steps for most_batch, most_steps in self._checked):
            run(lambda: self._program.check_memory(batch, steps))
            self._checked.append((batch, steps))
        return batch, steps

    def _range(self, axis: int) -> Range:
        symbol = self._program.sequence.dimensions[axis].symbol
        found = self._program.graph.ranges.get(symbol or "", _ANY)
        least = found.least if found.least is not None and found.least > _SPECIALISED else None
        return Range(least, found.most)


def _place(root: nn.Module, path: str, module: nn.Module) -> str:
    """Make a module a submodule under its path, or one close to it where that is taken; the path."""
    *folders, last = path.split(".")
    names = []
    for name in folders:
        names.append(_free(root, name, nn.Module))
        if not isinstance(child := getattr(root, names[-1], None), nn.Module):
            child = nn.Module()
            root.add_module(names[-1], child)
        root = child
    names.append(_free(root, last))
    root.add_module(names[-1], module)
    return ".".join(names)


def _free(root: nn.Module, name: str, kind: type | None = None) -> str:
    """The name, with underscores behind it if it is one of the module's own; modules of a kind may be there."""
    while hasattr(root, name) and not (kind is not None and type(getattr(root, name)) is kind):
        name += "_"
    return name


def _check(what: str, size: int, fixed: int | None, limits: Range) -> None:
    if fixed is not None and size != fixed:
        raise ModuleFailed(f"the exported graph takes exactly {fixed} {what}, not {size}")
    if (limits.least is not None and size < limits.least) or (limits.most is not None and size > limits.most):
        least = 1 if limits.least is None else limits.least
        raise ModuleFailed(f"the export holds for {least} to {limits.most} {what}, not {size}")


def _shape(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, sizes))})"
