"""A real daemon on a real SQLite file that is read for long, locked for long, and has no room left: it goes on.

The disk is full for this process alone, by RLIMIT_FSIZE: no byte more fits into the file its writes go to.
"""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from nodes_running import REAL, CountingEsp, Nodes, until, workspace
from ports import free_port

pytestmark = pytest.mark.crash

PATIENCE = "import sendwave.store.database as store; store.BUSY_SECONDS = 0.3"
"""A writer waits for another process 15 s; here not so long."""

MORE = """\
  letters: {{esp: brevo, webhook_user: brevo, webhook_password: secret}}
web: {{listen: '127.0.0.1:{port}'}}
"""


@contextmanager
def read_for_long(store: Path, _pid: int) -> Iterator[None]:
    with sqlite3.connect(store, isolation_level=None) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM batches").fetchone()
        yield
        other.execute("ROLLBACK")
    other.close()


@contextmanager
def locked(store: Path, _pid: int) -> Iterator[None]:
    with sqlite3.connect(store, isolation_level=None, timeout=60) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    other.close()


@contextmanager
def disk_full(store: Path, pid: int) -> Iterator[None]:
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (store.with_name(f"{store.name}-wal").stat().st_size, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class Daemon:
    """One daemon that sends, its webhook, and what is known of it."""

    def __init__(self, nodes: Nodes, esp: CountingEsp, port: int) -> None:
        self.nodes, self.esp, self.port = nodes, esp, port

    def posted(self) -> int:
        """An ESP reports something; the code it gets."""
        told = {"event": "delivered", "ts_epoch": 1_772_442_000_000, "message-id": "<m@x>", "email": "a@shop.test"}
        url = f"http://127.0.0.1:{self.port}/hooks/letters"
        return httpx.post(url, json=[told], auth=("brevo", "secret"), timeout=60).status_code

    def said(self, event: str) -> list[str]:
        return [str(one.get("reason")) for one in self.nodes.events(0) if one["event"] == event]

    def goes_on(self, what: str) -> None:
        before = len(self.esp.people)
        until(lambda: len(self.esp.people) > before + 20, what)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    port = free_port()
    with CountingEsp(0.02) as esp:
        store = f"sqlite:///{tmp_path}/sendwave.db"
        with workspace(tmp_path / "home", store, esp, people=1500, pace="20 per 1s") as nodes:
            settings = tmp_path / "home/sendwave.yaml"
            settings.write_text(settings.read_text() + MORE.format(port=port))
            nodes.start(first=PATIENCE)
            until(lambda: esp.people, "the first mail")
            yield Daemon(nodes, esp, port)


def test_a_daemon_whose_store_is_read_locked_or_on_a_full_disk_for_long(daemon: Daemon, tmp_path: Path) -> None:
    store, pid = tmp_path / "sendwave.db", daemon.nodes.processes[0].pid
    assert daemon.posted() == 200
    with read_for_long(store, pid):
        daemon.goes_on("nobody waits for a reader")
        assert daemon.posted() == 200
    assert not daemon.said("tick_failed")

    troubles: list[tuple[Callable[[Path, int], object], str]] = [(locked, "another process"), (disk_full, "the disk")]
    for trouble, says in troubles:
        with trouble(store, pid):  # type: ignore[attr-defined]  # a context manager
            until(lambda says=says: any(says in one for one in daemon.said("tick_failed")), f"it says so: {says}")
            assert daemon.posted() == 429, "Brevo repeats after this one"
            REAL.sleep(1)  # calls under way end
            before = len(daemon.esp.people)
            REAL.sleep(1)
            assert len(daemon.esp.people) == before, "nothing leaves"
            assert daemon.nodes.processes[0].poll() is None
        daemon.goes_on("it is over")
        assert daemon.posted() == 200
    assert not daemon.said("tick_crashed")

    daemon.nodes.command("campaign", "pause", "first")
    daemon.nodes.stop()
    left = daemon.nodes.left()
    assert daemon.esp.twice == []
    assert set(left) <= {"accepted", "ready"}, "every answer was recorded in the end"
    assert left["accepted"] == len(daemon.esp.people)
