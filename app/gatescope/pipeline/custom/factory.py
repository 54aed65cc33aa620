"""`build`: the module that a manifest's factory makes, with its weights: the only place where a model brings code."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from gatescope.errors import ModuleError, ModuleFailed, WeightsError
from gatescope.pipeline.custom.user_code import foreign

COUNTER = "num_batches_tracked"
"""A batch norm's, which only training reads; an import leaves whole numbers out."""

_built: WeakSet[nn.Module] = WeakSet()


def build(factory: str, arguments: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """Call a factory, and fill the module that it makes.

    Args:
        factory: `package.module:function`, importable from Python's path.
        arguments: given to it by name.
        weights: one for every entry of the module's state dict; tensors that it ties need be there only once.
        folder: of the models, from which nothing is imported.

    Raises:
        ModuleError: it cannot be imported, lies among the models, raises, or makes no module of its own.
        WeightsError: a weight is missing, surplus, or has another shape.
    """
    try:
        function = _imported(factory, folder)
        with foreign(f"the factory '{factory}'"):
            module = _own(function(**arguments), factory)
        with foreign(f"filling the module of '{factory}' with its weights"):
            _fill(module, weights)
    except ModuleFailed as error:
        raise ModuleError(str(error)) from error
    return module


def _imported(factory: str, folder: Path) -> Any:
    module, _, path = factory.partition(":")
    _refuse_among_models(module.partition(".")[0], folder)
    with foreign(f"importing '{module}'"):
        imported = import_module(module)
    try:
        function = reduce(getattr, path.split("."), imported)
    except AttributeError:
        raise ModuleError(f"'{module}' has no '{path}', which the manifest's factory '{factory}' names") from None
    if not callable(function):
        raise ModuleError(f"the factory '{factory}' is no function, but {type(function).__name__}")
    return function


def _refuse_among_models(package: str, folder: Path) -> None:
    """A folder of models is data; where the working directory is on the path, its files could be taken for code."""
    if package in sys.modules:
        places = [getattr(sys.modules[package], "__file__", None), *getattr(sys.modules[package], "__path__", ())]
    else:
        with foreign(f"looking for '{package}'"):
            spec = find_spec(package)
        if spec is None:
            raise ModuleError(
                f"the manifest's factory names the package '{package}', which is not installed: install it, or set "
                "PYTHONPATH to the folder that holds it"
            )
        places = [spec.origin, *(spec.submodule_search_locations or ())]
    if any(place and Path(place).resolve().is_relative_to(folder.resolve()) for place in places):
        raise ModuleError(
            f"'{package}' lies in the folder of models, from which no code is taken: install it elsewhere"
        )


def _own(module: Any, factory: str) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise ModuleError(f"the factory '{factory}' must make an nn.Module; it gives {type(module).__name__}")
    if module in _built:
        raise ModuleError(f"the factory '{factory}' gives the same module a second time; it must make a new one")
    _built.add(module)
    return module.float().requires_grad_(requires_grad=False)


def _fill(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    wanted = module.state_dict()
    if surplus := sorted(weights.keys() - wanted.keys()):
        raise WeightsError(f"the weights hold '{surplus[0]}', for which the module has no place{_more(surplus)}")
    for name, given in weights.items():
        if given.shape != wanted[name].shape:
            shapes = f"{list(given.shape)}; the module's has {list(wanted[name].shape)}"
            raise WeightsError(f"the weight '{name}' has shape {shapes}")
    module.load_state_dict(dict(weights) | _tied(wanted, weights), strict=True)


def _tied(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the file leaves out because it is one tensor with another entry, or counts; nothing else may be missing."""
    names: dict[tuple[object, ...], list[str]] = {}
    for name, value in wanted.items():
        key = (value.data_ptr(), value.shape, value.stride()) if value.numel() else (name,)
        names.setdefault(key, []).append(name)
    tied: dict[str, Tensor] = {}
    missing = []
    for group in names.values():
        given = [name for name in group if name in weights]
        if not given and group[0].endswith(COUNTER):
            tied[group[0]] = wanted[group[0]]
        elif not given:
            missing.append(group[0])
        elif not all(weights[name].equal(weights[given[0]]) for name in given):
            raise WeightsError(f"{' and '.join(map(repr, given))} are one tensor in the module, but differ in the file")
        tied |= {name: weights[given[0]] for name in group if given and name not in weights}
    if missing:
        raise WeightsError(f"the weights lack '{missing[0]}', which the module has{_more(missing)}")
    return tied


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
