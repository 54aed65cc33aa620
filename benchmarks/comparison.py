"""`make bench-peers`: the same networks behind other servers, each beside `gatescope serve` in turns."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks import form, ratio, server, subject, wrk
from benchmarks.form import Request
from benchmarks.interleaved import in_turns
from benchmarks.pace import Pace
from benchmarks.peer import PEERS, NotInstalled, Peer
from benchmarks.server import DidNotStart, Server, WrongAnswer
from benchmarks.serving import checked
from benchmarks.subject import Subject
from benchmarks.wrk import Failed, Load

OURS = {"JSON": form.PREDICT, "/v2 binary": form.INFER_BINARY}
THEIRS = "theirs"
ALONE = "{}, one connection"
WARM_UP_S = 3
"""Batching that learns how long a batch takes must see some first."""

Loads = Mapping[str, Sequence[Load]]
Ways = dict[str, Callable[[], Load]]


@dataclass(frozen=True)
class Compared:
    """A peer and this service, with one network, in turns; or why not."""

    peer: Peer
    version: str
    network: str
    loads: Loads | None = None
    reason: str = ""

    def rates(self, ours: str) -> list[float]:
        """Requests a second over the peer's, round by round."""
        return ratio.each([load.rate for load in self._of(ours)], [load.rate for load in self._of(THEIRS)])

    def p50s(self, ours: str) -> list[float]:
        """With one connection, the median latency over the peer's, round by round."""
        over, under = (self._of(ALONE.format(way)) for way in (ours, THEIRS))
        return ratio.each([load.p50_ms for load in over], [load.p50_ms for load in under])

    def median(self, way: str, measure: Callable[[Load], float]) -> float:
        """Over the rounds."""
        return statistics.median(map(measure, self._of(way)))

    def _of(self, way: str) -> Sequence[Load]:
        return (self.loads or {})[way]


def measure(pace: Pace) -> list[Table]:
    """What is reached beside which peers, and all rates."""
    wrk.needed()
    with tempfile.TemporaryDirectory() as folder:
        subjects = subject.write(Path(folder))
        with server.gatescope(Path(folder)) as service:
            ours = {
                (name, way): checked(service, network, asked)
                for name, network in subjects.items()
                for way, asked in OURS.items()
            }
            compared = [each for peer in PEERS for each in _compared(peer, subjects, Path(folder), service, ours, pace)]
    measured = [each for each in compared if each.loads is not None]
    left_out = [_left_out(compared)] if len(measured) < len(compared) else []
    return [_reached(measured), _rates(measured, pace), *left_out]


def _compared(
    peer: Peer,
    subjects: Mapping[str, Subject],
    weights: Path,
    service: Server,
    ours: Mapping[tuple[str, str], Request],
    pace: Pace,
) -> Iterator[Compared]:
    tell = Console(stderr=True).print
    tell(f"{peer.title}: installing, unless it is there", style="dim")
    try:
        version = peer.install()
    except NotInstalled as error:
        yield Compared(peer, "", "", reason=f"cannot be installed: {error}")
        return
    for name, network in subjects.items():
        tell(f"{peer.title}: {name}", style="dim")
        try:
            with peer.serving(network, weights) as theirs:
                request = checked(theirs, network, peer.form)
                asked = {way: (service.url, ours[name, way]) for way in OURS} | {THEIRS: (theirs.url, request)}
                with suppress(Failed):
                    wrk.run(theirs.url, [request], WARM_UP_S)
                yield Compared(peer, version, name, in_turns(_ways(asked, pace.seconds), pace.rounds))
        except (DidNotStart, WrongAnswer, Failed, httpx.TransportError) as error:
            yield Compared(peer, version, name, reason=str(error))


def _ways(asked: Mapping[str, tuple[str, Request]], seconds: int) -> Ways:
    ways: Ways = {way: partial(wrk.run, url, [request], seconds) for way, (url, request) in asked.items()}
    for way in ("JSON", THEIRS):
        url, request = asked[way]
        ways[ALONE.format(way)] = partial(wrk.run, url, [request], max(1, seconds // 2), 1)
    return ways


def _rates(compared: Sequence[Compared], pace: Pace) -> Table:
    table = Table(
        *("server", "version", "network", "its requests/s", "p50, ms", "p99, ms", "one connection: p50, ms"),
        *(f"Gatescope's, {way}" for way in OURS),
    )
    for each in compared:
        theirs = (
            f"{each.median(THEIRS, lambda load: load.rate):,.0f}",
            f"{each.median(THEIRS, lambda load: load.p50_ms):.1f}",
            f"{each.median(THEIRS, lambda load: load.p99_ms):.1f}",
            f"{each.median(ALONE.format(THEIRS), lambda load: load.p50_ms):.2f}",
        )
        ours = (f"{each.median(way, lambda load: load.rate):,.0f}" for way in OURS)
        table.add_row(each.peer.title, each.version, each.network, *theirs, *ours)
    table.caption = f"medians of {pace.rounds} rounds of {pace.seconds} s each, {wrk.CONNECTIONS} connections"
    return table


def _reached(compared: Sequence[Compared]) -> Table:
    """Ratios: requests a second (more is better), and the p50 of one connection (less is)."""
    table = Table(
        *("Gatescope over", "network", "requests/s, JSON", "least to most", "/v2 binary", "least to most"),
        *("one connection: p50, JSON", "least to most"),
    )
    for each in compared:
        ratios = (each.rates("JSON"), each.rates("/v2 binary"), each.p50s("JSON"))
        table.add_row(each.peer.title, each.network, *(text for values in ratios for text in ratio.shown(values)))
    small = [each for each in compared if each.network == "small" and not each.peer.native]
    if python := [statistics.median(each.rates("JSON")) for each in small]:
        table.caption = f"small, JSON: {min(python):.2f} × the best Python peer"
    return table


def _left_out(compared: Sequence[Compared]) -> Table:
    """Peers that could not be measured, and why."""
    table = Table("not measured", "version", "network", "why")
    for each in compared:
        if each.loads is None:
            table.add_row(each.peer.title, each.version, each.network or "both", each.reason)
    return table
