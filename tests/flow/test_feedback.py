from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import campaigns_made
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mail_sent import KEY, ROUTE, Echo, address, event, handed, minutes, report
from sqlalchemy import select

from sendwave import faults
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, FullDisk
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.flow.feedback import counting
from sendwave.rules.addresses import fingerprint
from sendwave.rules.events import Cause, Event, Permanence
from sendwave.store import feeds, files, inbox, journal, policies, tables, tallies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

HARD = {"permanence": Permanence.HARD, "cause": Cause.UNKNOWN_USER}


@dataclass
class Stand:
    """A campaign of which two batches were handed over ten minutes ago, and what comes back."""

    db: Database
    lake: Lake
    engine: DuckdbEngine
    now: datetime
    campaign: Campaign
    gmail: int
    orange: int

    @property
    def sent_at(self) -> datetime:
        return self.now - minutes(10)

    def hear(self, *events: Event, now: datetime | None = None) -> feedback.Digest:
        feedback.receive(self.db, ROUTE, [report(*events)], now or self.now)
        return self.digest(now=now)

    def digest(self, now: datetime | None = None, **told: Any) -> feedback.Digest:
        return feedback.digest(self.db, self.engine, self.lake, {ROUTE: Echo()}, KEY, now=now or self.now, **told)

    def counts(self) -> dict[tuple[int, str], int]:
        with self.db.read() as conn:
            return tallies.by_batch(conn, self.campaign.id)

    def minutes(self) -> dict[tuple[str, str, datetime], int]:
        with self.db.read() as conn:
            found = tallies.by_minute(conn, self.campaign.id)
        return {(b.provider, b.tally, b.bucket_at): n for b, n in found.items()}

    def suppressed(self) -> dict[str, tuple[str, str]]:
        with self.db.read() as conn:
            rows = conn.execute(select(tables.suppressions)).all()
        return {row.address_hash: (row.scope, row.reason) for row in rows}

    def rows(self) -> list[dict[str, Any]]:
        with self.db.read() as conn:
            listed = files.live(conn, ["events"])["events"]
        return [row for file in listed for row in pq.read_table(self.lake.root / file.path).to_pylist()]

    def feed(self) -> feeds.Feed:
        with self.db.read() as conn:
            return feeds.get(conn, ROUTE)


def _stand(db: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> Stand:
    with db.write() as conn:
        version = policies.remember(conn, campaigns_made.policy_set(), now)
        campaign = campaigns_made.sending(conn, now - minutes(20), policy_version=version)
        gmail = handed(conn, campaign, now - minutes(10), lake=lake)
        orange = handed(conn, campaign, now - minutes(10), lake=lake, provider="orange", people=9)
    return Stand(db, lake, engine, now, campaign, gmail, orange)


@pytest.fixture
def stand(sqlite_database: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> Stand:
    return _stand(sqlite_database, lake, engine, now)


def test_an_event_is_counted_kept_and_suppresses(
    database: Database, lake: Lake, engine: DuckdbEngine, now: datetime
) -> None:
    stand = _stand(database, lake, engine, now)
    at = now - minutes(3)
    done = stand.hear(
        event("delivered", at, stand.gmail, 7),
        event("bounce", at, stand.orange, 8, enhanced_code="5.1.1", description="no such user", **HARD),
    )
    assert done == feedback.Digest(reports=1, events=2, counted=2, suppressed=1, campaigns=frozenset({1}))
    assert stand.counts() == {(stand.gmail, "delivered"): 1, (stand.orange, "hard_bounce"): 1}
    assert stand.minutes() == {("gmail", "delivered", at): 1, ("orange", "hard_bounce", at): 1}
    assert stand.suppressed() == {fingerprint(address(stand.orange, 8)): ("all", "hard_bounce")}
    bounce = next(row for row in stand.rows() if row["tally"] == "hard_bounce")
    assert bounce == {
        "contact": stand.orange * 1_000_000 + 8,
        "campaign": stand.campaign.id,
        "wave": 1,
        "batch": stand.orange,
        "position": 8,
        "provider": "orange",
        "tally": "hard_bounce",
        "type": "bounce",
        "permanence": "hard",
        "cause": "unknown_user",
        "event_ts": int(at.timestamp()),
        "received_ts": int(now.timestamp()),
        "machine": None,
        "enhanced_code": "5.1.1",
        "url": None,
        "description": "no such user",
        "report": 1,
        "first": True,
        "act": 0,
    }
    feed = stand.feed()
    assert (feed.last_event_at, feed.last_received_at, feed.unmatched) == (at, now, 0)
    assert stand.digest() == feedback.Digest()


def test_what_is_reported_again_counts_once(
    database: Database, lake: Lake, engine: DuckdbEngine, now: datetime
) -> None:
    stand = _stand(database, lake, engine, now)
    told = [event("bounce", now, stand.gmail, p, **HARD) for p in (0, 3, 99)]
    stand.hear(*told, *told)
    again = stand.hear(*told[::-1], event("bounce", now, stand.gmail, 4, **HARD), now=now + minutes(5))
    assert again.counted == 1
    assert stand.counts() == {(stand.gmail, "hard_bounce"): 4}
    assert sum(stand.minutes().values()) == 4
    assert len(stand.rows()) == 4
    with stand.db.read() as conn:
        assert tallies.positions(conn, stand.gmail, "hard_bounce") == [0, 3, 4, 99]


def test_clicks_keep_a_row_each_and_count_a_person_once(stand: Stand) -> None:
    at = stand.now - minutes(5)
    clicks = [event("click", at + minutes(n), stand.gmail, 1, url=f"https://shop.example/{n}") for n in (0, 1, 2)]
    stand.hear(*clicks, clicks[0])
    stand.hear(clicks[1], event("open", at, stand.gmail, 1), event("open", at, stand.gmail, 1, machine_open=True))
    assert stand.counts() == {(stand.gmail, "click"): 1, (stand.gmail, "open"): 1, (stand.gmail, "machine_open"): 1}
    assert sorted(row["tally"] for row in stand.rows()) == ["click", "click", "click", "machine_open", "open"]


@pytest.mark.parametrize(
    "token",
    ["0" * 40, "not a token", "z" * 40, "é" * 40],
)
def test_forged_tokens_move_nothing_but_their_own_count(stand: Stand, token: str) -> None:
    told = event("complaint", stand.now, None, token=token, recipient=address(stand.gmail, 1))
    assert stand.hear(told).unmatched == 1
    assert (stand.counts(), stand.suppressed(), stand.rows()) == ({}, {}, [])
    assert stand.feed().unmatched == 1


def test_positions_and_batches_that_do_not_exist_are_unmatched(stand: Stand) -> None:
    strange = [(stand.orange, 9), (stand.orange, 15), (stand.gmail, 100), (999_999, 0), (2**40, 5)]
    done = stand.hear(*(event("bounce", stand.now, batch, position, **HARD) for batch, position in strange))
    assert (done.unmatched, done.counted, stand.counts(), stand.rows()) == (5, 0, {}, [])


def test_times_that_cannot_be_are_drawn_to_the_nearest_that_can(stand: Stand) -> None:
    early, late = stand.sent_at - timedelta(days=400), stand.now + timedelta(days=400)
    stand.hear(event("delivered", early, stand.gmail, 1), event("delivered", late, stand.gmail, 2))
    assert stand.minutes() == {("gmail", "delivered", stand.sent_at): 1, ("gmail", "delivered", stand.now): 1}
    assert stand.feed().last_event_at == stand.now


def test_an_unreadable_report_is_kept_and_the_feed_goes_on(stand: Stand) -> None:
    good = report(event("delivered", stand.now, stand.gmail))
    feedback.receive(stand.db, ROUTE, [RawReport(b"boom"), RawReport(b"{"), good], stand.now)
    feedback.receive(stand.db, "gone", [RawReport(b"[]")], stand.now)
    done = stand.digest()
    assert (done.reports, done.failed, done.counted) == (4, 3, 1)
    with stand.db.read() as conn:
        kept = conn.execute(select(tables.inbox).where(tables.inbox.c.status == "failed")).all()
        told = [entry for entry in journal.read(conn) if entry.action == "feedback.failed"]
    assert [row.error.partition(":")[0] for row in kept] == ["ZeroDivisionError", "BadInput", "NotFound"]
    assert [row.body for row in kept] == [b"boom", b"{", b"[]"]
    assert len(told) == 3


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("complaint", {}, ("all", "complaint")),
        ("unsubscribe", {}, ("marketing", "unsubscribe")),
        ("reject", {"cause": Cause.SUPPRESSED}, ("all", "suppressed")),
        ("bounce", {"permanence": Permanence.HARD, "cause": Cause.BAD_DOMAIN}, ("all", "hard_bounce")),
        ("bounce", {"permanence": Permanence.SOFT, "cause": Cause.MAILBOX_FULL}, None),
        ("bounce", {"permanence": Permanence.HARD, "cause": Cause.BLOCKED_REPUTATION}, None),
        ("bounce", {"permanence": Permanence.HARD, "cause": Cause.OTHER}, None),
        ("deferred", {}, None),
        ("open", {}, None),
    ],
)
def test_who_is_never_written_to_again(
    stand: Stand, kind: str, fields: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    stand.hear(event(kind, stand.now, stand.gmail, 5, **fields))
    assert stand.suppressed().get(fingerprint(address(stand.gmail, 5))) == expected


def test_a_later_report_of_the_true_cause_still_suppresses(stand: Stand) -> None:
    stand.hear(event("bounce", stand.now, stand.gmail, 5, permanence=Permanence.HARD))
    assert stand.suppressed() == {}
    stand.hear(event("bounce", stand.now, stand.gmail, 5, **HARD))
    assert list(stand.suppressed()) == [fingerprint(address(stand.gmail, 5))]


def test_a_forwarded_address_does_not_shield_the_one_we_wrote_to(stand: Stand) -> None:
    stand.hear(event("complaint", stand.now, stand.gmail, 5, recipient="forwarded@elsewhere.example"))
    assert list(stand.suppressed()) == [fingerprint(address(stand.gmail, 5))]


class TestWithoutToken:
    def test_it_finds_the_latest_mail_to_its_address(self, stand: Stand) -> None:
        told = event("complaint", stand.now, None, recipient=f" {address(stand.gmail, 3).upper()} ", event_id="c1")
        assert stand.hear(told).counted == 1
        assert stand.hear(told, replace(told, event_id="c2")).counted == 0
        assert stand.counts() == {(stand.gmail, "complaint"): 1}
        assert stand.suppressed() == {fingerprint(address(stand.gmail, 3)): ("all", "complaint")}
        assert [row["contact"] for row in stand.rows()] == [stand.gmail * 1_000_000 + 3]

    def test_an_address_we_never_wrote_to_is_unmatched_and_suppressed_all_the_same(self, stand: Stand) -> None:
        told = event("complaint", stand.now, None, recipient="stranger@free.fr", message_id="m1")
        assert stand.hear(told, told).unmatched == 1
        assert stand.hear(told).unmatched == 0
        assert stand.suppressed() == {fingerprint("stranger@free.fr"): ("all", "complaint")}
        assert stand.feed().unmatched == 1

    def test_without_a_usable_address_it_is_only_counted(self, stand: Stand) -> None:
        done = stand.hear(
            event("complaint", stand.now, None, message_id="m1"),
            event("complaint", stand.now, None, recipient="redacted", message_id="m2"),
        )
        assert (done.unmatched, done.suppressed) == (2, 0)

    def test_mail_by_another_route_or_after_the_event_is_not_meant(self, stand: Stand) -> None:
        to = address(stand.gmail, 3)
        feedback.receive(stand.db, "other", [report(event("open", stand.now, None, recipient=to))], stand.now)
        early = event("open", stand.sent_at - timedelta(hours=2), None, recipient=to)
        assert stand.hear(early).unmatched == 2

    def test_one_report_can_carry_several_recipients_under_one_id(self, stand: Stand) -> None:
        told = [event("delivered", stand.now, None, recipient=address(stand.gmail, p), event_id="e") for p in range(3)]
        assert stand.hear(*told).counted == 3


def test_unknown_words_are_counted_by_name(stand: Stand) -> None:
    stand.hear(*(event("unknown", stand.now, stand.gmail, p, description="mail.teleported") for p in range(2)))
    assert stand.feed().unknown_words == {"mail.teleported": 2}
    assert stand.counts() == {(stand.gmail, "unknown"): 2}


def test_people_whose_file_is_gone_still_count(stand: Stand) -> None:
    for path in stand.lake.root.glob("sends/*"):
        stand.lake.remove(stand.lake.relative(path))
    told = event("complaint", stand.now, stand.gmail, 2, recipient=address(stand.gmail, 2))
    stand.hear(told, event("complaint", stand.now, stand.gmail, 3))
    assert stand.counts() == {(stand.gmail, "complaint"): 2}
    assert [row["contact"] for row in stand.rows()] == [None, None]
    assert list(stand.suppressed()) == [fingerprint(address(stand.gmail, 2))]


def test_polled_feeds_are_stored_before_they_are_acknowledged(stand: Stand) -> None:
    waiting = [report(event("delivered", stand.now, stand.gmail, p)) for p in range(3)]
    adapter = Echo(waiting)

    class Down(Echo):
        def poll(self, now: datetime) -> Any:
            raise BadInput("the mailbox folder is gone")

    assert feedback.collect(stand.db, {"down": Down(), ROUTE: adapter}, stand.now) == 3
    assert adapter.acknowledged == waiting
    assert feedback.collect(stand.db, {ROUTE: adapter}, stand.now) == 0
    assert stand.digest().counted == 3


def test_the_limit_leaves_the_rest_for_the_next_call(stand: Stand) -> None:
    reports = [report(event("delivered", stand.now, stand.gmail, p)) for p in range(5)]
    feedback.receive(stand.db, ROUTE, reports, stand.now)
    assert [stand.digest(limit=2).reports for _ in range(4)] == [2, 2, 1, 0]
    assert stand.counts() == {(stand.gmail, "delivered"): 5}


class Killed(BaseException):
    """What SIGKILL is to the process, as far as its transactions are concerned."""


@pytest.mark.parametrize("where", ["feedback_stored", "feedback_file_written", "feedback_counted"])
def test_a_crash_loses_nothing_and_counts_nothing_twice(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    told = report(*(event("bounce", stand.now, stand.gmail, p, **HARD) for p in range(4)))
    adapter = Echo([told])

    def die(name: str) -> None:
        if name == where:
            raise Killed

    def live_on() -> None:
        feedback.collect(stand.db, {ROUTE: adapter}, stand.now)
        stand.digest()

    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", die)
        with pytest.raises(Killed):
            live_on()
    feedback.collect(stand.db, {ROUTE: adapter}, stand.now)
    while stand.digest().reports:
        pass
    assert stand.counts() == {(stand.gmail, "hard_bounce"): 4}
    assert sum(stand.minutes().values()) == 4
    assert len(stand.suppressed()) == 4
    assert len(stand.rows()) == 4


def test_a_full_disk_leaves_the_reports_for_later(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise FullDisk("no room")

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "new", full)
        with pytest.raises(FullDisk):
            stand.hear(event("delivered", stand.now, stand.gmail))
    assert stand.counts() == {}
    assert stand.digest().counted == 1


@pytest.mark.parametrize("stolen", ["report", "bitmap", "key"])
def test_a_second_worker_on_the_same_reports_changes_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, stolen: str
) -> None:
    """Another worker commits between our reading and our writing."""
    click = event("click", stand.now, stand.gmail, 1)
    if stolen == "key":
        click = event("click", stand.now, None, recipient=address(stand.gmail, 1), event_id="e1")
    feedback.receive(stand.db, ROUTE, [report(click)], stand.now)
    commit = counting.Digestion._commit

    def late(self: Any, result: Any) -> int:
        with stand.db.write() as conn:
            if stolen == "report":
                inbox.done(conn, dict(self.read.found), stand.now)
            elif stolen == "bitmap":
                tallies.write(conn, result.changes)
            else:
                tallies.remember_keys(conn, result.keys, stand.now)
        return commit(self, result)

    with monkeypatch.context() as patched:
        patched.setattr(counting.Digestion, "_commit", late)
        assert stand.digest() == feedback.Digest()
    assert list(stand.lake.root.glob("events/*")) == []
    if stolen == "bitmap":
        assert stand.digest().reports == 1
        assert stand.counts() == {(stand.gmail, "click"): 1}


STORIES = st.lists(
    st.tuples(st.sampled_from(["delivered", "bounce", "complaint", "click"]), st.integers(0, 12), st.integers(0, 3)),
    max_size=20,
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORIES, cuts=st.lists(st.integers(0, 20), max_size=3), turn=st.randoms(use_true_random=False))
def test_order_repetition_and_packing_change_no_count(
    stand: Stand, story: list[tuple[str, int, int]], cuts: Sequence[int], turn: Any
) -> None:
    events = [event(kind, stand.now - minutes(m), stand.orange, position) for kind, position, m in story]
    with stand.db.write() as conn:
        for name in ("tallies", "counters", "inbox", "event_keys", "suppressions"):
            conn.exec_driver_sql(f"DELETE FROM {name}")
    stand.hear(*events)
    plain, people = stand.counts(), set(stand.suppressed())
    with stand.db.write() as conn:
        for name in ("tallies", "counters", "inbox", "event_keys", "suppressions"):
            conn.exec_driver_sql(f"DELETE FROM {name}")
    shuffled = [*events, *events]
    turn.shuffle(shuffled)
    edges = [0, *sorted(cuts), len(shuffled)]
    for start, stop in pairwise(edges):
        stand.hear(*shuffled[start:stop])
    assert stand.counts() == plain
    assert set(stand.suppressed()) == people
    inside = {(kind, position) for kind, position, _ in story if position < 9}
    assert sum(plain.values()) == len(inside)
    assert sum(stand.minutes().values()) == len(inside)
