"""What is recorded of a reply: all of it, but for what differs from run to run and from machine to machine.

A body becomes a text and the numbers that were computed for it: `#` stands in the text for each of them, so that the
text must be the same to the letter, and the numbers nearly the same.
"""

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from client import BINARY_FRAME, CLOSE_FRAME, TEXT_FRAME, Reply

Recorded = dict[str, Any]

RELATIVE, ABSOLUTE = 1e-4, 2e-5
"""Numbers may differ by so much: floats come out differently on other processors."""

ROUNDED_RELATIVE, ROUNDED_ABSOLUTE = 2e-3, 2e-4
"""Likewise where they were rounded for people."""

RESIDUAL = 1e-5
DIGITS = 6
FLOAT32_DIGITS = 9
SAFETENSORS_ALIGNMENT = 8

SAFETENSORS, NPZ = "application/vnd.safetensors", "application/x-npz"
TEXTS = ("application/json", "application/problem+json", "application/x-ndjson")
LENGTH = "inference-header-content-length"

NOT_COMPARED = ("/docs", "/openapi.json", "/inspector/", "/static-offline-docs/")
"""What is for people and changes for good reasons: of these only status and headers are compared."""

LOOSE_HEADS = ("/v1/", "/v2", "/metrics", "/docs", "/openapi.json", "/inspector/", "/static-offline-docs/")
"""Where a reply to HEAD states the length of a body that differs from run to run."""

_TOKEN = re.compile(
    r'"formula":"(?P<formula>[^"]*)"|(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)'
)
_ROUNDED = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?")
_RESIDUAL = re.compile(r'"residual":([0-9.eE+-]+)')
_PLAIN = (
    (re.compile(r'"(created_at|expires_at)":1\d{9}\.\d+'), r'"\1":<time>'),
    (re.compile(r'"trace_method":"(?:workspace|replay|loop)"'), '"trace_method":<method>'),
    (re.compile(r'"fingerprint":"[0-9a-f]+"'), '"fingerprint":<hash>'),
    (re.compile(r'"job_id":"[0-9a-f]{32}"'), '"job_id":<job>'),
    (re.compile(r'"(ns|last_inference)":\d+'), r'"\1":<number>'),
    (re.compile(r'"name":"gatescope","version":"[\w.+-]+"'), '"name":"gatescope","version":<version>'),
)
_DATE = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")
_JOB = re.compile(r"/v1/jobs/[0-9a-f]{32}")
_REQUEST_ID = re.compile(r"[\w.:/+=-]{8,128}")


def normalised(reply: Reply, captured: Mapping[str, str]) -> Recorded:
    """What is recorded of a reply.

    Args:
        reply: to this request.
        captured: what the server made up, by the names that it has here.
    """
    if reply.is_frame:
        return _of_frame(reply, captured)
    if not reply.line:
        return {"status": 0, "closes": reply.closes}
    version, status, *reason = reply.line.split(" ", 2)
    body, is_exact = _body(reply, captured)
    recorded: Recorded = {"status": int(status), "reason": "".join(reason)}
    recorded["headers"] = _headers(reply, captured, is_exact=is_exact)
    recorded |= {"framing": reply.framing} | body
    if version != "HTTP/1.1":
        recorded["version"] = version
    if reply.interim:
        recorded["interim"] = reply.interim
    if reply.closes != "no":
        recorded["closes"] = reply.closes
    return recorded


def differences(expected: Recorded, got: Recorded) -> Iterator[str]:
    """What is not the same, in lines."""
    for part in dict.fromkeys((*expected, *got)):
        if part in ("headers", "numbers", "rounded", "text"):
            continue
        if expected.get(part) != got.get(part):
            yield f"{part}: expected {expected.get(part)!r}, got {got.get(part)!r}"
    yield from _of_headers(expected.get("headers", {}), got.get("headers", {}))
    text, other = expected.get("text", ""), got.get("text", "")
    if text != other:
        yield from _of_text(text, other)
        return  # the numbers are those of another text
    yield from _of_numbers(expected.get("numbers", []), got.get("numbers", []), text, RELATIVE, ABSOLUTE)
    rounded = expected.get("rounded", []), got.get("rounded", [])
    yield from _of_numbers(*rounded, text, ROUNDED_RELATIVE, ROUNDED_ABSOLUTE)


def _of_headers(expected: Mapping[str, list[str]], got: Mapping[str, list[str]]) -> Iterator[str]:
    for name in sorted({*expected, *got}):
        if expected.get(name) != got.get(name):
            yield f"header {name}: expected {_shown(expected.get(name))}, got {_shown(got.get(name))}"


def _shown(values: list[str] | None) -> str:
    return "none" if values is None else ", ".join(map(repr, values))


def _of_text(expected: str, got: str) -> Iterator[str]:
    same = next((i for i, (one, other) in enumerate(zip(expected, got, strict=False)) if one != other), None)
    at = min(len(expected), len(got)) if same is None else same
    begin = max(0, at - 60)
    yield f"body at {at}: expected …{expected[begin : at + 120]!r}…"
    yield f"{' ' * len(f'body at {at}:')}      got …{got[begin : at + 120]!r}…"


def _of_numbers(
    expected: list[float | None], got: list[float | None], text: str, relative: float, absolute: float
) -> Iterator[str]:
    if len(expected) != len(got):
        yield f"numbers: expected {len(expected)}, got {len(got)}"
        return
    wrong = [i for i, pair in enumerate(zip(expected, got, strict=True)) if not _is_near(*pair, relative, absolute)]
    if wrong:
        first = wrong[0]
        yield (
            f"{len(wrong)} of {len(expected)} numbers, first number {first}: expected {expected[first]}, "
            f"got {got[first]}, in {text[:80]!r}…"
        )


def _is_near(expected: float | None, got: float | None, relative: float, absolute: float) -> bool:
    if expected is None or got is None or math.isinf(expected) or math.isinf(got):
        return expected == got
    return abs(expected - got) <= absolute + relative * abs(expected)


def _headers(reply: Reply, captured: Mapping[str, str], *, is_exact: bool) -> dict[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for name, value in reply.headers:
        kept = _header(name.lower(), _without(value, captured), reply, is_exact=is_exact)
        headers.setdefault(name.lower(), []).append(kept)
    return headers


def _header(name: str, value: str, reply: Reply, *, is_exact: bool) -> str:
    if name == "allow":  # the framework's own routes name them in any order
        return ", ".join(sorted(value.split(", ")))
    if name == "content-range" and reply.request.target.startswith(NOT_COMPARED):
        return re.sub(r"\d+$", "<length>", value)
    varies = {
        "date": _DATE.fullmatch(value),
        "x-request-id": _REQUEST_ID.fullmatch(value) and value not in reply.request.sent(name),
        "etag": value,
        "location": _JOB.fullmatch(value),
        "last-modified": value,
        "content-length": not is_exact and value.isdigit(),  # it is where the body and its JSON end,
        LENGTH: not is_exact and value.isdigit(),  # or they would not be read
    }
    return f"<{name}>" if varies.get(name) else value


def _of_frame(reply: Reply, captured: Mapping[str, str]) -> Recorded:
    frame, closed = reply.frame, {"closes": "yes"} if reply.closes == "yes" else {}
    if frame is None:
        return {"frame": "none", "status": 0, "closes": reply.closes}
    if frame.opcode == TEXT_FRAME:
        return {"frame": "text"} | _of_json(frame.payload.decode(), captured) | closed
    if frame.opcode == BINARY_FRAME:
        return {"frame": "binary"} | _of_safetensors(frame.payload, captured) | closed
    if frame.opcode == CLOSE_FRAME:
        code = int.from_bytes(frame.payload[:2], "big")
        return {"frame": "close", "code": code, "text": frame.payload[2:].decode()} | closed
    return {"frame": frame.opcode, "text": frame.payload.hex()} | closed


def _body(reply: Reply, captured: Mapping[str, str]) -> tuple[Recorded, bool]:
    """What is recorded of a body, and whether it has the same length in each run."""
    if reply.framing == "none":
        is_loose = reply.request.method == "HEAD" and reply.request.target.startswith(LOOSE_HEADS)
        return {}, not (is_loose or reply.request.target == "/")
    target, content = reply.request.target.partition("?")[0], reply.body
    if (reply.status == 200 and target == "/") or (reply.status < 400 and target.startswith(NOT_COMPARED)):
        return {"text": "<not compared>"}, False
    coding = reply.header("content-encoding")
    if coding is not None:
        content = zlib.decompress(content, 32 + zlib.MAX_WBITS)
    recorded, is_exact = _read(reply, content, captured)
    return recorded, is_exact and coding is None


def _read(reply: Reply, content: bytes, captured: Mapping[str, str]) -> tuple[Recorded, bool]:
    media_type = (reply.header("content-type") or "").partition(";")[0]
    if media_type == SAFETENSORS:
        return _of_safetensors(content, captured), False
    if media_type == NPZ:
        return _of_npz(content, captured), False
    if reply.header(LENGTH) is not None:
        return _of_message(content, int(reply.header(LENGTH) or 0), captured)
    text = content.decode("utf-8", "backslashreplace")
    if reply.request.target.startswith("/metrics") and reply.status == 200:
        return {"text": "\n".join(line for line in text.splitlines() if line.startswith("#"))}, False
    if media_type not in TEXTS:
        return {"text": text}, True
    recorded = _of_json(text, captured)
    if reply.request.target == "/v2/models/stats":  # of whatever was asked before
        recorded["text"] = re.sub(r'"count":\d+', '"count":<number>', recorded["text"])
    return recorded, recorded["text"] == text


def _of_json(text: str, captured: Mapping[str, str]) -> Recorded:
    """JSON, in one line or several, without its computed numbers."""
    text = _RESIDUAL.sub(_residual, _without(text, captured))
    for pattern, kept in _PLAIN:
        text = pattern.sub(kept, text)
    numbers: list[float | None] = []
    rounded: list[float] = []
    is_wide = False

    def place(found: re.Match[str]) -> str:
        nonlocal is_wide
        if (formula := found["formula"]) is not None:
            rounded.extend(map(float, _ROUNDED.findall(formula)))
            return f'"formula":"{_ROUNDED.sub("#", formula)}"'
        number = found["number"]
        if number is None or not {".", "e", "E"} & set(number):
            return found[0]
        mantissa = re.split("[eE]", number)[0].lstrip("-").replace(".", "").strip("0")
        is_wide = is_wide or len(mantissa) > FLOAT32_DIGITS
        numbers.append(_short(float(number)))
        return "#"

    recorded: Recorded = {"text": _TOKEN.sub(place, text)}
    if numbers:
        recorded["numbers"] = numbers
    if rounded:
        recorded["rounded"] = rounded
    if is_wide:
        recorded["digits"] = "of float64"
    return recorded


def _residual(found: re.Match[str]) -> str:
    try:
        is_small = 0 <= float(found[1]) < RESIDUAL
    except ValueError:
        is_small = False
    return '"residual":<small>' if is_small else f'"residual":"too large: {found[1]}"'


def _without(text: str, captured: Mapping[str, str]) -> str:
    for name, value in captured.items():
        text = text.replace(value, f"<{name}>")
    return text


def _short(number: float) -> float | None:
    """Rounded to what is kept; None for NaN."""
    return None if math.isnan(number) else float(f"{number:.{DIGITS}g}")


def _of_safetensors(content: bytes, captured: Mapping[str, str]) -> Recorded:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    data = memoryview(content)[8 + size :]
    told = [f"aligned {size % SAFETENSORS_ALIGNMENT == 0}"]
    recorded = _of_json("\n".join(f'"{name}":{text}' for name, text in metadata.items()), captured)
    numbers = recorded.get("numbers", [])
    for name, each in header.items():
        begin, end = each["data_offsets"]
        told.append(f"{name} {each['dtype']} {each['shape']} {begin} {end}")
        _add(told, numbers, np.frombuffer(data[begin:end], dtype={"F32": "<f4", "I64": "<i8"}[each["dtype"]]))
    recorded["text"] = "\n".join([*told, f"{len(data)} bytes", recorded["text"]])
    return recorded | ({"numbers": numbers} if numbers else {})


def _of_npz(content: bytes, captured: Mapping[str, str]) -> Recorded:
    told: list[str] = []
    numbers: list[float | None] = []
    recorded: Recorded = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            array = np.load(io.BytesIO(archive.read(entry)))
            told.append(f"{entry.filename} {entry.date_time[0]} {entry.compress_type} {array.shape}")
            if array.dtype.kind == "U":
                recorded = _of_json(str(array), captured)
            else:
                told[-1] += f" {array.dtype.str}"
                _add(told, numbers, array)
    numbers += recorded.get("numbers", [])
    recorded["text"] = "\n".join([*told, recorded.get("text", "no metadata")])
    return recorded | ({"numbers": numbers} if numbers else {})


def _of_message(content: bytes, length: int, captured: Mapping[str, str]) -> tuple[Recorded, bool]:
    """JSON, and behind it float32 numbers."""
    told, behind = content[:length].decode(), content[length:]
    recorded = _of_json(told, captured)
    is_exact = recorded["text"] == told
    numbers = recorded.get("numbers", []) + [_short(value) for (value,) in struct.iter_unpack("<f", behind)]
    recorded["text"] += f"\n{len(behind)} bytes"
    return recorded | ({"numbers": numbers} if numbers else {}), is_exact


def _add(told: list[str], numbers: list[float | None], array: np.ndarray) -> None:
    """Numbers that are computed go among the others, and those that are not into the text."""
    if array.dtype.kind == "f":
        numbers.extend(_short(float(value)) for value in array.reshape(-1))
    else:
        told.append(str(array.reshape(-1).tolist()))
