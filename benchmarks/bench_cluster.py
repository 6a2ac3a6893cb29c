"""Dispatch by one process and by three, on PostgreSQL, against an ESP whose calls take time.

    python benchmarks/bench_cluster.py [--people 60000] [--batch 100] [--threads 4] [--call 0.05]

Real `sendwave run`, no pace. Timed from the first call of the ESP to the last one of the last wave. The ESP is a thread
of this process and parses every body: what it costs is taken from the same cores. CPU is that of the nodes alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import nodes_running
import postgres_server
from nodes_running import CountingEsp, until


def cpu(nodes: nodes_running.Nodes) -> float:
    """Seconds of processor time the nodes took so far."""
    stats = [Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split() for one in nodes.processes]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def run(server: postgres_server.Server, count: int, options: argparse.Namespace) -> float:
    """People a second."""
    url = server.create()
    with CountingEsp(options.call) as esp, tempfile.TemporaryDirectory() as folder:
        store, home = url.render_as_string(hide_password=False), Path(folder) / "home"
        with nodes_running.workspace(home, store, esp, people=options.people, batch=options.batch) as nodes:
            for _ in range(count):
                nodes.start(options.threads)
            until(lambda: all(nodes.heard(n, "policy_loaded") for n in range(count)), "all nodes run")
            until(lambda: len(nodes.left()) == 1 and "accepted" in nodes.left(), "the first wave is through", every=0.2)
            first, before = (len(esp.people), len(esp.began)), cpu(nodes)
            until(lambda: sum(nodes.left().values()) > first[0], "the second wave", 600, every=0.2)
            until(lambda: set(nodes.left()) == {"accepted"}, "everybody is through", 600, every=0.5)
            rest = sorted(esp.began)[first[1] :]
            assert not esp.twice
            people, seconds = len(esp.people) - first[0], rest[-1] - rest[0]
            each = (cpu(nodes) - before) / people * 1_000
    server.drop(url)
    told = f"{people / seconds:,.0f} a second, {each:.3f} ms of processor time each"
    print(f"{count} process(es): {people:,} people in {seconds:.1f} s, {told}", flush=True)
    return people / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=60_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--call", type=float, default=0.05, help="seconds a call of the ESP takes")
    options = parser.parse_args()
    with postgres_server.running() as server:
        one, three = run(server, 1, options), run(server, 3, options)
    print(
        f"three over one: {three / one:.2f} (a call takes {options.call * 1000:.0f} ms, {options.threads} threads each)"
    )


if __name__ == "__main__":
    main()
