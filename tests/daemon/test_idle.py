"""`--until idle` waits for whatever goes on by itself; not for a person, nor for a start that is to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import campaigns_made
import pytest

from sendwave.clock import VirtualClock
from sendwave.daemon import IDLE_ROUNDS, LISTEN_ROUNDS, Daemon
from sendwave.esp.base import RawReport
from sendwave.flow import steer
from sendwave.store import batches, campaigns, files, freezes, holds, inbox
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection
from sendwave.workspace import Workspace

State = Callable[[Connection, datetime], object]


def _approved(conn: Connection, now: datetime, start_at: datetime | None = None) -> Campaign:
    made = campaigns_made.planned(conn, now, start=start_at) if start_at else campaigns_made.planned(conn, now)
    campaigns.transition(conn, made.id, "approve", by="eve", now=now, approved_at=now, approved_by="eve")
    return made


def _sent_but_for(conn: Connection, now: datetime, provider: str, *, suspended: bool) -> None:
    """Every wave is cleared; ten people of one lane are still ready to leave."""
    made = campaigns_made.sending(conn, now, waves=(100,))
    freeze, batch = freezes.reserve(conn, freeze_ids=1, batch_ids=1)
    file = files.register(conn, dataset="sends", path="sends/1.parquet", rows=100, size=1, now=now)
    freezes.add(conn, freeze, campaign_id=made.id, wave=1, file_id=file, contacts=100, dropped={}, now=now)
    batches.add(conn, [batches.Draft(batch, made.id, 1, freeze, provider, "main", "", 0, size=10, payload=b"")])
    for event in ("release", "send", "soak", "clear"):
        campaigns.transition_wave(conn, made.id, 1, event, by="daemon", now=now)
    if suspended:
        campaigns_made.suspend(conn, made, provider, now)


def _unreachable(conn: Connection, now: datetime) -> None:
    campaigns_made.sending(conn, now)
    holds.place(
        conn, kind="hold", reason="esp_unreachable", route="main", by="d", now=now, until=now + timedelta(hours=1)
    )


def _suspended(conn: Connection, now: datetime) -> None:
    campaigns_made.suspend(conn, campaigns_made.sending(conn, now), "orange", now)


def _cancelled(conn: Connection, now: datetime) -> None:
    made = campaigns_made.sending(conn, now)
    campaigns.transition(conn, made.id, "cancel", by="ann", now=now)


WORKS: dict[str, State] = {
    "approved": _approved,
    "approved, its start has come": lambda conn, now: _approved(conn, now, now - timedelta(hours=1)),
    "sending": campaigns_made.sending,
    "one lane suspended, waves left for the others": _suspended,
    "the ESP cannot be reached: that ends by itself": _unreachable,
    "an open lane still has people": lambda conn, now: _sent_but_for(conn, now, "gmail", suspended=False),
    "reports wait": lambda conn, now: inbox.put(conn, "main", [RawReport(b"{}", {})], now),
}
RESTS: dict[str, State] = {
    "nothing": lambda _conn, _now: None,
    "planned, not approved": campaigns_made.planned,
    "its start is to come": lambda conn, now: _approved(conn, now, now + timedelta(hours=1)),
    "halted": lambda conn, now: campaigns_made.halt(conn, campaigns_made.sending(conn, now), now),
    "cancelled": _cancelled,
    "only a suspended lane has people": lambda conn, now: _sent_but_for(conn, now, "orange", suspended=True),
}


@pytest.mark.parametrize(
    ("state", "idle"),
    [pytest.param(state, False, id=name) for name, state in WORKS.items()]
    + [pytest.param(state, True, id=name) for name, state in RESTS.items()],
)
def test_idle(house: Workspace, now: datetime, state: State, *, idle: bool) -> None:
    with house.db.write() as conn:
        state(conn, now)
    assert Daemon(house, VirtualClock(now)).idle(now) is idle


def test_a_paused_campaign_waits_for_a_person(house: Workspace, now: datetime) -> None:
    with house.db.write() as conn:
        campaigns_made.sending(conn, now)
    steer.pause(house.db, "spring", by="ann", now=now)
    daemon = Daemon(house, VirtualClock(now))
    assert daemon.idle(now)
    steer.resume(house.db, "spring", by="ann", now=now)
    assert not daemon.idle(now)


@dataclass
class Looks:
    """Stands for the event that ends `run`: before each look of the daemon something happens; gives up after 500."""

    happens: Callable[[int], None]
    n: int = 0

    def wait(self, _seconds: float) -> bool:
        self.n += 1
        self.happens(self.n)
        return self.n >= 500


def looks_until_idle(house: Workspace, now: datetime, happens: Callable[[int], None]) -> int:
    daemon = Daemon(house, VirtualClock(now))
    daemon._scheduler()  # that is not started: nothing ticks
    daemon._stop = looks = Looks(happens)  # type: ignore[assignment]
    daemon._wait(until_idle=True, until=None)
    return looks.n


def test_reactions_that_trickle_in_are_listened_to_for_a_minute(house: Workspace, now: datetime) -> None:
    def trickle(look: int) -> None:
        with house.db.write() as conn:
            if look % 10 == 0:
                inbox.put(conn, "main", [RawReport(b"{}", {})], now)
            elif look % 10 == 5:
                inbox.done(conn, {one.id: 0 for one in inbox.waiting(conn, 10, 1_000)}, now)

    assert looks_until_idle(house, now, trickle) == LISTEN_ROUNDS + 5, "once what was there is counted"
    assert looks_until_idle(house, now, lambda _look: None) == IDLE_ROUNDS


def test_a_campaign_that_goes_on_is_waited_for_however_long(house: Workspace, now: datetime) -> None:
    with house.db.write() as conn:
        campaigns_made.sending(conn, now)
    assert looks_until_idle(house, now, lambda _look: None) == 500
