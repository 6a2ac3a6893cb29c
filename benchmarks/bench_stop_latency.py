"""How long mail still leaves after somebody, or a gate, said stop.

    python benchmarks/bench_stop_latency.py [--nodes 1] [--pauses 300] [--halts 300] [--campaigns 6] [--minutes 10]

Real `sendwave run` on PostgreSQL, an ESP on loopback that notes when each call comes and of which campaign. Several
campaigns send at once; each is stopped, watched for `QUIET` seconds, resumed and stopped again, in turn with the
others. Pause: from the start of `sendwave campaign pause` to the campaign's last call. Halt: from the commit of events
that make a gate halt it (blocks of everybody it reached since its last resume) to its last call. A call under way when
the stop is committed ends; no other begins. The aim is 1 s on one node, 2 s on several, in 99 of 100 stops.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import nodes_running
import postgres_server
from nodes_running import REAL, CountingEsp, Nodes, until
from sqlalchemy import select

from sendwave.clock import stopwatch, wall
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.rules import token
from sendwave.rules.events import CONTENT_TYPE, Cause, Event, EventType, Permanence, encode_events
from sendwave.store import keys
from sendwave.store.tables import batches, campaigns

AIM = {1: 1.0}
SEVERAL = 2.0  # seconds, the aim of more than one node
CALLS = {"pause": 3, "halt": 10}  # since the last resume, before a campaign is stopped again
PATIENCE = 20.0  # seconds after which more events are told of a campaign that no gate halted


@dataclass
class Course:
    """One campaign, stopped again and again."""

    name: str
    id: int
    calls: int = 0  # at its last resume
    told: set[int] = field(default_factory=set)  # batches events were told of
    began: float | None = None  # when somebody, or an event, said stop
    stopped: float | None = None  # when that had taken hold


@dataclass
class Stopping:
    """All courses of one run; `found` are seconds from each stop to the last call, and to its taking hold."""

    nodes: Nodes
    esp: CountingEsp
    kind: str
    quiet: float
    courses: list[Course]
    found: list[tuple[float, float]] = field(default_factory=list)

    def run(self, count: int, seconds: float) -> None:
        ends = stopwatch() + seconds
        while len(self.found) < count and stopwatch() < ends:
            status = self._statuses()
            for course in self.courses:
                self._move(course, status[course.name])
            REAL.sleep(0.01)

    def _move(self, course: Course, status: str) -> None:
        now = stopwatch()
        if course.began is None:
            if any(other.began is not None and other.stopped is None for other in self.courses):
                return  # one at a time goes bad
            if status == "sending" and self.esp.calls[course.name] >= course.calls + CALLS[self.kind]:
                self._stop(course)
        elif course.stopped is None:
            if status == "halted":
                course.stopped = now
            elif now - course.began > PATIENCE:
                self._stop(course)
        elif now - course.stopped > self.quiet:
            self.found.append((max(0.0, self.esp.last[course.name] - course.began), course.stopped - course.began))
            self.nodes.command("campaign", "resume", course.name, "--reason", "again", "--by", "bench")
            course.calls, course.began, course.stopped = self.esp.calls[course.name], None, None

    def _stop(self, course: Course) -> None:
        if self.kind == "halt":
            report = self._blocks(course)
            feedback.receive_all(self.nodes.db, [("rehearsal", report)], wall())
            course.began = stopwatch()
            return
        course.began = stopwatch()
        self.nodes.command("campaign", "pause", course.name)
        course.stopped = stopwatch()

    def _blocks(self, course: Course) -> RawReport:
        mine = (batches.c.status == "accepted", batches.c.campaign_id == course.id)
        with self.nodes.db.write() as conn:
            key = keys.token_key(conn)
            sizes = conn.execute(select(batches.c.id, batches.c.size).where(*mine)).all()
        fresh = [(batch, size) for batch, size in sizes if batch not in course.told]
        course.told |= {batch for batch, _ in fresh}
        told = [
            Event(EventType.BOUNCE, wall(), permanence=Permanence.HARD, cause=Cause.BLOCKED_REPUTATION, token=one)
            for batch, size in fresh for one in (token.sign(key, batch, place) for place in range(size))
        ]  # fmt: skip
        return RawReport(encode_events(told), {"content-type": CONTENT_TYPE})

    def _statuses(self) -> dict[str, str]:
        with self.nodes.db.read() as conn:
            return {row.name: row.status for row in conn.execute(select(campaigns.c.name, campaigns.c.status))}


def share_above(over: int, count: int) -> float:
    """The share above a limit that `over` of so many do not rule out, one-sided 95 % (Clopper and Pearson, 1934)."""
    low, high = over / count, 1.0
    for _ in range(60):
        share = (low + high) / 2
        fewer = sum(math.comb(count, n) * share**n * (1 - share) ** (count - n) for n in range(over + 1))
        low, high = (share, high) if fewer > 0.05 else (low, share)
    return high


def shown(what: str, found: list[tuple[float, float]], aim: float) -> None:
    count, last = len(found), sorted(seconds for seconds, _ in found)
    if not count:
        print(f"{what}: no stop within the time", flush=True)
        return
    p95, p99 = (last[min(count - 1, math.ceil(count * level) - 1)] for level in (0.95, 0.99))
    over = sum(seconds > aim for seconds in last)
    hold = statistics.median(seconds for _, seconds in found)
    print(
        f"{what} > last call, {count} stops: median {statistics.median(last):.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s"
        f" ({p99 / aim:.2f} of the aim of {aim:.0f} s), worst {last[-1]:.3f} s; above the aim {over}, which is at most"
        f" {share_above(over, count):.2%} of all (95 % sure); the stop had taken hold after {hold:.3f} s (median);"
        f" load average {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    print(f"  the slowest: {' '.join(f'{seconds:.2f}' for seconds in last[-10:])}", flush=True)


@contextmanager
def campaign_at_work(
    server: postgres_server.Server, options: argparse.Namespace
) -> Iterator[tuple[Nodes, CountingEsp, list[Course]]]:
    """Nodes that send several campaigns to the same people."""
    url = server.create()
    with CountingEsp(options.call) as esp, tempfile.TemporaryDirectory() as folder:
        home, store = Path(folder) / "home", url.render_as_string(hide_password=False)
        pace, people = options.pace, options.people
        with nodes_running.workspace(home, store, esp, people=people, pace=pace, batch=options.batch) as nodes:
            text = (home / "campaigns/first.yaml").read_text()
            names = ["first", *(f"course-{n}" for n in range(2, options.campaigns + 1))]
            for name in names[1:]:
                (home / f"campaigns/{name}.yaml").write_text(text.replace("name: first", f"name: {name}"))
                nodes.command("campaign", "create", home / f"campaigns/{name}.yaml")
                nodes.command("campaign", "plan", name)
                nodes.command("campaign", "approve", name)
            with nodes.db.read() as conn:
                ids = {row.name: row.id for row in conn.execute(select(campaigns.c.name, campaigns.c.id))}
            for _ in range(options.nodes):
                nodes.start()
            until(lambda: all(nodes.heard(n, "policy_loaded") for n in range(options.nodes)), "all nodes run")
            until(lambda: len(esp.calls) == len(names), "every campaign sends")
            yield nodes, esp, [Course(name, ids[name]) for name in names]
            if options.logs:
                for number in range(options.nodes):
                    (options.logs / f"node-{number}.log").write_text(nodes.said(number).read_text())
    server.drop(url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--pauses", type=int, default=300)
    parser.add_argument("--halts", type=int, default=300)
    parser.add_argument("--campaigns", type=int, default=6, help="at once; they are stopped in turn")
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=2, help="people")
    parser.add_argument("--pace", default="80 per 1s", help="of all campaigns together")
    parser.add_argument("--call", type=float, default=0.02, help="seconds a call of the ESP takes")
    parser.add_argument("--minutes", type=float, default=10.0, help="for pauses, and for halts, at most")
    parser.add_argument("--logs", type=Path, help="a folder to keep what the nodes said")
    options = parser.parse_args()
    aim = AIM.get(options.nodes, SEVERAL)
    told = (
        f"{options.campaigns} campaigns, {options.pace}, {options.batch} people a call of {options.call * 1000:.0f} ms"
    )
    print(f"{options.nodes} node(s), {told}", flush=True)
    with postgres_server.running() as server:
        for kind, count in (("pause", options.pauses), ("halt", options.halts)):
            if count:
                with campaign_at_work(server, options) as (nodes, esp, courses):
                    stopping = Stopping(nodes, esp, kind, 1.25 * aim, courses)
                    stopping.run(count, options.minutes * 60)
                    shown({"pause": "pause", "halt": "event that tips a gate (durable)"}[kind], stopping.found, aim)


if __name__ == "__main__":
    main()
