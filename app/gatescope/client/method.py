"""A method that is made of a call: sent by a client, but with the call's own name, parameters and documentation."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import update_wrapper
from typing import Any


def like(method: Callable[..., Any], call: Callable[..., Any], name: str | None = None) -> None:
    """Let `help()` and editors show for the method what is written at the call."""
    update_wrapper(method, call)
    method.__name__ = name or call.__name__
    signature = inspect.signature(call)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].name != "self":
        parameters.insert(0, inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD))
    returns = re.sub(r"^Calls?\[(.*)\]$", r"\1", str(signature.return_annotation))
    method.__signature__ = signature.replace(parameters=parameters, return_annotation=returns)  # type: ignore[attr-defined]
