"""`Limits`: how much one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The operator's bounds on a request; `gatescope/server/settings.py` says what each is for."""

    max_body_bytes: int
    max_time_steps: int
    max_batch_steps: int
    max_batch_size: int
    max_trace_bytes: int
    max_upload_bytes: int
    request_timeout_s: float
