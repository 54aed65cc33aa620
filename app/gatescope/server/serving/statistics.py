"""`Statistics`: what one version of a model was asked and how long it took, since the service started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gatescope.pipeline.query import Query

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


@dataclass
class Computing:
    """The three parts of computing a batch: putting it together, the model, and taking it apart."""

    input: Duration = field(default_factory=Duration)
    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)

    def add(self, took: Took, times: int = 1, count: int = 1) -> None:
        """A batch took so long for each of so many, of which so many are done."""
        self.input.add(took.input * times, count)
        self.infer.add(took.infer * times, count)
        self.output.add(took.output * times, count)


@dataclass(frozen=True)
class Took:
    """Nanoseconds that one batch took."""

    input: int
    infer: int
    output: int


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
    """Requests that failed or whose client had left."""

    queue: Duration = field(default_factory=Duration)
    """Requests answered: how long they waited."""

    computing: Computing = field(default_factory=Computing)
    """Requests answered: how long their batches took."""

    batches: dict[int, Computing] = field(default_factory=dict)
    """Batches computed, by how many sequences they had."""

    def answered(self, query: Query, queued_ns: int, ns: int) -> None:
        """A query waited so long, and had its answer after so long."""
        self.queue.add(queued_ns, query.is_last)
        self.success.add(ns, query.is_last)

    def computed(self, queries: Sequence[Query], sequences: int, took: Took) -> None:
        """These, with so many sequences, were computed together."""
        finished = [query.sequences or len(query.inputs) for query in queries if query.is_last]
        self.execution_count += 1
        self.inference_count += sum(finished)
        self.last_inference_ms = time.time_ns() // _NS_PER_MS
        self.computing.add(took, len(queries), len(finished))
        self.batches.setdefault(sequences, Computing()).add(took)
