"""`Statistics`: what one version of a model was asked and how long it took, since the service started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gatescope.server.serving.collate import Batch
from gatescope.server.serving.request import Part

_NS_PER_MS = 1_000_000


@dataclass
class Duration:
    """How often something was done, and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """It took so much more, and was done so often."""
        self.count += count
        self.ns += ns


class BatchTimes(NamedTuple):
    """Nanoseconds that one batch took: putting it together, the model, and taking it apart."""

    input: int
    infer: int
    output: int


@dataclass
class Computing:
    """The three parts of computing a batch."""

    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)

    def add(self, times: BatchTimes, requests: int = 1, finished: int = 1) -> None:
        """A batch of so many requests took so long, and so many of them are finished."""
        self.input.add(times.input * requests, finished)
        self.infer.add(times.infer * requests, finished)
        self.output.add(times.output * requests, finished)


@dataclass
class Statistics:
    """Counted on the event loop only; a request that shared a batch took as long as the batch.

    One that is computed in parts counts with the last of them, and took as long as all of them.
    """

    inference_count: int = 0
    """Sequences answered."""

    execution_count: int = 0
    """Batches computed."""

    last_inference_ms: int = 0
    """Unix time of the last one."""

    success: Duration = field(default_factory=Duration)
    """Requests answered, from arrival to answer."""

    fail: Duration = field(default_factory=Duration)
    """Requests that failed."""

    queue: Duration = field(default_factory=Duration)
    """Requests answered: how long they waited."""

    computing: Computing = field(default_factory=Computing)
    """Requests answered: how long their batches took."""

    batches: dict[int, Computing] = field(default_factory=dict)
    """Batches computed, by how many sequences they had."""

    def answered(self, part: Part, queued_ns: int, ns: int) -> None:
        """A part of a request waited so long, and had its answer after so long."""
        self.queue.add(queued_ns, part.is_last)
        self.success.add(ns, part.is_last)

    def computed(self, batch: Batch, parts: Sequence[Part], times: BatchTimes) -> None:
        """This batch was computed, whose queries are these parts of their requests."""
        queries = zip(parts, batch.queries, strict=True)
        finished = [part.sequences or query.sequences for part, query in queries if part.is_last]
        self.execution_count += 1
        self.inference_count += sum(finished)
        self.last_inference_ms = time.time_ns() // _NS_PER_MS
        self.computing.add(times, len(parts), len(finished))
        self.batches.setdefault(batch.sequences, Computing()).add(times)
