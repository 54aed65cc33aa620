"""What was chosen by measuring: each constant has its unit in its name, and how it was measured beside it.

All figures are of two cores (docs/performance.md), unless it says otherwise.
"""

from __future__ import annotations

# ---- where a batch is computed (policy.py) ----

INLINE_NS = 1_000_000
"""What is predicted to take no longer is computed on the event loop: to hand a batch to a thread and back costs some
0.1 ms, and more where both threads want the GIL (decision 16)."""

INLINE_SLIGHT_FACTOR = 3
"""So many times `INLINE_NS` may take a batch whose queries cost the event loop more than twice as much as the device:
256 sessions of the larger network took a third more steps (decision 16)."""

WIDE_MULTIPLICATIONS = 400_000
"""From so many multiplications of hidden states with weights at a time step on, two cores were sooner than one, for 64,
128 and 512 units alike (decision 14)."""

MAX_WORKERS = 4
"""More threads would take the GIL from each other and from the event loop (decision 14)."""

# ---- who shares a batch (policy.py, collate.py) ----

MIN_SHARE_QUERIES = 8
"""So many queries are not divided among workers: smaller batches cost more than their share (decision 14)."""

UNDIVIDED_SHARES = 1.5
"""What waits is not divided where it is no more than so many shares: the little that is left over would be a small
batch of its own (decision 14)."""

SIZES_PER_OCTAVE_BITS = 2
"""A batch has one of 2² numbers of queries between a power of two and the next: kernels are made anew for every number
of rows, 1 to 2 ms each (decision 14)."""

LENGTHS_PER_OCTAVE = 8
"""A ragged batch has one of at least so many lengths between a power of two and the next, for the same reason."""

MAX_PADDED_STEPS_RATIO = 1.5
"""A batch has at most so many times the steps of its sequences: the rest is padding, and computed for nothing."""

MAX_BATCH_FLOATS = 16 * 1024 * 1024
"""So many numbers, at most, the hidden states of a batch without a trace have: 64 MB."""

MAX_TRACED_BATCH_FLOATS = 6 * 1024 * 1024
"""So many numbers, at most, the signals of a batch have: two batches of this size beside one another are done sooner
than one of both."""

# ---- the background (scheduler.py) ----

BACKGROUND_WAIT_S = 1.0
"""While others always wait, a batch of the background is computed so often: of a batch of 100 ms, a tenth of one worker
is the background's."""

# ---- how long a batch takes (cost.py) ----

FASTER_WEIGHT, SLOWER_WEIGHT = 0.5, 0.05
"""How much a batch counts beside those before it: what else a thread's time goes to can only make it longer
(decision 16)."""

LOOP_WEIGHT = 0.2
"""How much the newest batch counts in what the event loop spends on a query."""

# ---- long queries (chunking.py) ----

CHUNK_MULTIPLICATIONS = 800_000_000
"""Of a chunk of a long query: 50 to 100 ms of one core, for which others wait (decision 15)."""

STEP_MULTIPLICATIONS = 50_000
"""What a time step takes beside its multiplications, counted in multiplications."""

EDITED_FACTOR = 4
"""A step whose signals are edited takes about so many times as long as one of the kernel."""

MIN_CHUNK_STEPS = 32
"""So many time steps a chunk has at least: fewer cost more than they save."""

MAX_UNDIVIDED_CHUNKS = 8
"""A query of no more chunks is computed in one go, which is up to a fifth sooner (decision 15)."""

CHUNK_BYTES = 2 * 1024 * 1024
"""Of a chunk's arrays where a trace is sent or stored: small enough that the first lines leave at once."""

# ---- memory (recording.py) ----

MAPPED_BYTES = 1024 * 1024
"""What is larger is mapped from the system and goes back to it at once: the heap is for what is soon freed."""
