"""Parameters of routes: which ones an endpoint has on a path, and the headers that every route knows."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any

from fastapi import Path

from gatescope.server.api.messages import REQUEST_ID, TIMEOUT, Endpoint

_IN_PATH: dict[str, Any] = {
    "name": Annotated[
        str, Path(description="One of /v1/models.", openapi_examples={"pos-tagger": {"value": "pos-tagger"}})
    ],
    "version": Annotated[
        str, Path(description="One of the model's `versions`.", openapi_examples={"1": {"value": "1"}})
    ],
    "trace_id": Annotated[str, Path(description="As storing the trace answered.")],
    "analysis": Annotated[
        str, Path(description="One of /v1/analyses.", openapi_examples={"timescales": {"value": "timescales"}})
    ],
    "session_id": Annotated[str, Path(description="One of /v1/sessions.")],
    "corpus_id": Annotated[str, Path(description="One of /v1/corpora.")],
    "unit": Annotated[str, Path(description="Counted from 0.", openapi_examples={"0": {"value": "0"}})],
    "job_id": Annotated[str, Path(description="As what began the job answered.")],
}

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_COUNT = _WHOLE | {"minimum": 1}

UPLOAD = {
    "version": "The version's name; the next whole number by default.",
    "layers": "All layers from the inputs to the prediction, in the notation of imports.",
    "prefix": "The path of the LSTM inside the checkpoint, or of several, stacked unless `join` says otherwise.",
    "join": "How several LSTMs are joined: `stacked`, `residual`, `parallel` or `parallel=add`.",
    "embedding": "The path of the embedding, or `none`.",
    "head": "The paths of the head's linear layers, or `none` to serve the LSTM alone.",
    "task": "`regression`, `quantile`, `classification`, `tagging`, `binary`, `multi_label` or `next_token`.",
    "steps": "Which steps the head reads: `all`, `last`, `first`, `final`, `mean`, `max` or `sum`.",
    "activation": "The function between the head's layers, or `none`.",
    "output_activation": "The function behind the last layer, or `none`.",
    "ignore": "Weights, or what stands before their names, that no prediction depends on.",
    "features": "The names of the inputs.",
    "static": "The names of the inputs that a sequence has once.",
    "scaler": "How inputs and outputs were scaled, in JSON.",
    "outputs": "The names of a regression's outputs.",
    "predicts": "Whether the prediction at step t is of the `same_step` or of the `next_step`.",
    "labels": "The labels of a classification, a tagging, a binary or a multi-label task.",
    "quantiles": "Of a quantile task.",
    "characters": "The vocabulary of characters, in the order of their ids.",
    "vocabulary": "The vocabulary's entries, in the order of their ids.",
    "tokens": "Whether the entries of the vocabulary are `characters` or `words`.",
    "lowercase": "Whether a text is lower-cased before it is split: `true` or `false`.",
    "description": "One line: what it predicts, from what.",
}
"""Of the query of an upload: the fields of `Options`."""

LISTS = (
    "layers",
    "prefix",
    "head",
    "ignore",
    "features",
    "static",
    "outputs",
    "labels",
    "quantiles",
    "vocabulary",
)
"""Those of them that may have several values."""

VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "signals": (_TEXT, "Separated by commas; all six by default."),
    "layers": (_TEXT, "Counted from 0, separated by commas; all by default."),
    "directions": (_TEXT, "`forward`, `reverse` or both, separated by a comma; all by default."),
    "units": (_TEXT, "Separated by commas such as `3,17`, or a slice such as `0:16`; all by default."),
    "sequence": (_WHOLE, "Only this sequence of the batch, counted from 0."),
    "start": (_WHOLE, "The first time step; negative counts from the end of the longest sequence asked for."),
    "stop": (_WHOLE, "The time step to stop before."),
    "bins": (_COUNT, "Cut the time from `start` to `stop` into this many equal spans."),
    "reduce": (_TEXT | {"enum": ["mean", "min", "max"]}, "What is given of each span; the mean by default."),
}
"""Of the query of a look at a stored trace: the type and the meaning of each."""

TABLE = {
    "map": "Which columns are which features: `load=demand_mw,temperature=t`.",
    "timestamps": "The column of times; it is looked for by default.",
    "id": "The column that tells sequences apart.",
    "fill": "How gaps of features are filled: `rain=0,temp=hold`, or one rule for all.",
    "day_first": "`true` or `false`: what comes first in dates such as 03/04/2020.",
}
"""Of the query of a table."""

BACKTEST: dict[str, tuple[dict[str, Any], str]] = {
    "target": (_TEXT, "The output that is compared; may be left out where there is only one."),
    "horizon": (_COUNT, "How many steps are predicted from each origin; 1 by default."),
    "window": (_COUNT, "How many steps are read before each; all that there are by default."),
    "stride": (_COUNT, "How many steps lie between origins; the horizon by default."),
    "season": (_COUNT, "How many steps a season has, for the seasonal naive forecast."),
    "start": (_COUNT, "The first origin; the window or half of the longest sequence by default."),
}
"""Of the query of a backtest, beside that of its table."""

HEADERS: dict[str, dict[str, Any]] = {
    REQUEST_ID: {
        "name": REQUEST_ID,
        "in": "header",
        "required": False,
        "description": "Echoed in the reply and written to the log; made up where it is not given.",
        "schema": {"type": "string", "maxLength": 128},
    },
    TIMEOUT: {
        "name": TIMEOUT,
        "in": "header",
        "required": False,
        "description": "Milliseconds after which the request is answered 504; at most what the server allows.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
"""As OpenAPI describes them."""


def of_upload(path: str) -> list[dict[str, Any]]:
    """The query of an upload to this path, as OpenAPI describes it."""
    text, texts = _TEXT, {"type": "array", "items": _TEXT}
    several = " Separated by commas, or given one by one."
    return [
        _in_query(name, texts, description + several) if name in LISTS else _in_query(name, text, description)
        for name, description in UPLOAD.items()
        if f"{{{name}}}" not in path
    ]


def of_table() -> list[dict[str, Any]]:
    """The query of a table, as OpenAPI describes it."""
    return [_in_query(name, _TEXT, description) for name, description in TABLE.items()]


CORPUS_UNIT = {
    "signal": (_TEXT, "`hidden_state` by default."),
    "layer": (_WHOLE, "0 by default."),
    "direction": (_TEXT, "`forward` by default."),
    "limit": (_COUNT, "How many of the highest and of the lowest places are told; 10 by default."),
}
"""Of the query of a look at a unit of a corpus."""

CORPUS_UPLOAD = {
    "model": "That traces it, one of /v1/models.",
    "version": "The one that answers by default when not given.",
    "name": "What the corpus is called.",
}
"""Of the query of an upload of a data set, beside that of a table."""


def of_backtest() -> list[dict[str, Any]]:
    """The query of a backtest, as OpenAPI describes it."""
    own = [_in_query(name, schema, description) for name, (schema, description) in BACKTEST.items()]
    return [*of_table(), *own]


def of_corpus_upload() -> list[dict[str, Any]]:
    """The query of an upload of a data set, as OpenAPI describes it."""
    of_upload = " Of an upload."
    return [_in_query(name, _TEXT, told + of_upload) for name, told in (CORPUS_UPLOAD | TABLE).items()]


def of_corpus_unit() -> list[dict[str, Any]]:
    """The query of a look at a unit of a corpus, as OpenAPI describes it."""
    return [_in_query(name, schema, description) for name, (schema, description) in CORPUS_UNIT.items()]


def of_values() -> list[dict[str, Any]]:
    """The query of a look at a stored trace, as OpenAPI describes it."""
    return [_in_query(name, schema, description) for name, (schema, description) in VALUES.items()]


def _in_query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def described(endpoint: Endpoint, path: str) -> Callable[..., Awaitable[Any]]:
    """What the framework describes in the place of an endpoint, with the parameters of this path; it never calls it."""

    @wraps(endpoint)
    async def served(**_: Any) -> None:
        raise RuntimeError(f"{path} is answered by the exchange")

    names = [name for name in inspect.signature(endpoint).parameters if f"{{{name}}}" in path]
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=_IN_PATH[name]) for name in names]
    served.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return served
