"""`CustomProgram`: a module with code of its own; hooks hear its recurrent modules."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from gatescope.capture import Calls, RecurrentModule, capture_calls, recurrent_modules
from gatescope.cells import CELLS
from gatescope.errors import ModuleError, ModuleFailed
from gatescope.pipeline.custom.user_code import foreign
from gatescope.pipeline.program.program import Program, Replaced, Returned, zeroed

_PARTS = 2  # the prediction and the state


class CustomProgram(Program):
    """forward(inputs), with `sequence_lengths` and `initial_state` where it has parameters of these names.

    A forward that takes `initial_state` may return a pair, the prediction and the state behind the inputs, or a dict
    of `prediction` and `final_state`.

    Args:
        module: on its device, with its weights.

    Raises:
        ModuleError: it has no recurrent module, or its forward has no signature.
    """

    kind = "a custom module"
    subject = "the module's forward"
    takes_no_state = "its forward has no parameter `initial_state`"
    gives_no_state = "its forward gives no state back; let it return the prediction and the state"
    is_stateless = is_reentrant = False

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.recurrent = _recurrent(module)
        self.module = module
        self.eval()
        try:
            with foreign("reading the signature of the module's forward"):
                parameters = inspect.signature(module.forward).parameters
        except ModuleFailed as error:
            raise ModuleError(str(error)) from error
        self.takes_lengths = "sequence_lengths" in parameters
        self.takes_state = "initial_state" in parameters

    def run(
        self, inputs: Tensor, lengths: Tensor, hx: Any, watched: Collection[str], replaced: Replaced
    ) -> tuple[Returned, Calls]:
        """What forward returns, and the calls that the hooks heard."""
        further: dict[str, Any] = {}
        inputs = zeroed(inputs, lengths) if self.takes_lengths else inputs.clone()  # it may write into its own
        if self.takes_lengths:
            further["sequence_lengths"] = lengths.cpu()  # where packing wants them
        if self.takes_state:
            further["initial_state"] = hx
        modules = {name: self.recurrent[name] for name in watched}
        with capture_calls(modules, replaced) as calls, foreign(f"{self.subject} over {_sizes(inputs)}"):
            return self._split(self.module(inputs, **further)), calls

    def _split(self, returned: Any) -> Returned:
        if not self.takes_state:
            return Returned(returned)
        if isinstance(returned, Mapping) and {"prediction", "final_state"} <= returned.keys():
            return Returned(returned["prediction"], returned["final_state"])
        is_pair = isinstance(returned, tuple | list) and len(returned) == _PARTS
        return Returned(*returned) if is_pair else Returned(returned)


def _recurrent(module: nn.Module) -> dict[str, RecurrentModule]:
    """Those inside by name."""
    if found := recurrent_modules(module):
        return found
    kinds = [kind.__name__ for cell in CELLS for kind in (cell.module, cell.cell_module)]
    raise ModuleError(f"the module has none of {', '.join(f'nn.{kind}' for kind in dict.fromkeys(kinds))} to look into")


def _sizes(inputs: Tensor) -> str:
    return f"a batch of {inputs.shape[0]} × {inputs.shape[1]} steps"
