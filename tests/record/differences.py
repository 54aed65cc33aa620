"""The differences from the record that are wanted: each says which replies, what they are instead, and why.

A difference is asserted as precisely as the record itself: what it changes must then be so in each reply that it fits,
and it must fit one. Several may fit the same reply; they are applied in their order.

    WANTED = (
        Difference(
            why="pages of other origins are refused for everything that changes something",
            matching=r"plain/sessions/handshakes/(?P<origin>null)",
            status=403,
            reason="Forbidden",
            body='{"title":"ForeignOrigin","status":403,"detail":"no page of <<origin>> may do that"}',
        ),
        Difference(why="the server has no name", has_header="server", headers={"server": None}),
        Difference(
            why="every JSON reply of a model tells its cell",
            names="plain/models/*",
            has_text=r'"lstm":\\{',
            text=((r'("lstm":\\{)', r'"cell":"lstm",\\1'),),
        ),
    )
"""

import json as json_
import math
import re
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from normalise import LENGTH, Recorded

OF_SESSION = r'("session_id":(?:"[^"]*"|<\w+>),)"model":'
COMPUTED = re.compile(r'"(?:[^"\\]|\\.)*"|#')


class Inapplicable(Exception):
    """A difference cannot be made of a reply that it fits."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One wanted difference; what is left out stays as it was recorded."""

    why: str
    """One line."""

    # which replies it is of: those that all of this is true of

    names: str = "*"
    """A pattern of their names, as a shell has it; `[[]` stands for a bracket."""
    matching: str = ""
    """An expression that the whole of a name matches; what its groups are found to be is put into `body`."""
    statuses: tuple[int, ...] = ()
    """The recorded status is one of these; any, if there are none."""
    has_header: str | None = None
    """The recorded reply has this header."""
    has_text: str | None = None
    """The recorded text matches this expression somewhere."""

    # what they are instead

    status: int | None = None
    """Instead of the recorded one."""
    reason: str | None = None
    """The reason phrase."""
    headers: Mapping[str, str | list[str] | None] | None = None
    """What headers hold instead; None for those that are not there any more."""
    closes: str | None = None
    """Whether the server closes the connection: `no`, `yes` or `at once`."""
    left: str | None = None
    """How a connection is left in the end, `open` or `closed`, in place of all the others."""
    framing: str | None = None
    """How the body ends: `none`, `length`, `chunks` or `the end`."""
    interim: tuple[str, ...] | None = None
    """Heads of interim replies."""
    digits: str | None = None
    """How many digits the numbers have, as it is recorded; empty for those of float32."""
    body: str | None = None
    """The whole text of the body, in which `#` stands for no number, and `<<origin>>` for the group of this name."""
    text: tuple[tuple[str, str], ...] = ()
    """Expressions and what to put in their places in the recorded text; each must match in each reply."""
    without: str | None = None
    """What this expression matches first is not there, nor are its numbers."""
    numbers: tuple[float, ...] = ()
    """What was computed instead, as many numbers as the text has places for."""
    rounded: tuple[float, ...] = ()
    """The numbers of all formulas instead."""
    json: Callable[[Any], Any] | None = None
    """Makes the wanted JSON of the recorded; numbers that were computed are numbers in it."""
    change: Callable[[str], str] | None = None
    """Makes the wanted text of the recorded, whatever the format."""

    def fits(self, name: str, recorded: Recorded) -> bool:
        """Whether it is of this reply."""
        return (
            ("left" in recorded) == (self.left is not None)
            and fnmatchcase(name, self.names)
            and (not self.matching or re.fullmatch(self.matching, name) is not None)
            and (not self.statuses or recorded["status"] in self.statuses)
            and (self.has_header is None or self.has_header in recorded.get("headers", {}))
            and (self.has_text is None or re.search(self.has_text, recorded.get("text", "")) is not None)
        )

    def applied(self, name: str, recorded: Recorded) -> Recorded:
        """What is wanted instead of the recorded reply of this name; raises `Inapplicable`."""
        wanted = deepcopy(recorded)
        for part in ("status", "reason", "framing", "left"):
            if (value := getattr(self, part)) is not None:
                wanted[part] = value
        self._change_headers(wanted)
        if self.digits is not None:
            wanted.pop("digits", None)
            wanted |= {"digits": self.digits} if self.digits else {}
        if self.closes is not None:
            wanted.pop("closes", None)
            wanted |= {} if self.closes == "no" else {"closes": self.closes}
        if self.interim is not None:
            wanted.pop("interim", None)
            wanted |= {"interim": list(self.interim)} if self.interim else {}
        self._change_body(name, wanted)
        if self.body is None:
            _state_length(wanted, recorded)
        if wanted == recorded:
            raise Inapplicable("it changes nothing")
        return wanted

    def _change_body(self, name: str, wanted: Recorded) -> None:
        for expression, instead in self.text:
            wanted["text"], count = re.subn(expression, instead, wanted.get("text", ""))
            if not count:
                raise Inapplicable(f"{expression!r} is not in {wanted['text'][:200]!r}")
        if self.change is not None:
            wanted["text"] = self.change(wanted["text"])
        if self.without is not None:
            _cut(wanted, self.without)
        if self.json is not None:
            _put(wanted, self.json(json_of(wanted)))
        if self.numbers:
            _put_numbers(wanted, self.numbers)
        if self.rounded:
            wanted["rounded"] = list(self.rounded)
        if self.body is not None:
            _put_body(wanted, self._body_of(name))

    def _body_of(self, name: str) -> str:
        body = self.body or ""
        found = re.fullmatch(self.matching, name) if self.matching else None
        for group, value in (found.groupdict() if found else {}).items():
            body = body.replace(f"<<{group}>>", value)
        return body

    def _change_headers(self, wanted: Recorded) -> None:
        for name, value in (self.headers or {}).items():
            wanted.setdefault("headers", {}).pop(name, None)
            if value is not None:
                wanted["headers"][name] = [value] if isinstance(value, str) else value


JSON, PROBLEM = "application/json", "application/problem+json"

SIGNALS = [
    {"name": name, "symbol": symbol, "low": low, "high": high, "description": description}
    for name, symbol, low, high, description in (
        ("input_gate", "i", 0.0, 1.0, "how much of the candidate is added to the cell state"),
        ("forget_gate", "f", 0.0, 1.0, "how much of the previous cell state remains"),
        ("cell_candidate", "g", -1.0, 1.0, "what the input gate lets into the cell state"),
        ("output_gate", "o", 0.0, 1.0, "how much of tanh(cell state) becomes the hidden state"),
        ("cell_state", "c", None, None, "the memory: c_t = f_t·c_{t−1} + i_t·g_t"),
        ("hidden_state", "h", -1.0, 1.0, "the output: h_t = o_t·tanh(c_t)"),
    )
]


def _cell(lstm: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is said of an LSTM's cell; projected, its hidden states may be of any size."""
    if lstm is None:
        return {"cell": None, "signals": []}
    *others, hidden_state = SIGNALS
    if lstm["proj_size"]:
        hidden_state = hidden_state | {"low": None, "high": None}
    return {"cell": "lstm", "signals": [*others, hidden_state]}


def _with_cells(value: Any) -> Any:
    """The same JSON, in which each ModelInfo tells of cells."""
    if isinstance(value, list):
        return [_with_cells(each) for each in value]
    if not isinstance(value, dict):
        return value
    told: dict[str, Any] = {}
    for name, each in value.items():
        told |= _cell(each) if name == "lstm" else {}
        told[name] = [lstm | _cell(lstm) for lstm in each] if name == "lstms" else _with_cells(each)
    return told


_FIELDS = re.compile(r"known are ((?:[\w.]+, )*future_inputs(?:, [\w.]+)*)")
_NEW_FIELDS = ("columns", "ids", "observed", "sampling", "static_columns", "static_inputs", "timestamps")
_NEW_STEP_FIELDS = ("interventions",)


def _with_new_fields(text: str) -> str:
    """A refusal of an unknown field that lists the new ones among the known."""
    return _FIELDS.sub(lambda found: f"known are {', '.join(_with_new(found[1].split(', ')))}", text)


def _with_new(fields: list[str]) -> list[str]:
    """Those of a predict body, and of a step of a session its own."""
    return sorted([*fields, *_NEW_FIELDS, *_NEW_STEP_FIELDS * ("step_number" in fields)])


_OPTIONS = re.compile(r"known are ((?:\w+, )*activation(?:, \w+)*)")
_NEW_OPTIONS = (
    *("ignore", "join", "layers", "lowercase", "output_activation", "predicts", "quantiles"),
    *("scaler", "static", "tokens"),
)


def _with_new_options(text: str) -> str:
    """A refusal of an unknown parameter of an upload that lists the new ones among the known."""
    return _OPTIONS.sub(lambda found: f"known are {', '.join(sorted([*found[1].split(', '), *_NEW_OPTIONS]))}", text)


FUNCTIONS = (
    "none, relu, relu6, leaky_relu, elu, selu, gelu, gelu_tanh, silu, mish, hardtanh, tanh, sigmoid, softplus, "
    "softsign, exp, softmax, log_softmax, l2_norm"
)
NO_SIGMOID = '"What has no weights, as a sigmoid at the end, cannot be seen in a checkpoint and is not computed."'
LAYERS = "(--layers to state others, --sample FILE to verify them)."
HEAD = r'"Head: \'head.0\' \(4 → 2\), the only one that fits the LSTM\'s output \(--head PATH, or none\)\.",'
NOT_COMPUTED = '"not_computed":[{"name":"head.0","kind":"a matrix with a bias that does not fit it","place":"behind"}]'
NO_PREDICTION = (
    "No prediction: 'head.0' stands behind the LSTM and is not computed. The LSTM alone is served: give a --sample, "
    "state --layers, or --ignore NAME if the prediction does not depend on it."
)


def _choices(parameter: str, old: str, new: str) -> Difference:
    """A parameter of an upload that may say more than before."""
    return Difference(
        why=f"uploads have more to say of {parameter}",
        matching=rf"administered/refused uploads/query {parameter}=\w+",
        text=((f"must be {old}, not", f"must be {new}, not"),),
    )


_LSTM = ("input_size", "hidden_size", "num_layers", "bias", "bidirectional", "proj_size")


def _with_heads(value: Any) -> Any:
    """The same JSON, in which each ModelInfo tells of heads, modules, static inputs and verification."""
    if isinstance(value, list):
        return [_with_heads(each) for each in value]
    if not isinstance(value, dict) or "lstms" not in value:
        return {name: _with_heads(each) for name, each in value.items()} if isinstance(value, dict) else value
    told: dict[str, Any] = {}
    for name, each in value.items():
        if name == "input":
            told["modules"] = [_module(lstm) for lstm in value["lstms"]]
        if name == "output":
            told["static"] = None
        if name == "examples":
            told |= {"verified": None, "ignored": [], "not_computed": []}
        told[name] = _output(each) if name == "output" and each is not None else each
    return told


def _with_warmup(value: Any) -> Any:
    """The same JSON, in which each ModelInfo tells of times: windows, warm-ups, gaps and the calendar."""
    if isinstance(value, list):
        return [_with_warmup(each) for each in value]
    if not isinstance(value, dict) or "lstms" not in value:
        return {name: _with_warmup(each) for name, each in value.items()} if isinstance(value, dict) else value
    told: dict[str, Any] = {}
    for name, each in value.items():
        warmup = {"window": None, "warmup_steps": None if value["lstm"] is None else 0, "missing": None}
        told |= warmup if name == "verified" else {}
        told[name] = _with_derived(each, value["name"]) if name == "input" and each is not None else each
    return told


def _with_derived(taken: Mapping[str, Any], model: str) -> dict[str, Any]:
    """What a model takes, with what follows from the times; of the shipped ones the half-hours of one."""
    names = ("half_hour", "half_hour_of_week") if model == "demand" else ()
    derived = {"derived": {name: name for name in names} or None}
    return {
        key: each
        for name, each in taken.items()
        for key, each in (*(derived.items() if name == "text" else ()), (name, each))
    }


_SUMMED = ("input_contribution", "recurrent_contribution", "bias_input", "bias_recurrent")


def _with_terms(value: Any) -> Any:
    """The same walk-through of an LSTM, in which each gate and each update tells its terms."""
    told: dict[str, Any] = {}
    for name, each in value.items():
        if name == "gates":
            told[name] = {gate: _with_sum(about) for gate, about in each.items()}
        elif name in ("cell_update", "hidden_update"):
            formula = each.pop("formula")
            terms = _cell_terms(each) if name == "cell_update" else _hidden_terms(each)
            total = sum(term["value"] for term in terms.values())
            told[name] = each | {"terms": terms, "value": total, "formula": formula}
        else:
            told[name] = each
    return told


def _with_sum(gate: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, each in gate.items():
        if name == "sum":
            told["terms"] = {term: gate[term] for term in _SUMMED if gate[term] is not None}
        told[name] = each
    return told


def _cell_terms(told: Mapping[str, Any]) -> dict[str, Any]:
    forget = [_factor("forget_gate", told["forget_gate"])]
    forget.append(_factor("cell_state", told["previous_cell_state"], is_previous=True))
    added = [_factor(name, told[name]) for name in ("input_gate", "cell_candidate")]
    return {
        "forget_term": {"factors": forget, "value": told["kept"]},
        "input_term": {"factors": added, "value": told["written"]},
    }


def _hidden_terms(told: Mapping[str, Any]) -> dict[str, Any]:
    whole = told["hidden_state"] if told["hidden_state"] is not None else told["unprojected_hidden_state"]
    tanh = _factor("cell_state", told["cell_state"], "tanh", told["tanh_cell_state"])
    return {"output_term": {"factors": [_factor("output_gate", told["output_gate"]), tanh], "value": whole}}


def _factor(
    name: str, argument: float, function: str | None = None, value: float | None = None, *, is_previous: bool = False
) -> dict[str, Any]:
    value = argument if value is None else value
    return {"name": name, "is_previous": is_previous, "function": function, "argument": argument, "value": value}


def _module(lstm: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": lstm["name"],
        "cell": "lstm",
        "spec": {name: lstm[name] for name in _LSTM},
        "states": ["hidden_state", "cell_state"],
        "signals": lstm["signals"],
    }


def _output(told: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the only head, whose labels are left out where they are the vocabulary."""
    head = {"name": "prediction", "kind": told["kind"], "names": told["names"], "labels": told["labels"]}
    head |= {"labels": None} if told["kind"] == "next_token" else {}
    head |= {"quantiles": None, "threshold": None, "units": None, "predicts": told["predicts"]}
    return {**told, "quantiles": None, "heads": [] if told["kind"] == "output" else [head]}


UNVERIFIED = {
    "code": "unverified",
    "message": "the predictions were never compared with numbers of the training code: import the model with --sample",
}
PREDICTS = (
    r'"prediction":\{|^prediction\.values F32|'
    r'^\{(?:"id":"(?:[^"\\]|\\.)*",)?"model_name".*?"outputs":\[.*?"name":"prediction"'
)
"""In a reply with a prediction, in whatever format."""

_MODEL = re.compile(r'("model":\{"name":"[^"]*","version":"[^"]*")\}([,\n]?)')
_OUTPUTS = re.compile(r'(?:"parameters":\{([^}]*)\},)?"outputs":\[')


def _unverified(text: str) -> str:
    """A reply that says of its prediction that it is not verified."""
    return _noted(text, UNVERIFIED, is_unverified=True)


def _noted(text: str, *notes: Mapping[str, Any], is_unverified: bool = False) -> str:
    """A reply with notes: behind its model, as a line of metadata in safetensors, or among the parameters of /v2."""
    told = json_.dumps(notes, separators=(",", ":"), ensure_ascii=False)
    if text.startswith(('{"model_name"', '{"id"')):
        said = (['"verified":false'] if is_unverified else []) + [f'"notes":{json_.dumps(told, ensure_ascii=False)}']

        def parameters(found: re.Match[str]) -> str:
            return f'"parameters":{{{",".join(([found[1]] if found[1] else []) + said)}}},"outputs":['

        return _OUTPUTS.sub(parameters, text, count=1)
    verified = ',"verified":false' if is_unverified else ""

    def model(found: re.Match[str]) -> str:
        return f'{found[1]}{verified}}}{found[2] or chr(10)}"notes":{told}{found[2]}'

    changed, count = _MODEL.subn(model, text, count=1)
    if not count:
        raise Inapplicable(f"there is no model in {text[:200]!r}")
    return changed


def _unknown(matching: str, token: str, *loc: int) -> Difference:
    """A note, first among the notes, behind the model or at the end, that a token was read as another."""
    message = f"'{token}' is not in the model's vocabulary; it was read as '<unknown>'"
    note = {"code": "unknown_token", "message": message, "loc": ["body", "text", *loc]}

    def noted(text: str) -> str:
        told = json_.dumps(note, separators=(",", ":"), ensure_ascii=False)
        if '"notes":[' in text:
            return text.replace('"notes":[', f'"notes":[{told},', 1)
        return _noted(text, note) if '"model":{' in text else f'{text[:-1]},"notes":[{told}]}}'

    return Difference(why=f"a token that is read as another is told: {token}", matching=matching, change=noted)


def _with_unknown_tokens(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply that marks the tokens of which its notes tell."""
    unknown: list[list[int]] = [[] for _ in reply["tokens"]]
    for note in reply["notes"]:
        if note["code"] == "unknown_token":
            row, index = [0, *note["loc"][2:]][-2:]
            unknown[row].append(index)
    return _behind(reply, "tokens", {"unknown_tokens": unknown})


def _sampled(matching: str, temperature: float = 0.0, seed: int = 0) -> Difference:
    """A reply that says how its tokens were drawn, and why its texts ended."""
    sampling = {"temperature": temperature, "top_k": None, "top_p": None, "seed": seed}

    def sampled(reply: Mapping[str, Any]) -> dict[str, Any]:
        told = _behind(reply, "tokens", {"sampling": sampling})
        if "prediction" in reply:
            told["prediction"] = {**reply["prediction"], "finish_reason": ["length"] * len(reply["tokens"])}
        return told

    why = f"a reply says how its tokens were drawn: {temperature}, {seed}"
    return Difference(why=why, matching=matching, json=sampled)


def _behind(fields: Mapping[str, Any], name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with more of them behind this one."""
    made: dict[str, Any] = {}
    for each, value in fields.items():
        made[each] = value
        made |= more if each == name else {}
    return made


def _warming(matching: str, before: int = 0) -> Difference:
    """A note that two time steps of `river` are too early to be believed, so many steps into a session."""
    reason = "the model needs 183 time steps to warm up"
    if before:
        reason += f", and the session has read {before} before these"
    note = {"code": "warmup", "message": f"predictions at time steps 0 to 1 are not to be believed: {reason}"}
    why = f"predictions within the warm-up are told, {before} steps into it"
    return Difference(why=why, matching=matching, change=lambda text: _noted(text, note))


BYTES = {
    "17352": "17424",
    "17136": "17176",
    "16692": "16708",
    "16704": "16728",
    "20020": "20200",
    "18328": "18508",
    "18784": "18964",
    "19900": "20080",
    "18484": "18664",
}
"""How large stored traces are whose inputs are kept as float64, by how large they were."""


INSTEAD: Mapping[str, str | list[str] | None] = {"allow": None, "transfer-encoding": None, "www-authenticate": None}
"""An error does not have the headers of the reply, or of the other error, that came before."""

STATUSES = {"BadRequest": 400, "ForeignOrigin": 403, "UnknownHost": 403, "InvalidInput": 422}


def _refused(why: str, matching: str, title: str, message: str, *loc: str | int, under_v2: bool = False) -> Difference:
    """An error instead, with what it says of this place, if of any; `/v2` tells errors in its own way."""
    place = ".".join(map(str, loc))
    detail = f"{place}: {message}" if loc else message
    status = STATUSES[title]
    problem = {"type": f"urn:gatescope:{title}", "title": title, "status": status, "detail": detail}
    problem |= {"errors": [{"loc": loc, "msg": message}]} if loc else {}
    if under_v2:
        why, problem, status = f"{why} (/v2)", {"error": detail}, 400 if title == "InvalidInput" else status
    return Difference(
        why=why,
        matching=matching,
        status=status,
        reason=HTTPStatus(status).phrase,
        headers=INSTEAD | {"content-type": JSON if under_v2 else PROBLEM},
        framing="length",
        body=json_.dumps(problem, separators=(",", ":")),
    )


def _foreign(who: str, matching: str, origin: str = "<<origin>>", *, under_v2: bool = False) -> Difference:
    """What a page of another origin gets."""
    message = f"no page of {origin} may do that: name it in GATESCOPE_CORS_ORIGINS"
    why = f"a page of another origin may only read: {who}"
    return _refused(why, matching, "ForeignOrigin", message, under_v2=under_v2)


FOREIGN = r"from (?P<origin>http://b\.example|https://A\.example|https://a\.example/|https://evil\.example|null|)"
FOREIGN_HERE = r"from (?P<origin>https://evil\.example|http://localhost:9|null|) at localhost:8000"
NAMELESS = r"from (?P<origin>http://localhost:8000) at "
A, EVIL = "https://a.example", "https://evil.example"

HOST = "without keys, the loopback answers only to addresses, localhost and the names that are allowed"
OTHER_HOST = (
    "this server is not '<<host>>': ask for it by its address or as localhost, or name it in GATESCOPE_ALLOWED_HOSTS"
)
LINES = "plain/trace/(selections/outputs as lines|of both-ways/as lines(#2)?)"
MODULE_LINES = "modules/traced/(forecaster|decoder|attention|stateful|alone) as application/x-ndjson"
HEADER_STATE = r',"final_state":\{"hidden_state":\[[#,\[\]]*\],"cell_state":\[[#,\[\]]*\]\}'

NO_HOST = OTHER_HOST.replace("<<host>>", "")
HOSTS = r"(?P<host>models\.example|a b|xn--caf-dma\.example)"
PAGES = r"from \S+ at (?P<host>models\.example|evil\.example|\[)(:8000)?"

DEADLINE = "X-Request-Timeout-Ms is checked on every route"
GIVEN = "(?P<given>soon|0|-1)"
TIMEOUT = ("header", "X-Request-Timeout-Ms")
MILLISECONDS = "must be a positive whole number of milliseconds, of at most 15 digits, not '<<given>>'"
NUMBERS = "NaN and numbers that are too large are refused at the first of them, in its place in the JSON"
NAN = "must be a finite float32 number, not nan"

# fmt: off
TIME_FIRST = (
    0.105801, -0.0494164, -0.0843741, 0.00284824, -0.0871059, -0.0341224,
    0.189136, -0.0797832, -0.168528, -0.00815498, -0.194519, -0.027781,
    0.244033, -0.10236, -0.227381, 0.0151334, -0.302846, -0.00817421,
    0.119635, -0.0491871, -0.0967291, -0.0239054, -0.0957367, -0.0203201,
    0.20102, -0.0818531, -0.182448, -0.0238738, -0.21676, -0.0104113,
    0.250723, -0.106363, -0.230738, 0.0260649, -0.326886, 0.00771695,
)
# fmt: on
"""What `plain/formats/arrays/time first slowly` has always been answered."""

# fmt: off
BRACKETS_FORMULAS = (
    6.166, 0.3586, 0.8939, 0.003573, 1.669, 5.947, 2.652, 0.99997, 3.346, 5.021, 1.543, 0.999998, 0.5982,
    3.157, 2.907, 0.9987, 0.99997, 0.9981, 0.003573, 0.999998, 0.9945, 0.9987, 0.9945, 0.9987, 0.7593, 0.7583,
)
# fmt: on
"""The numbers in the formulas of `modules/shipped/brackets explained`."""

METRICS = (("gatescope_queries_waiting", "gatescope_requests_waiting", "Requests that wait to be admitted"),)
"""Each metric that is new, behind which it stands, and what is said of it."""

INVALID = (
    '{"type":"urn:gatescope:BadRequest","title":"BadRequest","status":400,"detail":"Invalid HTTP request received."}'
)

WANTED: tuple[Difference, ...] = (
    Difference(
        why="what is no HTTP request is told so as every error is",
        names="plain/connections/*",
        matching="(?!plain/connections/(ahead/|lengths/too short)).*",
        has_text="^Invalid HTTP request received.$",
        headers={"content-type": PROBLEM, "x-request-id": "<x-request-id>"},
        body=INVALID,
    ),
    Difference(
        why="a request is answered, whatever was sent behind it",
        names="plain/connections/ahead/nonsense behind",
        status=200,
        reason="OK",
        headers={
            "connection": None,
            "content-length": "<content-length>",
            "content-type": JSON,
            "x-request-id": "<x-request-id>",
        },
        closes="no",
        text=(
            ("^.*$", '{"model":{"name":"founding","version":"1"},"sequence_lengths":[1],"output":[[[#,#,#,#,#,#]]]}'),
        ),
        numbers=(0.135069, -0.0496682, -0.10734, -0.0460491, -0.111156, -0.00164463),
    ),
    Difference(
        why="a body that is shorter than it was meant is a body all the same",
        names="plain/connections/lengths/too short",
        headers={"connection": None, "content-type": PROBLEM, "x-request-id": "<x-request-id>"},
        closes="no",
        body='{"type":"urn:gatescope:InvalidJSON","title":"InvalidJSON","status":400,'
        '"detail":"the body is not JSON: unexpected end of data: line 1 column 24 (char 23)"}',
    ),
    Difference(
        why="what is no HTTP request is told so behind the reply to the one before",
        names="plain/connections/ahead/nonsense itself",
        status=400,
        reason="Bad Request",
        headers={
            "connection": "close",
            "content-type": PROBLEM,
            "date": "<date>",
            "server": "uvicorn",
            "x-request-id": "<x-request-id>",
        },
        closes="yes",
        framing="length",
        body=INVALID,
    ),
    Difference(
        why="the last line of a trace has its final state, and the first one never",
        matching=f"{LINES}|{MODULE_LINES}",
        without=HEADER_STATE,
    ),
    Difference(
        why="plain words: a step of zero",
        matching=r"plain/trace/selections/time with a step of zero( as lines| as npz)?",
        text=(("goes nowhere", "selects nothing"),),
    ),
    Difference(
        why="plain words: a module that did not run",
        names="modules/traced/that did not run",
        text=(("nothing to show of it", "nothing to trace"),),
    ),
    Difference(
        why="what can be got has a head",
        matching="plain/routes/(POST|PUT|DELETE|PATCH|OPTIONS) /docs",
        headers={"allow": "GET, HEAD"},
    ),
    _refused(f"{HOST}: none", "plain/connections/closing/with an empty host", "UnknownHost", NO_HOST),
    _foreign("CORS does not name it", rf"origins/origins/(predict|refused|lines|method) {FOREIGN}( slowly)?(#2)?"),
    _foreign("CORS does not name it", rf"origins/origins/infer {FOREIGN}", under_v2=True),
    _foreign("CORS does not name it either", rf"origins/administration/(predict|POST /v1/\S+) {FOREIGN_HERE}"),
    _foreign("CORS does not name it either", rf"origins/administration/POST /v2/\S+ {FOREIGN_HERE}", under_v2=True),
    _refused(f"{HOST}: no name", rf"origins/administration/(predict|POST /v1/\S+) {NAMELESS}", "UnknownHost", NO_HOST),
    _refused(
        f"{HOST}: no name", rf"origins/administration/POST /v2/\S+ {NAMELESS}", "UnknownHost", NO_HOST, under_v2=True
    ),
    _foreign("`*` names none that may load", r"reading/origins/load from (?P<origin>https://a\.example|null) with.*"),
    _foreign("whatever its key", r"keyed/routes/(POST|PUT) /v1/\S+ from a page", A),
    _foreign("whatever its key", r"keyed/routes/POST /v2/\S+ from a page", A, under_v2=True),
    _foreign("with or without an admin key", "limited/admin keys/load from a page( without a key)?", EVIL),
    _foreign("no 401, which a key would not help", "administered/(loads/load |refused uploads/)from a page", EVIL),
    _foreign("no 401, which a key would not help", "administered/repository/load from a page", EVIL, under_v2=True),
    _foreign("where no CORS is", r"plain/predict/headers/origin(#2|, of an error)?", A),
    _foreign("where no CORS is", r"plain/infer/fields/Origin: (?P<origin>https://a\.example)(#2)?", under_v2=True),
    _foreign("a stream, of another host", "plain/sessions/handshakes/other page", EVIL),
    _foreign("a stream, of another port", "plain/sessions/handshakes/other port", "http://localhost:9"),
    _foreign("a stream, of no origin", "plain/sessions/handshakes/(?P<origin>null)"),
    _refused(f"{HOST}: of anybody", rf"plain/connections/closing/(live )?of host {HOSTS}", "UnknownHost", OTHER_HOST),
    _refused(f"{HOST}: of pages", rf"origins/administration/(predict|POST /v1/\S+) {PAGES}", "UnknownHost", OTHER_HOST),
    _refused(
        f"{HOST}: of pages", rf"origins/administration/POST /v2/\S+ {PAGES}", "UnknownHost", OTHER_HOST, under_v2=True
    ),
    _refused(
        "a request of HTTP/1.1 names a host",
        "plain/connections/(closing/(live )?without a host|no HTTP/a lone line)",
        "BadRequest",
        "a request names its host once; this one has 0 Host headers",
    ),
    _refused(
        "a request names no two hosts",
        "plain/connections/closing/with two hosts",
        "BadRequest",
        "a request names its host once; this one has 2 Host headers",
    ),
    Difference(
        why="an X-Request-ID that is not of plain characters is replaced",
        names="plain/documents/request id 'café'*",
        headers={"x-request-id": "<x-request-id>"},
    ),
    _refused(DEADLINE, f"plain/documents/deadline {GIVEN}", "InvalidInput", MILLISECONDS, *TIMEOUT),
    _refused(DEADLINE, f"plain/documents/v2 deadline {GIVEN}", "InvalidInput", MILLISECONDS, *TIMEOUT, under_v2=True),
    Difference(
        why="whoever sends the body with the head is not told to go on: queries",
        matching=r"plain/(infer/fields/Expect: 100-continue(#2)?|connections/announced//.* at once)",
        interim=(),
    ),
    Difference(
        why="whoever sends the body with the head is not told to go on: uploads",
        names="administered/uploads/awaited",
        interim=(),
    ),
    Difference(
        why="an offer of h2c is ignored, and the body kept",
        names="plain/sessions/handshakes/h2c to a route that is hot",
        status=200,
        reason="OK",
        headers={"content-type": JSON, "content-length": "<content-length>"},
        json=lambda _: {
            "model": {"name": "tiny", "version": "1"},
            "sequence_lengths": [1],
            "prediction": {"values": [[[-0.2813, 0.43449]]]},
        },
    ),
    _refused(
        f"{NUMBERS}: NaN before a huge number",
        "plain/predict/bodies/huge whole number beside NaN(#2| slowly)?",
        "InvalidInput",
        NAN,
        *("body", "inputs", 0, 3),
    ),
    _refused(
        f"{NUMBERS}: before what is no number, and what is no JSON",
        "plain/predict/(bodies/many wrong(#2| slowly)?|narrow bodies/many wrong(#2)?)",
        "InvalidInput",
        NAN,
        *("body", "inputs", 1, 0),
    ),
    Difference(
        why=f"{NUMBERS}: of a tensor",
        names="plain/infer/json/data [[]1,2,3,4,*",
        has_text=r"finite float32 number, not (inf|nan)",
        text=((r"inputs\.0\.0\.4", "body.inputs.0.data.4"),),
    ),
    Difference(
        why=f"{NUMBERS}: of a state",
        matching="plain/infer/fields/state with NaN(#2)?",
        body=f'{{"error":"body.inputs.2.data.0: {NAN}"}}',
    ),
    Difference(
        why="ModelInfo tells which cell a model has, and what that computes",
        has_text=r'"lstms":\[',
        json=_with_cells,
    ),
    Difference(
        why="ModelInfo tells of every head and module, of static inputs and of verification",
        has_text=r'"lstms":\[',
        json=_with_heads,
    ),
    Difference(
        why="ModelInfo tells of windows, warm-ups and gaps, and which features follow from the times",
        has_text=r'"lstms":\[',
        json=_with_warmup,
    ),
    Difference(
        why="what is missing of a horizon may follow from the times",
        names="modules/shipped/demand ahead",
        text=(
            (
                "of each future step",
                "of each future step; those of the calendar follow from 'timestamps' where 'inputs' lacks them, too",
            ),
        ),
    ),
    Difference(
        why="ModelInfo has a hash of what the model computes with",
        has_text=r'"lstms":\[',
        change=lambda text: re.sub(
            r'"trace_method":(<method>|null)',
            lambda found: f'"fingerprint":{"null" if found[1] == "null" else "<hash>"},{found[0]}',
            text,
        ),
    ),
    Difference(
        why="a walk-through tells the terms of every equation in their order",
        has_text=r'"gates":\{',
        json=_with_terms,
    ),
    Difference(
        why="a predict body has columns, static inputs and sampling",
        has_text=_FIELDS.pattern,
        change=_with_new_fields,
    ),
    Difference(
        why="a layer says what it is given",
        has_text="the manifest's inputs fill",
        text=(("the manifest's inputs fill", "layer 'lstm' is given"),),
    ),
    Difference(
        why="a reply with a prediction says that it is not verified, and which remedy there is",
        matching="(?!modules/shipped/)(?s:.*)",  # those are verified
        has_text=f"(?ms){PREDICTS}",
        change=_unverified,
    ),
    _warming(r"modules/shipped/river (predict(#2| slowly)?|outputs|as [\w./+-]+|step|infer(#2)?)"),
    _warming("modules/shipped/river step#2", before=2),
    Difference(
        why="a stored trace tells how many of its steps were fed back: of features",
        names="plain/traces/stored/forecaster described",
        text=((',"inputs":', ',"horizon":2,"inputs":'),),
    ),
    Difference(
        why="a stored trace tells how many of its steps were fed back: of tokens",
        names="plain/traces/stored/letters described",
        text=((',"module":', ',"horizon":3,"module":'),),
    ),
    Difference(
        why="a gate that is nearly 1 is not written as 1",
        names="modules/shipped/brackets explained",
        rounded=BRACKETS_FORMULAS,
        text=(('= (−?)1"', r'= \1#"'), (r"1 · # \+ # · \(−1\)", "# · # + # · (−#)")),
    ),
    _unknown("plain/predict/tokens/mood texts(#2)?", "s", 1, 0),
    _unknown("plain/predict/tokens/mood unknown token(#2)?", "zebra", 0),
    _unknown("plain/predict/tokens/mood unknown token in a list(#2)?", "abz", 1, 0),
    _unknown("plain/predict/tokens/mood letters of others(#2)?", "日本", 0),
    _unknown("plain/explain/fields/mood(#2| versioned)?", "wet", 2),
    _unknown("plain/traces/stored/mood( described)?", "snow", 1, 0),
    Difference(
        why="the tokens that the vocabulary lacks are marked",
        matching=r"plain/predict/tokens/mood (texts|unknown token|unknown token in a list|letters of others)(#2)?"
        "|plain/traces/stored/mood described",
        json=_with_unknown_tokens,
    ),
    _sampled(r"plain/predict/tokens/drawn(#\d)?", 0.8, 3),
    _sampled(r"modules/shipped/shakespeare wrong(#2)?", 0.7),
    _sampled(
        r"limited/steps/horizon 5|modules/code/writer (predict|lone|horizon|outputs)(#2| slowly)?"
        r"|plain/predict/tokens/(letters|ids) horizon(#2)?|plain/predict/tokens/letters horizon of a text(#2)?"
        r"|plain/sessions/other steps/horizon of text|plain/traces/stored/letters described"
    ),
    Difference(
        why="the tokens that were written are kept with a stored trace",
        matching="plain/traces/stored/letters( described)?",
        text=((r'"bytes":18582,', '"bytes":18648,'),),
    ),
    Difference(
        why="tokens can be streamed",
        names="plain/predict/*",
        has_text="is written as application/json, application/vnd.safetensors; asked",
        text=(("vnd.safetensors; asked", "vnd.safetensors, text/event-stream; asked"),),
    ),
    Difference(
        why="raw inputs that are scaled are kept as float64",
        has_text=f'"bytes":({"|".join(BYTES)}),',
        change=lambda text: re.sub(r'"bytes":(\d+)', lambda found: f'"bytes":{BYTES[found[1]]}', text),
    ),
    Difference(
        why="and told with their digits, those fed back too",
        names="plain/traces/stored/forecaster described",
        digits="of float64",
    ),
    Difference(
        why="the state of a session has the digits of float32, as every state",
        matching="plain/sessions/steps/.* state",
        has_text='^{"hidden_state":',
        digits="",
    ),
    Difference(
        why="static inputs may come as a tensor",
        has_text="initial_state.cell_state, future_inputs",
        text=(("initial_state.cell_state, future_inputs", "initial_state.cell_state, future_inputs, static_inputs"),),
    ),
    Difference(
        why="a session has static inputs, which is like `inputs`",
        names="plain/sessions/openings/inputs",
        text=(("known are initial_state, model, session_id, version", "did you mean 'static_inputs'?"),),
    ),
    Difference(
        why="the nearest name is told",
        matching="plain/trace/selections/unknown signal( as lines| as npz)?",
        text=(
            (r"Input should be 'input_gate'[^\"]*'hidden_state'", "there is no 'forget'; did you mean 'forget_gate'?"),
        ),
    ),
    Difference(
        why="other cells have signals of other names",
        matching="plain/trace/selections/signal that is null( as lines| as npz)?",
        text=(
            (
                "'cell_state' or 'hidden_state'",
                (
                    "'cell_state', 'hidden_state', 'reset_gate', 'update_gate', 'candidate', 'recurrent_candidate' "
                    "or 'pre_activation'"
                ),
            ),
        ),
    ),
    Difference(
        why="how many signals there are is the model's to say",
        matching="plain/trace/selections/too many signals( as lines| as npz)?",
        text=(
            (
                "List should have at most 6 items after validation, not 7",
                (
                    "7 are asked for; this model has 'input_gate', 'forget_gate', 'cell_candidate', 'output_gate', "
                    "'cell_state', 'hidden_state'"
                ),
            ),
        ),
    ),
    Difference(
        why="a checkpoint may have another recurrent module",
        names="administered/refused uploads/no LSTM",
        text=(("no nn.LSTM in the checkpoint", "no nn.LSTM, nn.GRU or nn.RNN in the checkpoint"),),
    ),
    Difference(
        why="a custom module that gives its state back can be streamed; another is told what it lacks",
        matching="modules/code/(forecaster|decoder|siamese|alone|failing) session",
        text=(
            (
                "reads a sequence as a whole",
                "reads a sequence as a whole: its forward has no parameter `initial_state`",
            ),
        ),
    ),
    Difference(
        why="a custom module that takes a state can be streamed if it gives it back",
        names="modules/code/stateful session",
        text=(
            (
                "reads a sequence as a whole",
                (
                    "reads a sequence as a whole: its forward gives no state back; let it return the prediction and "
                    "the state"
                ),
            ),
        ),
    ),
    Difference(
        why="between two calls of a module its state may also be changed",
        names="modules/*",
        has_text="these are several runs, not one",
        text=(
            (
                "these are several runs, not one",
                "these are several runs, not one, or its state is changed in between, as by a mask",
            ),
        ),
    ),
    _choices(
        "task",
        "regression, classification, tagging, next_token",
        "regression, quantile, classification, tagging, binary, multi_label, next_token",
    ),
    _choices("steps", "all, last, final, mean, max", "all, last, first, final, mean, max, sum"),
    _choices("activation", "relu, tanh", FUNCTIONS),
    Difference(
        why="an upload may say more of a checkpoint",
        has_text=_OPTIONS.pattern,
        change=_with_new_options,
    ),
    Difference(
        why="an upload tells the layers that it found",
        names="administered/uploads/*",
        has_text=f"nn\\.Linear 4 → 2.*{HEAD}",
        text=(
            (r"nn\.LSTM\(3, 4\), nn\.Linear 4 → 2", "nn.LSTM(3, 4): lstm → head.0"),
            (f"{HEAD}{NO_SIGMOID}", f'"Layers: lstm,head.0 {LAYERS}"'),
        ),
    ),
    Difference(
        why="what the last of all steps is need not be told",
        names="administered/uploads/*",
        has_text='"Steps: a prediction at each',
        text=(('"Steps: a prediction at each[^"]*",', ""),),
    ),
    Difference(
        why="an upload tells the layers that it found: of letters, whose names are those of the checkpoint",
        names="administered/uploads/letters",
        text=(
            (r"nn\.Embedding, nn\.LSTM\(3, 5\), nn\.Linear 5 → 4", "nn.LSTM(3, 5): emb → rnn → out"),
            ('"Embedding: .*is not computed."', f'"Layers: emb,rnn,out {LAYERS}"'),
            ('"name":"lstm","cell"', '"name":"rnn","cell"'),
        ),
    ),
    Difference(
        why="an upload into a model tells which layers its weights are of",
        names="administered/uploads/*",
        has_text=f'"notes":\\[{HEAD}{NO_SIGMOID},"Added',
        text=((f"{HEAD}{NO_SIGMOID}", '"Layers: lstm as lstm, head.0 as head.0."'),),
    ),
    Difference(
        why="that a head is left out is told",
        names="administered/uploads/an LSTM alone",
        text=(('"notes":\\[', '"notes":["No head: the head is left out. The LSTM alone is served.",'),),
    ),
    Difference(
        why="a model tells which weights it does not compute",
        matching="administered/(refused uploads/(parts that do.*|nothing is new)|uploads/(info|into what is unloaded))",
        text=((r'"not_computed":\[\]', NOT_COMPUTED),),
    ),
    Difference(
        why="an upload tells why a model predicts nothing",
        has_text='"No head: no linear layer',
        text=(('No head: no linear[^"]*","Left out: \'head.0\'\\.', NO_PREDICTION),),
    ),
    Difference(
        why="and says it once",
        names="administered/uploads/into what is unloaded",
        text=((r"\"Left out: 'head\.0'\.\",", ""),),
    ),
    Difference(
        why="what is damaged in a safetensors file is said in other words",
        names="administered/refused uploads/half a safetensors",
        text=(
            (
                r"Error while deserializing header: incomplete metadata, file not fully covered",
                "its tensors do not lie one behind the other up to its end",
            ),
        ),
    ),
    Difference(
        why="a convolution or a window keeps a trace from being made in parts, too",
        has_text="because the model reads both ways or is a custom module",
        text=(("reads both ways or is", "reads both ways, reads neighbouring steps or a window, or is"),),
    ),
    Difference(
        why="further kinds of files can be imported",
        has_text="give a file of torch.save",
        text=(
            (r"(\.ckpt, \.bin\)) or a (\.safetensors)", r"\1 or torch.export (.pt2), a \2 or .onnx"),
            (r"(\.onnx file)\b", r"\1, or a .keras or .h5 file of Keras"),
        ),
    ),
    Difference(
        why="that a module takes no state is said in the words that sessions have for it",
        has_text="its forward has no parameter of this name",
        text=(("has no parameter of this name", "has no parameter `initial_state`"),),
    ),
    Difference(
        why="a body in safetensors is read in its own layout, whatever body of this shape came before",
        matching="plain/formats/arrays/time first(#2)?",
        numbers=TIME_FIRST,
    ),
    Difference(
        why="a body of text/csv is read as a table",
        matching="plain/predict/headers/as text/csv(#2)?",
        status=422,
        reason="Unprocessable Entity",
        body='{"type":"urn:gatescope:InvalidInput","title":"InvalidInput","status":422,'
        '"detail":"table.csv, line 1, column \'a\': \'{\\"inputs\\":[[1\' is not a number (1 more problem)",'
        '"errors":[{"loc":["table",0,"a"],"msg":"\'{\\"inputs\\":[[1\' is not a number"},'
        '{"loc":["table",0,"e"],"msg":"\'5]]}\' is not a number"}]}',
    ),
    Difference(
        why="HEAD is answered wherever GET is",
        names="plain/routes/HEAD /docs",
        status=200,
        reason="OK",
        headers={"allow": None, "content-type": "text/html; charset=utf-8"},
    ),
    Difference(
        why="the metrics of requests are prometheus-client's own, and tell how many requests wait",
        has_text="# HELP gatescope_requests_total",
        text=tuple(
            (f"(# TYPE {name} .*\n)", rf"\1# HELP {added} {told}\n# TYPE {added} gauge\n")
            for name, added, told in METRICS
        ),
    ),
    Difference(
        why="`OPTIONS *` asks for nothing at `/*`",
        names="plain/connections/no HTTP/star",
        text=((r"at /\*;", "at *;"),),
    ),
    Difference(
        why="the job has the numbers",
        matching="plain/predict/headers/preference(#2)?",
        without=r'"output":.*\]\]\]',
    ),
    Difference(
        why="a client that would rather not wait is answered by a job",
        matching="plain/predict/headers/preference(#2)?",
        status=202,
        reason="Accepted",
        headers={
            "content-length": "<content-length>",
            "content-type": JSON,
            "location": "<location>",
            "preference-applied": "respond-async",
        },
        text=(("^.*$", '{"job_id":<job>}'),),
    ),
    Difference(
        why="a session tells that it is everybody's where it was opened without a key",
        matching=r"(?!keyed/|reading/).*",
        has_text=OF_SESSION,
        text=((OF_SESSION, r'\1"owner":null,"model":'),),
    ),
    Difference(
        why="a session tells the name of its key, which is its digest",
        matching=r"(keyed|reading)/.*",
        has_text=OF_SESSION,
        text=((OF_SESSION, rf'\1"owner":"key-{sha256(b"reader").hexdigest()[:12]}","model":'),),
    ),
)


def wanted(name: str, recorded: Recorded, used: set[str]) -> Recorded:
    """What is to come instead of a recorded reply, which differences may change; those that do are noted."""
    for difference in WANTED:
        if difference.fits(name, recorded):
            try:
                recorded = difference.applied(name, recorded)
            except Inapplicable as error:
                raise Inapplicable(f"the difference {difference.why!r} is none of {name}: {error}") from None
            used.add(difference.why)
    return recorded


def unused(used: Collection[str]) -> list[str]:
    """Why those are wanted that no reply has."""
    return [difference.why for difference in WANTED if difference.why not in used]


def json_of(recorded: Recorded) -> Any:
    """A body as JSON, its computed numbers in their places."""
    numbers = iter(recorded.get("numbers", []))

    def number(found: re.Match[str]) -> str:
        return json_.dumps(next(numbers)) if found[0] == "#" else found[0]

    text = re.sub(r":(<\w+>)", r':"<\1>"', recorded["text"])
    return json_.loads(COMPUTED.sub(number, text))


def _cut(wanted: Recorded, expression: str) -> None:
    """Take out what the expression matches first, with the numbers that were computed for it."""
    found = re.search(expression, wanted["text"])
    if found is None:
        raise Inapplicable(f"{expression!r} is not in {wanted['text'][:200]!r}")
    before, taken = (
        sum(part == "#" for part in COMPUTED.findall(text)) for text in (found.string[: found.start()], found[0])
    )
    wanted["text"] = found.string[: found.start()] + found.string[found.end() :]
    wanted["numbers"] = [*wanted["numbers"][:before], *wanted["numbers"][before + taken :]]


def _put(wanted: Recorded, value: Any) -> None:
    """Write JSON as a reply is recorded."""
    numbers: list[float] = []

    def written(item: Any) -> str:
        if isinstance(item, float) and not math.isinf(item):
            numbers.append(item)
            return "#"
        if isinstance(item, dict):
            return "{" + ",".join(f"{_quoted(name)}:{written(each)}" for name, each in item.items()) + "}"
        if isinstance(item, list | tuple):
            return "[" + ",".join(map(written, item)) + "]"
        return _quoted(item)

    wanted["text"] = re.sub(r':"<(<\w+>)>"', r":\1", written(value))
    wanted.pop("numbers", None)
    wanted |= {"numbers": numbers} if numbers else {}


def _quoted(item: Any) -> str:
    return json_.dumps(item, ensure_ascii=False)


def _put_numbers(wanted: Recorded, numbers: tuple[float, ...]) -> None:
    places = sum(part == "#" for part in COMPUTED.findall(wanted["text"]))
    if places != len(numbers):
        raise Inapplicable(f"it has {len(numbers)} numbers, the text {places}")
    wanted["numbers"] = list(numbers)


def _put_body(wanted: Recorded, text: str) -> None:
    """Write a body that is all known, and so is its length."""
    for part in ("numbers", "rounded", "digits"):
        wanted.pop(part, None)
    wanted["text"] = text
    if wanted["framing"] == "length":
        wanted.setdefault("headers", {})["content-length"] = [str(len(text.encode()))]


def _state_length(wanted: Recorded, recorded: Recorded) -> None:
    """The length of a body follows from it, where it was recorded and is the same in each run."""
    headers = wanted.get("headers", {})
    if headers.get(LENGTH, [""])[0].isdigit():  # of JSON, before bytes that are as they were
        more = len(wanted["text"].encode()) - len(recorded["text"].encode())
        for name in (LENGTH, "content-length"):
            headers[name] = [str(int(headers[name][0]) + more)]
        return
    if wanted.get("text") == recorded.get("text") or headers.get("content-length", [""])[0] in ("", "<content-length>"):
        return
    headers["content-length"] = [str(len(wanted["text"].encode()))]
