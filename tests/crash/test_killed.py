"""A node is killed at every named fault point, and started again each time."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import lives
import pytest
import sendable
from lives import Nodes
from sqlalchemy import select

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow.audit import COLUMNS, audit
from sendwave.rules import token
from sendwave.rules.events import Cause, Event, EventType, Permanence, encode_events
from sendwave.store import batches, campaigns, files, suppressions, tallies
from sendwave.store.database import Database
from sendwave.store.tables import batches as batch_rows

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

LISTENING = (
    "feedback_stored",
    "feedback_file_written",
    "feedback_counted",
    "feedback_stored",
    "feedback_counted:2",
)

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with lives.nodes() as started:
        yield started


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


def _reported(folder: Path, tokens: list[str], now: datetime) -> None:
    """Each person twice in two of the ESP's reports: one in three is unknown there, the others got their mail."""
    (folder / "reports").mkdir(exist_ok=True)
    for number in range(0, len(tokens), 10):
        told = [
            Event(
                EventType.BOUNCE if index % 3 == 0 else EventType.DELIVERED,
                now,
                permanence=Permanence.HARD if index % 3 == 0 else Permanence.UNKNOWN,
                cause=Cause.UNKNOWN_USER if index % 3 == 0 else None,
                token=tokens[index],
            )
            for index in range(number, min(number + 10, len(tokens)))
        ]
        for copy in ("a", "b"):
            (folder / "reports" / f"{number:04}-{copy}.json").write_bytes(encode_events(told))


def test_killed_while_listening(database: Database, nodes: Nodes, tmp_path: Path, now: datetime) -> None:
    url = _two_campaigns(database, tmp_path, 60, now)
    nodes.live(url, tmp_path, now)
    assert nodes.end() == 0
    with database.read() as conn:
        chosen = (batch_rows.c.id, batch_rows.c.accepted)
        sizes = {row.id: row.accepted for row in conn.execute(select(*chosen).where(batch_rows.c.accepted > 0))}
    tokens = [token.sign(sendable.KEY, batch, position) for batch, size in sizes.items() for position in range(size)]
    assert len(tokens) == 60
    now += timedelta(hours=1)
    _reported(tmp_path, tokens, now)

    for number, fault in enumerate(LISTENING):
        if number == 3:
            _reported(tmp_path, tokens, now)  # and the ESP says everything once more
        nodes.live(url, tmp_path, now, fault=fault, job="listen")
        assert nodes.end() == -signal.SIGKILL, f"nothing reached {fault} (kill {number + 1})"
    nodes.live(url, tmp_path, now, job="listen")
    assert nodes.end() == 0

    with database.read() as conn:
        counted: Counter[str] = Counter()
        for campaign in campaigns.listing(conn):
            for (_, tally), people in tallies.by_batch(conn, campaign.id).items():
                counted[tally] += people
        listed = suppressions.table(conn, "email").num_rows
        events = files.live(conn, ["events"])["events"]
    assert counted == {"hard_bounce": 20, "delivered": 40}, "nothing lost, nothing counted twice"
    assert listed == 20
    assert sum(file.rows for file in events) == 60
    assert not list((tmp_path / "reports").iterdir())


@pytest.mark.postgresql
def test_two_nodes_put_nobody_over_a_cap(
    postgresql_database: Database, nodes: Nodes, tmp_path: Path, now: datetime
) -> None:
    url = _two_campaigns(postgresql_database, tmp_path, 200, now)
    for holder in ("one", "two"):
        nodes.live(url, tmp_path, now, holder=holder)
    assert [nodes.end(), nodes.end()] == [0, 0]

    assert _check(postgresql_database, tmp_path) == {"sent": 200, "not_sent": 200}
