"""Record what a server answers today: `python tests/record/make_record.py --command "gatescope"`.

The record is the safety net of a rewrite: it is made anew only where the replies are meant to be others from now on,
and small wanted differences go into `differences.py` instead.
"""

import argparse
import shlex
import sys
import time
from collections import Counter
from pathlib import Path

import scenarios
import stored
from normalise import Recorded
from replay import Replay


def main() -> None:
    """Hold all conversations and keep the replies."""
    parser = argparse.ArgumentParser(description="Record what a server answers today.")
    own = str(Path(sys.executable).with_name("gatescope"))
    parser.add_argument("--command", default=shlex.quote(own), help="starts gatescope; `serve` is put behind it")
    parser.add_argument("--only", default="", help="part of the names of what is recorded anew")
    arguments = parser.parse_args()
    began = time.monotonic()
    known = list(scenarios.conversations())
    chosen = [each for each in known if arguments.only in each.name_at]
    kept = tuple(f"{each.name_at}/" for each in known if each not in chosen)
    replies: dict[str, dict[str, Recorded]] = {}
    counts: Counter[str] = Counter()
    with Replay(chosen, shlex.split(arguments.command)) as replay:
        for conversation in chosen:
            configuration, came = conversation.configuration, replay.of(conversation)
            others = {name: each for name, each in stored.read(configuration).items() if name.startswith(kept)}
            replies.setdefault(configuration, others).update(came)
            counts[configuration] += sum("left" not in each for each in came.values())
    for configuration, each in replies.items():
        stored.write(configuration, each)
        _say(f"{configuration}: {counts[configuration]} replies, {stored.path_of(configuration).stat().st_size} bytes")
    _say(f"{counts.total()} replies in {time.monotonic() - began:.1f} s")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
