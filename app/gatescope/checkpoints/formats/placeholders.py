"""What `torch.load` gets in place of plain data that training scripts save beside their weights.

None of these classes is imported, made or filled: a stand-in takes the arguments and the state that the file gives it,
and forgets them. So no name could do harm here; the list is short because what is unusual is better refused by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class StandIn:
    """An object of a class that is not read."""

    __slots__ = ()

    def __init__(self, *_arguments: Any) -> None:
        """Forget the arguments."""

    def __setstate__(self, _state: Any) -> None:
        """Forget the state."""


class MappingStandIn:
    """A mapping whose class is not read; its items are, into a plain one, as `weights_only` fills no other."""

    def __new__(cls, *_arguments: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """Give a plain mapping instead."""
        return OrderedDict()


OBJECTS = frozenset(
    {
        "argparse.Namespace",
        "builtins.bytes",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "torch.torch_version.TorchVersion",
    }
)
"""Made from arguments or a state."""

MAPPINGS = frozenset(
    {
        "collections.defaultdict",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    }
)
"""Made empty, then filled item by item."""

CLASSES = frozenset(
    {"numpy.ndarray", *(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str"))}
)
"""Never called: what an array is made of, and what a defaultdict makes."""


def safe_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Every stand-in with the name that it answers to, for `torch.serialization.safe_globals`."""
    objects = ((StandIn, name) for name in sorted(OBJECTS | CLASSES))
    return [*objects, *((MappingStandIn, name) for name in sorted(MAPPINGS))]
