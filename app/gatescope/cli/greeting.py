"""What `gatescope serve` says once it can be asked: where it is, and a request to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from gatescope.pipeline.model import Model
    from gatescope.server.repository.entry import Entry

LONGEST = 300  # characters of a body that people still paste


def lines(url: str, entries: Sequence[Entry], *, keyed: bool = False) -> list[str]:
    """The greeting of a server at this URL with these models; `keyed`: it wants an API key."""
    models = [entry.loaded[entry.default_version] for entry in entries if entry.default_version in entry.loaded]
    command = ["curl", "-s", *(["-H", "X-API-Key: YOUR-KEY"] if keyed else []), *_request(url, models)]
    return [
        f"Gatescope serves {len(models)} of {len(entries)} models: see inside them on {url} (API: {url}/docs), or try:",
        f"  {shlex.join(command)}",
    ]


def _request(url: str, models: Sequence[Model]) -> list[str]:
    """The first short example, of a text where there is one; else what there is to know of the first model."""
    examples = [(model.name, model.examples[0]["request"]) for model in models if model.examples]
    examples.sort(key=lambda example: "text" not in example[1])
    for name, request in examples:
        if len(body := json.dumps(request)) <= LONGEST:
            return [f"{url}/v1/models/{quote(name)}/predict", "-H", "Content-Type: application/json", "-d", body]
    return [f"{url}/v1/models/{quote(models[0].name)}" if models else f"{url}/v1/models"]
