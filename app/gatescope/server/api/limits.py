"""The operator's bounds; `gatescope/server/settings.py` says what each is for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for."""

    max_body_bytes: int
    max_time_steps: int
    max_batch_steps: int
    max_batch_size: int
    max_trace_bytes: int
    max_upload_bytes: int
    request_timeout_s: float


@dataclass(frozen=True)
class ConnectionLimits:
    """How much a connection may cost before anything is answered, and after."""

    max_connections: int
    max_head_bytes: int
    max_head_lines: int
    max_pipelined_requests: int
    max_received_bytes: int
    max_unsent_bytes: int
    head_timeout_s: float
    body_timeout_s: float
    upload_timeout_s: float
    keep_alive_timeout_s: float
    send_timeout_s: float
