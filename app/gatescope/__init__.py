"""Serve recurrent networks and see inside them.

The names below are imported when they are first used: `import gatescope` loads neither torch nor a web framework, and
changes nothing in the process.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatescope.analysis.registry import analyse
    from gatescope.client import AsyncClient, Client
    from gatescope.interventions import Intervention, intervene
    from gatescope.pipeline.model import Model, load_model
    from gatescope.reporting.report import Report, report
    from gatescope.selection import Selection
    from gatescope.spec import Spec
    from gatescope.state import State
    from gatescope.tracing import Trace, trace

_DEFINED_IN = {
    "AsyncClient": "gatescope.client",
    "Client": "gatescope.client",
    "Intervention": "gatescope.interventions",
    "Spec": "gatescope.spec",
    "Model": "gatescope.pipeline.model",
    "Report": "gatescope.reporting.report",
    "Selection": "gatescope.selection",
    "State": "gatescope.state",
    "Trace": "gatescope.tracing",
    "analyse": "gatescope.analysis.registry",
    "intervene": "gatescope.interventions",
    "load_model": "gatescope.pipeline.model",
    "report": "gatescope.reporting.report",
    "trace": "gatescope.tracing",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Intervention",
    "Model",
    "Report",
    "Selection",
    "Spec",
    "State",
    "Trace",
    "analyse",
    "intervene",
    "load_model",
    "report",
    "trace",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it."""
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'gatescope' has no attribute '{name}'")
    try:
        module = import_module(_DEFINED_IN[name])
    except ModuleNotFoundError as error:
        from gatescope import extras  # noqa: PLC0415 - wanted for this alone

        if (line := extras.missing(error)) is None:
            raise
        raise ModuleNotFoundError(f"gatescope.{name}: {line}", name=error.name) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
