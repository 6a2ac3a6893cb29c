"""A node is killed at every named fault point of release and dispatch, and started again each time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sendable

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.audit import COLUMNS, audit
from sendwave.store import batches, campaigns, files
from sendwave.store.database import Database

DRIVE = Path(__file__).with_name("drive.py")
SUPPORT = Path(__file__).parent.parent / "support"
KILLS = (
    "release_file_written",
    "release_registered",
    "after_claim",
    "after_handed",
    "after_call:2",
    "before_acknowledge",
    "after_acknowledge:2",
    "release_file_written",
    "after_handed:3",
)
"""In the order in which they happen; the last two in the second wave."""

pytestmark = pytest.mark.crash


@dataclass(frozen=True)
class Nodes:
    """Starts nodes in processes of their own, see drive.py."""

    server: subprocess.Popen[str]

    def live(self, url: str, folder: Path, now: datetime, *, fault: str = "", holder: str = "node") -> None:
        """Start a life."""
        asked = {"url": url, "folder": str(folder), "now": now.isoformat(), "holder": holder, "fault": fault}
        assert self._ask(json.dumps(asked)).startswith("start")

    def end(self) -> int:
        """How the next life to end ended: 0, or minus the signal that killed it."""
        return int(self._ask("wait").split()[2])

    def _ask(self, line: str) -> str:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(line + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    with subprocess.Popen(
        [sys.executable, str(DRIVE)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        yield Nodes(server)
        assert server.stdin is not None
        server.stdin.close()


def _arrived(folder: Path) -> Counter[tuple[str, str]]:
    path = folder / "arrived"
    lines = path.read_text().split() if path.exists() else []
    return Counter(zip(lines[::2], lines[1::2], strict=True))


def _states(db: Database, folder: Path, name: str) -> dict[str, str]:
    """contact id -> state, everybody of the plan once."""
    found = audit(db, DuckdbEngine(threads=1), Lake(folder / "lake"), name)
    told = [dict(zip(COLUMNS, row, strict=True)) for row in found.rows()]
    assert len({row["contact_id"] for row in told}) == len(told) == found.total
    return {row["contact_id"]: row["state"] for row in told}


def _check(db: Database, folder: Path) -> Counter[str]:
    """Nobody twice, nobody lost, nobody over the cap of one message; the states of all people of both campaigns."""
    arrived = _arrived(folder)
    assert not [who for who, times in arrived.items() if times > 1]
    assert max(Counter(address for _, address in arrived).values(), default=0) <= 1
    total: Counter[str] = Counter()
    for name in ("spring", "summer"):
        states = _states(db, folder, name)
        got = {address for campaign, address in arrived if campaign == name}
        for contact_id, state in states.items():
            reached = sendable.address(int(contact_id[1:])) in got
            assert (state == "sent" and reached) or (state == "not_sent" and not reached) or state == "unknown"
        total.update(states.values())
    return total


def _two_campaigns(db: Database, folder: Path, people: int, now: datetime) -> str:
    """The same people, one message each allowed; returns the store's URL."""
    lake = Lake(folder / "lake")
    lake.root.mkdir()
    sendable.write_base(db, lake, people, now)
    policy = sendable.policy_set(caps=[{"max": "1 per 1d"}], ramp=["50%", "50%"])
    for name in ("spring", "summer"):
        sendable.approved(db, DuckdbEngine(threads=1), lake, policy, now, name=name)
    return db.url.render_as_string(hide_password=False)


def test_killed_at_every_point(database: Database, nodes: Nodes, tmp_path: Path, now: datetime) -> None:
    url = _two_campaigns(database, tmp_path, 120, now)
    for number, fault in enumerate(KILLS):
        now += timedelta(minutes=20)  # longer than the lease of a node that died
        nodes.live(url, tmp_path, now, fault=fault)
        assert nodes.end() == -signal.SIGKILL, f"nothing reached {fault} (kill {number + 1})"
        _check(database, tmp_path)
    nodes.live(url, tmp_path, now + timedelta(minutes=20))
    assert nodes.end() == 0

    total = _check(database, tmp_path)

    assert total["sent"] + total["unknown"] == 120, "everybody got their one message, or may have got it"
    assert 0 < total["unknown"] <= 4 * 10, "four batches were in flight when the node died"
    with database.read() as conn:
        for campaign in campaigns.listing(conn):
            cells = batches.counts(conn, campaign.id).values()
            assert sum(cell.ready + cell.handed for cell in cells) == 0
        for file in files.live(conn, ["sends"])["sends"]:
            assert (tmp_path / "lake" / file.path).is_file()


@pytest.mark.postgresql
def test_two_nodes_put_nobody_over_a_cap(
    postgresql_database: Database, nodes: Nodes, tmp_path: Path, now: datetime
) -> None:
    url = _two_campaigns(postgresql_database, tmp_path, 200, now)
    for holder in ("one", "two"):
        nodes.live(url, tmp_path, now, holder=holder)
    assert [nodes.end(), nodes.end()] == [0, 0]

    assert _check(postgresql_database, tmp_path) == {"sent": 200, "not_sent": 200}
