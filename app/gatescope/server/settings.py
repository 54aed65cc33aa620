"""What an operator can set: environment variables `GATESCOPE_*`, read once by the entry points."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import structlog
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gatescope.errors import InvalidInput

CommaSeparated = Annotated[tuple[str, ...], NoDecode]

PREFIX = "GATESCOPE_"
_SECRET = {"api_keys", "admin_keys"}  # settings that no message tells
_OTHERS = {f"{PREFIX}KEY", f"{PREFIX}DATA"}  # read by the command line, for a running server, and by recipes
_INJECTED = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
"""Variables that Kubernetes sets beside a Service called `gatescope`, apart from `GATESCOPE_PORT` itself."""

_PASSED_OVER = "a variable that Kubernetes sets for a Service of this name is passed over"

_INJECTED_PORT = re.compile(r"(tcp|udp|sctp)://")
"""How Kubernetes writes the address of a Service."""

log = structlog.get_logger(__name__)


class Settings(BaseSettings):
    """One frozen value; each field is the variable `GATESCOPE_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True)

    models_dir: Path = Path("models")
    """The folder of models: one folder per model, with a `model.toml` in it."""

    watch: bool = True
    """Whether models that appear, change or go on disk are loaded and unloaded while the service runs."""

    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` listens on every interface."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; 0 lets the system choose one."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models live: `auto` takes the GPU if there is one."""

    threads: int = Field(default=0, ge=0)
    """Threads that torch computes with, in all batches at once together; 0 leaves the choice to torch."""

    max_queue_size: int = Field(default=1024, ge=1)
    """Requests that are answered at once: those that wait for the device and those that it computes."""

    admission_wait_ms: float = Field(default=250.0, ge=0)
    """Milliseconds that a further request waits, unread, until it is refused with 429."""

    max_batch_size: int = Field(default=256, ge=1)
    """Sequences that are computed together at most; what waits while the device is busy is the next batch."""

    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """The largest request body; a larger one is answered 413."""

    max_upload_bytes: int = Field(default=1024 * 1024 * 1024, ge=1)
    """The largest checkpoint or data set that may be uploaded; a larger one is answered 413."""

    max_time_steps: int = Field(default=100_000, ge=1)
    """The longest sequence, steps of `horizon` included; a longer one is answered 422."""

    max_batch_steps: int = Field(default=200_000, ge=1)
    """The largest batch, as sequences × steps of the longest one, or characters of text; beyond it: 422."""

    max_trace_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """The largest trace or prediction, as float32 arrays; a larger one is answered 413."""

    session_store: str = "memory"
    """Where sessions are kept: `memory`, or the address of a Redis, `redis://host:port/database`."""

    max_sessions: int = Field(default=10_000, ge=1)
    """Sessions that may be open; one more is answered 429."""

    session_idle_timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds after its last step until a session ends."""

    trace_store_bytes: int = Field(default=512 * 1024 * 1024, ge=0)
    """How large all stored traces may be together; the one that was not looked at for longest goes first."""

    trace_store_timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds after the last look at it until a stored trace is dropped."""

    corpora_dir: Path | None = None
    """The folder of data sets that may be traced as corpora, and of what comes of them; none: there are no corpora."""

    corpora_bytes: int = Field(default=64 * 1024 * 1024 * 1024, ge=1)
    """How large all corpora may be on disk together; the one that would become larger fails."""

    max_jobs: int = Field(default=100, ge=1)
    """Jobs that may wait or run; one more is answered 429. As many that have ended are known."""

    job_store_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """How large the requests and results of all jobs may be together; the oldest results go first."""

    job_store_timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds after its end until a job and its result are forgotten."""

    request_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds until a request without `X-Request-Timeout-Ms` is answered 504; also the most that header may ask for."""

    max_connections: int = Field(default=10_000, ge=1)
    """Connections that may be open; one more is answered 503 and closed."""

    max_head_bytes: int = Field(default=32 * 1024, ge=1024)
    """The largest head of a request; a larger one is answered 431."""

    max_head_lines: int = Field(default=100, ge=1)
    """Headers that a request may have; one more is answered 431."""

    max_pipelined_requests: int = Field(default=32, ge=1)
    """Requests that a client may send ahead of its replies; the connection is read no further then."""

    max_received_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """What bodies that are being received may hold together; the connections are read no further then."""

    max_unsent_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """What replies that clients do not read may hold together; the connections that read least are closed then."""

    head_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that a head may take, from its first byte or from connecting; then 408."""

    body_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a body may take in all; then 408."""

    upload_timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds that an uploaded checkpoint may take in all; then 408."""

    keep_alive_timeout_s: float = Field(default=75.0, gt=0)
    """Seconds that a connection may wait between two requests until it is closed."""

    send_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a client may go without reading any of its reply until the connection is closed."""

    shutdown_timeout_s: int = Field(default=30, ge=0)
    """Seconds that requests in flight get to finish when the service is told to stop."""

    api_keys: CommaSeparated = ()
    """Keys that clients must send as `Authorization: Bearer KEY` or `X-API-Key: KEY`, comma-separated, each as `KEY` or
    `NAME:KEY`; none: open."""

    admin_keys: CommaSeparated = ()
    """Keys for loading, unloading and uploading models, comma-separated, each as `KEY` or `NAME:KEY`; they open the
    rest, too, and see what all owners keep. None: nobody may where there are API keys, anybody where there are none."""

    allow_code: bool = False
    """Whether a manifest may name a `factory`: whoever can write one can then run any code as this service."""

    cors_origins: CommaSeparated = ()
    """Origins whose pages may call the API from a browser, comma-separated; `*` for all."""

    allowed_hosts: CommaSeparated = ()
    """Names under which a service without keys on the loopback may be asked, beside localhost and addresses."""

    log_format: Literal["auto", "console", "json"] = "auto"
    """`json` for machines, `console` for people, `auto` for `console` on a terminal and `json` elsewhere."""

    @classmethod
    def of_environment(cls, **flags: object) -> Settings:
        """The environment's settings, with those of these flags in their place.

        Raises:
            InvalidInput: a variable or a flag cannot be, or a variable is no setting.
        """
        _check_names(os.environ)
        if _INJECTED_PORT.match(os.environ.get(f"{PREFIX}PORT", "")):
            log.warning(
                "a variable that Kubernetes sets for a Service of this name is passed over", name=f"{PREFIX}PORT"
            )
            flags.setdefault("port", cls.model_fields["port"].default)
        try:
            return cls(**flags)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            source = f"--{name}" if name in flags else f"{PREFIX}{name.upper()}"
            given = "" if name in _SECRET else f", not {first['input']!r}"
            raise InvalidInput(f"{source}: {first['msg'].removeprefix('Value error, ')}{given}") from None

    @field_validator("api_keys", "admin_keys", "cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str) or not value:
            return value or ()
        parts = tuple(part.strip() for part in value.split(","))
        if not all(parts):
            raise ValueError("must be values separated by commas, none of them empty")
        return parts


def _check_names(environment: Mapping[str, str]) -> None:
    """Refuse variables that look like settings and are none: a misspelt one would be passed over in silence."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | _OTHERS
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in known:
            continue
        if _INJECTED.fullmatch(name):
            log.warning(_PASSED_OVER, name=name)
            continue
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "docs/configuration.md names them all"
        raise InvalidInput(f"{name}={value[:20]!r} is no setting; {hint}")
