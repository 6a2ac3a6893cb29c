"""How long mail still leaves after somebody, or a gate, said stop.

    python benchmarks/bench_stop_latency.py [--nodes 3] [--rounds 20] [--halts 5] [--pace "100 per 1s"] [--call 0.02]

Real `sendwave run` on PostgreSQL, an ESP on loopback that notes when each call comes. Pause: from the start of
`sendwave campaign pause` to the last call. Halt: from the commit of hard bounces of everybody sent so far to the last
call; each on a campaign of its own. A call under way when the stop is committed ends; no other begins.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import nodes_running
import postgres_server
from nodes_running import CountingEsp, until
from sqlalchemy import select

from sendwave.clock import stopwatch, wall
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.rules import token
from sendwave.rules.events import CONTENT_TYPE, Cause, Event, EventType, Permanence, encode_events
from sendwave.store import keys
from sendwave.store.tables import batches, campaigns

QUIET = 2.5  # seconds without a call after which nothing comes any more


def pauses(nodes: nodes_running.Nodes, esp: CountingEsp, rounds: int) -> list[float]:
    """Seconds from the start of the command to the last call, each."""
    found = []
    for _ in range(rounds):
        before = len(esp.began)
        until(lambda: len(esp.began) > before + 5, "mail leaves")  # noqa: B023  # asked at once
        began = stopwatch()
        nodes.command("campaign", "pause", "first")
        time.sleep(QUIET)
        found.append(max(0.0, max(esp.began) - began))
        nodes.command("campaign", "resume", "first")
    return found


def halt(nodes: nodes_running.Nodes, esp: CountingEsp) -> float:
    """Seconds from the commit of hard bounces of everybody sent so far to the last call."""
    before = len(esp.began)
    until(lambda: len(esp.began) > before + 30, "mail leaves")
    with nodes.db.write() as conn:
        key = keys.token_key(conn)
        chosen = select(batches.c.id, batches.c.size).where(batches.c.status == "accepted")
        sizes = conn.execute(chosen).all()
    told = [
        Event(EventType.BOUNCE, wall(), permanence=Permanence.HARD, cause=Cause.UNKNOWN_USER, token=one)
        for batch, size in sizes for one in (token.sign(key, batch, place) for place in range(size))
    ]  # fmt: skip
    report = RawReport(encode_events(told), {"content-type": CONTENT_TYPE})
    feedback.receive_all(nodes.db, [("rehearsal", report)], wall())
    began = stopwatch()

    def halted() -> bool:
        with nodes.db.read() as conn:
            return str(conn.execute(select(campaigns.c.status)).scalar_one()) == "halted"

    until(halted, "the gate halts", every=0.02)
    time.sleep(QUIET)
    return max(0.0, max(esp.began) - began)


def shown(what: str, found: list[float]) -> None:
    found = sorted(found)
    last = found[min(len(found) - 1, int(len(found) * 0.99))]
    print(f"{what} > last call: median {statistics.median(found):.3f} s, p99 of {len(found)}: {last:.3f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--halts", type=int, default=5)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--pace", default="100 per 1s")
    parser.add_argument("--call", type=float, default=0.02, help="seconds a call of the ESP takes")
    options = parser.parse_args()
    print(f"{options.nodes} node(s), {options.pace}, a call takes {options.call * 1000:.0f} ms", flush=True)
    halts: list[float] = []
    with postgres_server.running() as server:
        for turn in range(max(options.halts, 1)):
            with CountingEsp(options.call) as esp, tempfile.TemporaryDirectory() as folder:
                url, home = server.create().render_as_string(hide_password=False), Path(folder) / "home"
                with nodes_running.workspace(home, url, esp, people=options.people, pace=options.pace) as nodes:
                    for _ in range(options.nodes):
                        nodes.start()
                    until(
                        lambda: all(nodes.heard(n, "policy_loaded") for n in range(options.nodes)), "all nodes run"
                    )  # asked at once
                    if turn == 0 and options.rounds:
                        shown("pause", pauses(nodes, esp, options.rounds))
                    if turn < options.halts:
                        halts.append(halt(nodes, esp))
                assert not esp.twice
    if halts:
        shown("event that tips a gate (durable)", halts)


if __name__ == "__main__":
    main()
