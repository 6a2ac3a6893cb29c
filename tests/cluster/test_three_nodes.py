"""Three real `sendwave run` on PostgreSQL: killed, put to sleep, cut off, their database restarted; all counted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from nodes_running import REAL, CountingEsp, Nodes, workspace
from postgres_server import Server

from sendwave.clock import VARIABLE, Pace, stopwatch, wall

pytestmark = [pytest.mark.crash, pytest.mark.postgresql]

PEOPLE = 6_000
"""Half of them are in the plan: more than leave at `PACE` while a busy machine gets through a test."""
PACE = "40 per 1s"
FASTER = 5
"""The nodes' time, where a batch stays in doubt for a minute; lives and terms run on the machine's own."""
REACHED = 2.0
"""Seconds within which a pause must have reached every node."""


@contextmanager
def three(server: Server, folder: Path, esp: CountingEsp, pace: str = PACE) -> Iterator[Nodes]:
    """Three nodes that send, the campaign's first mails gone."""
    url = server.create()
    try:
        with workspace(
            folder / "home", url.render_as_string(hide_password=False), esp, people=PEOPLE, pace=pace
        ) as nodes:
            for _ in range(3):
                nodes.start()
            nodes.until(lambda: all(nodes.heard(n, "policy_loaded") for n in range(3)), "three nodes run")
            nodes.until(lambda: esp.people, "the first mail")
            yield nodes
    finally:
        server.drop(url)


def leads(nodes: Nodes) -> int:
    """The number of the node that leads."""
    nodes.until(lambda: nodes.leader() is not None, "a leader")
    found = nodes.leader()
    assert found is not None
    return found


def goes_on(nodes: Nodes, esp: CountingEsp, what: str) -> None:
    """Wait until further people got their mail."""
    before = len(esp.people)
    nodes.until(lambda: len(esp.people) > before + 20, what)


def counted(nodes: Nodes, esp: CountingEsp) -> None:
    """Nobody twice; whoever counts as sent got it, and whoever got it counts as sent or as unknown."""
    left = nodes.left()
    assert esp.twice == []
    assert left.get("accepted", 0) <= len(esp.people) <= left.get("accepted", 0) + nodes.doubtful()


def test_a_leader_that_sleeps_and_a_node_that_dies(
    postgresql_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv(VARIABLE, str(Pace(FASTER, wall())))
    with CountingEsp(0.02) as esp, three(postgresql_server, tmp_path, esp, f"40 per {FASTER}s") as nodes:
        asleep = leads(nodes)
        nodes.processes[asleep].send_signal(signal.SIGSTOP)
        nodes.until(lambda: leads(nodes) != asleep, "another node leads")
        second = leads(nodes)
        goes_on(nodes, esp, "the others send on")
        nodes.processes[asleep].send_signal(signal.SIGCONT)
        nodes.until(lambda: nodes.heard(asleep, "leads_no_more"), "the sleeper finds out")
        dead = next(n for n in range(3) if n not in {asleep, second})
        nodes.processes[dead].kill()
        record_property("kills", 1)
        goes_on(nodes, esp, "the two send on")

        began = stopwatch()
        nodes.command("campaign", "pause", "first")
        done = stopwatch()
        REAL.sleep(REACHED)
        assert max(esp.began) < began + REACHED, "nothing left later than that"
        assert done - began < REACHED
        before = len(esp.people)
        REAL.sleep(1)
        assert len(esp.people) == before

        nodes.command("campaign", "resume", "first")
        goes_on(nodes, esp, "after the resume")
        nodes.stop()
        assert [nodes.processes[n].returncode for n in (asleep, second)] == [0, 0]
        counted(nodes, esp)
        assert nodes.left().get("handed", 0) <= 20, "the dead node's alone"


STOPS_IN_A_FREEZE = """
import os, signal
from sendwave import faults
faults.point = lambda name: os.kill(os.getpid(), signal.SIGSTOP) if name == "release_file_written" else None
"""


def test_a_leader_that_sleeps_in_the_middle_of_a_freeze(postgresql_server: Server, tmp_path: Path) -> None:
    """Its right to freeze people would last five minutes; the next leader waits for the end of its term alone."""
    url = postgresql_server.create()
    store = url.render_as_string(hide_password=False)
    with CountingEsp() as esp, workspace(tmp_path / "home", store, esp, people=400) as nodes:
        nodes.start(first=STOPS_IN_A_FREEZE)
        nodes.until(lambda: any((tmp_path / "home/lake/sends").glob("first-1-*")), "the first freezes people")
        nodes.start()
        nodes.until(lambda: len(esp.people) > 20, "the next leader freezes them and sends")
        nodes.processes[0].send_signal(signal.SIGCONT)
        nodes.until(lambda: nodes.heard(0, "leads_no_more"), "the sleeper finds out")
        nodes.command("campaign", "pause", "first")
        nodes.stop()
        counted(nodes, esp)
        assert not any(nodes.heard(n, "tick_crashed") for n in range(2))
    postgresql_server.drop(url)


def test_the_database_is_restarted_and_connections_are_cut(postgresql_server: Server, tmp_path: Path) -> None:
    down, up = postgresql_server.down, postgresql_server.up
    if down is None or up is None:
        pytest.fail("this test restarts the database: unset SENDWAVE_TEST_DSN, a server of its own is needed")
    with CountingEsp(0.02) as esp, three(postgresql_server, tmp_path, esp) as nodes:
        plain = nodes.db.url.set(drivername="postgresql").render_as_string(hide_password=False)
        for _ in range(3):
            with psycopg.connect(plain, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            goes_on(nodes, esp, "after every connection was cut")
        nodes.db.close()
        down()
        REAL.sleep(3)
        assert all(process.poll() is None for process in nodes.processes)
        up()
        goes_on(nodes, esp, "the database is back")
        assert any(nodes.heard(n, "tick_failed") for n in range(3)), "they said so"
        assert not any(nodes.heard(n, "tick_crashed") for n in range(3))
        assert not any(nodes.heard(n, "node_buried") for n in range(3)), "an outage is nobody's death"
        nodes.command("campaign", "pause", "first")
        nodes.stop()
        counted(nodes, esp)
        assert set(nodes.left()) <= {"accepted", "ready"}, "every answer was recorded in the end"
        assert len(esp.people) == nodes.left()["accepted"]
