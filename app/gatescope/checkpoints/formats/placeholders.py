"""What stands for the classes and functions that a pickle names, and for the objects that it would make of them.

Nothing here is imported, called or filled with code: a name stays a text, and an object is a placeholder that holds the
name, the arguments and the state that the file gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gatescope.checkpoints.formats.plain import Entries
from gatescope.names import RESAVE, quoted

WHOLE_MODULE = (
    "it holds a whole pickled module, which would run code when it is read; save its weights alone: "
    'torch.save(model.state_dict(), "weights.pt")'
)

QUANTISED = (
    "it holds quantised weights, which are not served; save the state_dict of the float model, "
    "from before quantize_dynamic or convert"
)

TENSORS = {
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no numbers",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
}
"""Functions that make tensors of kinds that are not read, and what they make."""

PACKED = ("__torch__.torch.classes.quantized.", "__torch__.torch.classes.rnn.")
"""How the names of the C++ classes begin that quantised modules keep their weights in."""

SCRIPT_OBJECT = "torch.ScriptObject"
"""An object of a C++ class; its state says which."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that the pickle names."""

    name: str


class Placeholder:
    """An object that is not read."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        """Keep the dotted name of the class or function, and the arguments of the call."""
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def build(self, state: Any) -> None:
        """Keep the state; of an object of a C++ class, the name of that class is in it."""
        self.state = state
        if self.name == SCRIPT_OBJECT and isinstance(state, tuple) and state and isinstance(state[-1], str):
            self.name = state[-1]

    @property
    def is_module(self) -> bool:
        """Whether this is an `nn.Module`, of PyTorch's own or by its state."""
        has_parts = isinstance(self.state, Entries) and self.state.named.keys() >= {"_modules", "_parameters"}
        return has_parts or self.name.startswith("torch.nn.modules.")

    @property
    def is_quantised(self) -> bool:
        """Whether this is a quantised tensor, or what a quantised module packs its weights into."""
        return self.name == "torch._utils._rebuild_qtensor" or self.name.startswith(PACKED)

    def refusal(self, path: str) -> str:
        """Why this cannot be the weight that stands at `path`."""
        if self.is_quantised:
            return QUANTISED
        if kind := TENSORS.get(self.name):
            return f"{quoted(path)} is {kind}, and only plain and dense tensors are read; save it as such"
        return f"{quoted(path)} is an object of {quoted(self.name)}, which could run code and is not read; {RESAVE}"
