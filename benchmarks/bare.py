"""What HTTP alone costs: an application that reads the whole body and answers as many bytes as a prediction has."""

from __future__ import annotations

from typing import Any

from benchmarks.form import JSON, to_json

ANSWER = to_json(
    {
        "model": {"name": "small", "version": "1"},
        "sequence_lengths": [50],
        "prediction": {"values": [[-0.11539565]]},
    }
)
HEADERS = [(b"content-type", JSON.encode()), (b"content-length", str(len(ANSWER)).encode())]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI, without a framework."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})
