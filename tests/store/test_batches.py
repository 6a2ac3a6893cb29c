from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import campaigns_made
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendwave.errors import StaleTransition
from sendwave.rules.holds import Kind
from sendwave.store import batches, campaigns, freezes, holds, payloads, turnstile
from sendwave.store.batches import Counts, Draft, Exceptions, Outcome
from sendwave.store.database import Connection, Database
from sendwave.store.tables import batches as rows

LATER = timedelta(minutes=15)


class Shelf:
    """One sending campaign with batches of four in wave 1."""

    def __init__(self, conn: Connection, now: datetime, count: int = 3) -> None:
        self.conn, self.now = conn, now
        self.campaign = campaigns_made.sending(conn, now)
        campaigns.transition_wave(conn, self.campaign.id, 1, "release", by="x", now=now)
        self.freeze, first = freezes.reserve(conn, freeze_ids=1, batch_ids=count)
        freezes.add(
            conn, self.freeze, campaign_id=self.campaign.id, wave=1, file_id=None, contacts=4, dropped={}, now=now
        )
        self.ids = [first + n for n in range(count)]
        batches.add(conn, [self.draft(i, "gmail" if n % 2 == 0 else "orange", n) for n, i in enumerate(self.ids)])

    def draft(self, batch_id: int, provider: str, position: int, **fields: Any) -> Draft:
        given = {"size": 4, "payload": b"people", **fields}
        return Draft(batch_id, self.campaign.id, 1, self.freeze, provider, "main", "", position, **given)

    def hand(self, batch_id: int, dropped: Sequence[tuple[int, str]] = (), holder: str = "me") -> bool:
        batches.claim(self.conn, [batch_id], holder=holder, until=self.now + LATER)
        return self.leaves(batch_id, dropped, holder)

    def leaves(self, batch_id: int, dropped: Sequence[tuple[int, str]] = (), holder: str = "me") -> bool:
        """Hand over what was claimed before."""
        [claimed] = batches.claimed(self.conn, [batch_id])
        return batches.hand(self.conn, claimed, dropped, holder=holder, now=self.now)

    def settle(self, batch_id: int, event: str = "accept", **found: Any) -> None:
        batches.settle(self.conn, batch_id, event, Exceptions(**found), now=self.now)

    def row(self, batch_id: int) -> Any:
        return self.conn.execute(rows.select().where(rows.c.id == batch_id)).one()


@pytest.fixture
def shelf(database: Database, now: datetime) -> Iterator[Shelf]:
    with database.write() as conn:
        yield Shelf(conn, now)


def test_ids_are_given_once(shelf: Shelf) -> None:
    conn = shelf.conn
    assert freezes.reserve(conn, batch_ids=2)[1] == shelf.ids[-1] + 1
    assert freezes.reserve(conn, batch_ids=1)[1] == shelf.ids[-1] + 3
    batches.add(conn, [shelf.draft(1_000, "gmail", 9)])
    assert freezes.reserve(conn, batch_ids=1)[1] == 1_001, "an id somebody used is never given"


def test_claims_go_in_order_to_one_holder(shelf: Shelf) -> None:
    conn, until = shelf.conn, shelf.now + LATER
    [gmail, orange] = batches.groups(conn, shelf.now)
    assert [ready.position for ready in batches.ready(conn, [gmail, orange], shelf.now, 10)] == [0, 1, 2]
    assert {ready.group.provider for ready in batches.ready(conn, [orange], shelf.now, 10)} == {orange.provider}
    assert [batch.id for batch in batches.claim(conn, shelf.ids[:2], holder="one", until=until)] == shelf.ids[:2]
    assert [batch.id for batch in batches.claim(conn, shelf.ids, holder="two", until=until)] == shelf.ids[2:]
    assert not batches.unclaim(conn, shelf.ids[0], holder="two")
    assert batches.unclaim(conn, shelf.ids[0], holder="one")
    assert not shelf.leaves(shelf.ids[1], holder="two")


def test_nothing_is_handed_over_of_a_wave_that_was_stopped_and_not_released_again(shelf: Shelf) -> None:
    """Halted and resumed while it was in somebody's hands: the campaign sends, its wave does not yet."""
    conn, number = shelf.conn, shelf.campaign.id
    batches.claim(conn, shelf.ids[:1], holder="me", until=shelf.now + LATER)
    for event in ("halt", "resume"):
        campaigns.transition(conn, number, event, by="eve", now=shelf.now)
        campaigns.transition_waves(conn, number, event, by="eve", now=shelf.now)
    assert not shelf.leaves(shelf.ids[0])
    campaigns.transition_wave(conn, number, 1, "release", by="x", now=shelf.now)
    assert shelf.leaves(shelf.ids[0])


def _suspended(conn: Connection, number: int, now: datetime) -> None:
    turnstile.alone(conn, number)
    campaigns.transition_lane(conn, number, "gmail", "suspend", by="judge", now=now)


def _halted(conn: Connection, number: int, now: datetime) -> None:
    campaigns.transition(conn, number, "halt", by="judge", now=now)
    campaigns.transition_waves(conn, number, "halt", by="judge", now=now)


def _halted_and_resumed(conn: Connection, number: int, now: datetime) -> None:
    _halted(conn, number, now)
    campaigns.transition(conn, number, "resume", by="eve", now=now)
    campaigns.transition_waves(conn, number, "resume", by="eve", now=now)


def _route_paused(conn: Connection, number: int, now: datetime) -> None:
    """While somebody moves the campaign, the route it goes by is stopped for every campaign."""
    turnstile.alone(conn, number)
    holds.place(conn, kind=Kind.PAUSE, reason="paused", route="main", by="ann", now=now)


@pytest.mark.postgresql
@pytest.mark.parametrize("stop", [_suspended, _halted, _halted_and_resumed, _route_paused])
def test_a_hand_over_that_waits_for_a_stop_sees_it(
    postgresql_database: Database, now: datetime, stop: Callable[[Connection, int, datetime], None]
) -> None:
    database, handed = postgresql_database, []
    with database.write() as conn:
        shelf = Shelf(conn, now)
        [claimed] = batches.claim(conn, shelf.ids[:1], holder="me", until=now + LATER)

    def hand() -> None:
        with database.write() as conn:
            handed.append(batches.hand(conn, claimed, (), holder="me", now=now))

    worker = threading.Thread(target=hand)
    with database.write() as conn:
        stop(conn, shelf.campaign.id, now)
        worker.start()
        worker.join(timeout=0.3)
        assert worker.is_alive(), "it waits until the stop is committed"
    worker.join()
    assert handed == [False]


def test_nothing_is_handed_over_for_a_campaign_that_stopped(shelf: Shelf) -> None:
    batches.claim(shelf.conn, shelf.ids, holder="me", until=shelf.now + LATER)
    campaigns_made.suspend(shelf.conn, shelf.campaign, "orange", shelf.now)
    assert [shelf.leaves(i) for i in shelf.ids] == [True, False, True]
    batches.return_unsent(shelf.conn, shelf.ids[0], not_before=shelf.now + LATER)
    campaigns_made.halt(shelf.conn, shelf.campaign, shelf.now)
    assert not shelf.hand(shelf.ids[0])


@pytest.mark.parametrize(
    ("scope", "leave"),
    [
        ({"route": "main"}, []),
        ({"wave": 1}, []),
        ({"provider": "orange"}, ["gmail", "gmail"]),
        ({"route": "other"}, ["gmail", "orange", "gmail"]),
        ({"wave": 2}, ["gmail", "orange", "gmail"]),
    ],
)
def test_nothing_is_handed_over_under_a_hold(shelf: Shelf, scope: dict[str, Any], leave: list[str]) -> None:
    """Placed while it was in somebody's hands."""
    mine = batches.claim(shelf.conn, shelf.ids, holder="me", until=shelf.now + LATER)
    holds.place(shelf.conn, kind=Kind.HOLD, reason="esp_quota", by="x", now=shelf.now, **scope)
    assert [batch.group.provider for batch in mine if shelf.leaves(batch.id)] == leave
    holds.lift(shelf.conn, reason="esp_quota", by="x", now=shelf.now, **scope)
    assert sum(shelf.leaves(batch.id) for batch in mine) == len(mine) - len(leave)


def test_what_went_back_unsent_waits(shelf: Shelf) -> None:
    assert shelf.hand(shelf.ids[0], dropped=[(1, "suppressed")])
    batches.return_unsent(shelf.conn, shelf.ids[0], not_before=shelf.now + LATER)
    row = shelf.row(shelf.ids[0])
    assert (row.status, row.handed_at, row.outcomes, row.dropped, row.payload) == ("ready", None, None, 0, b"people")
    ready = [r.id for r in batches.ready(shelf.conn, batches.groups(shelf.conn, shelf.now), shelf.now, 10)]
    assert shelf.ids[0] not in ready
    with pytest.raises(StaleTransition):
        batches.return_unsent(shelf.conn, shelf.ids[0], not_before=shelf.now)


@pytest.mark.parametrize(
    ("event", "found", "expected"),
    [
        ("accept", {}, {"accepted": 4}),
        ("accept", {"refused": [(0, "5.1.1", "no")], "unknown": [2]}, {"accepted": 2, "refused": 1, "unknown": 1}),
        ("accept", {"moved": [1, 3]}, {"accepted": 2, "moved": 2}),
        ("refuse", {}, {"refused": 4}),
        ("refuse", {"refused": [(0, "5.1.1", "no")]}, {"refused": 4}),
        ("lose", {}, {"unknown": 4}),
    ],
)
def test_settling_counts_everybody_once(
    shelf: Shelf, event: str, found: dict[str, Any], expected: dict[str, int]
) -> None:
    shelf.hand(shelf.ids[0])
    shelf.settle(shelf.ids[0], event, **found)
    row = shelf.row(shelf.ids[0])
    numbers = {n: getattr(row, n) for n in ("accepted", "refused", "unknown", "dropped", "moved") if getattr(row, n)}
    assert numbers == expected
    assert (row.payload is None) == ("unknown" not in expected), "kept while somebody may have to go again"
    if event != "lose":
        with pytest.raises(StaleTransition):
            shelf.settle(shelf.ids[0], "refuse")


def test_an_unknown_batch_is_settled_by_evidence(shelf: Shelf) -> None:
    shelf.hand(shelf.ids[0], dropped=[(3, "suppressed")])
    shelf.settle(shelf.ids[0], "lose")
    shelf.settle(shelf.ids[0], "accept")
    row = shelf.row(shelf.ids[0])
    assert (row.status, row.accepted, row.unknown, row.dropped) == ("accepted", 3, 0, 1)


def test_counts_follow_people_through_follow_ups(shelf: Shelf) -> None:
    conn, first = shelf.conn, shelf.ids[0]
    shelf.hand(first, dropped=[(0, "consent_withdrawn")])
    shelf.settle(first, moved=[1, 2])
    _, second = freezes.reserve(conn, batch_ids=1)
    batches.add(conn, [shelf.draft(second, "gmail", 0, size=2, attempt=1, origins=[(first, 1), (first, 2)])])
    shelf.hand(second)
    shelf.settle(second, moved=[0], refused=[(1, "4.7.1", "later")])
    _, third = freezes.reserve(conn, batch_ids=1)
    batches.add(conn, [shelf.draft(third, "gmail", 0, size=1, attempt=2, origins=[(first, 1)])])

    assert batches.counts(conn, shelf.campaign.id) == {
        (1, "gmail"): Counts(released=8, accepted=1, refused=1, dropped=1, ready=5),
        (1, "orange"): Counts(released=4, ready=4),
    }
    told = {(o.batch_id, o.position): (o.state, o.reason) for o in batches.outcomes(conn, shelf.campaign.id)}
    assert told[first, 0] == ("dropped", "consent_withdrawn")
    assert told[first, 1][0] == "ready"
    assert told[first, 2][0] == "refused"
    assert {batch_id for batch_id, _ in told} == {first}

    conn.execute(rows.update().where(rows.c.id == third).values(not_before=None))
    shelf.now += timedelta(hours=1)
    shelf.hand(third)
    shelf.settle(third)
    [cohort] = batches.cohorts(conn, shelf.campaign.id)
    assert (cohort.batch_id, cohort.accepted, cohort.refused) == (first, 2, 1)
    assert cohort.handed_at == shelf.now - timedelta(minutes=30), "the mean over those accepted"


def test_a_wave_is_through_when_open_lanes_are(shelf: Shelf) -> None:
    conn, campaign_id = shelf.conn, shelf.campaign.id
    for batch_id in (shelf.ids[0], shelf.ids[2]):
        shelf.hand(batch_id)
        shelf.settle(batch_id)
    assert batches.unsettled(conn, campaign_id, 1)
    campaigns_made.suspend(conn, shelf.campaign, "orange", shelf.now)
    assert not batches.unsettled(conn, campaign_id, 1)
    assert batches.settled_at(conn, campaign_id, 1) == shelf.now
    assert batches.settled_at(conn, campaign_id, 2) is None


def test_the_dead_lose_what_they_held(shelf: Shelf) -> None:
    conn, now = shelf.conn, shelf.now
    shelf.hand(shelf.ids[0], holder="dead")
    batches.claim(conn, [shelf.ids[1]], holder="dead", until=now + LATER)
    batches.claim(conn, [shelf.ids[2]], holder="alive", until=now + LATER)

    assert batches.lost(conn, now=now) == ([], [])
    back, handed = batches.lost(conn, now=now, holder="dead")

    assert (back, [batch.id for batch in handed]) == ([shelf.ids[1]], [shelf.ids[0]])
    assert shelf.row(shelf.ids[0]).status == "unknown"
    assert shelf.row(shelf.ids[2]).claimed_by == "alive"
    assert batches.lost(conn, now=now + LATER) == ([shelf.ids[2]], [])


def test_recall_takes_what_was_not_handed_over_of_stopped_campaigns(shelf: Shelf) -> None:
    conn = shelf.conn
    shelf.hand(shelf.ids[0])
    batches.claim(conn, [shelf.ids[1]], holder="me", until=shelf.now + LATER)
    assert batches.recallable(conn, 10) == []
    campaigns_made.halt(conn, shelf.campaign, shelf.now)
    assert batches.recallable(conn, 10) == shelf.ids[1:]
    assert batches.recall(conn, shelf.ids, now=shelf.now) == 2
    shelf.settle(shelf.ids[0], refused=[(2, "5.1.1", "no")])
    assert [batch_id for batch_id, _ in batches.owed(conn, 10)] == shelf.ids
    campaign_ids, given = batches.returns(conn, shelf.ids)
    assert campaign_ids == {shelf.campaign.id}
    assert {"batch": shelf.ids[0], "position": 2, "reason": "refused"} in given.to_pylist()
    assert given.num_rows == 9
    batches.returned(conn, shelf.ids, shelf.now)
    assert batches.owed(conn, 10) == []


def test_returns_name_the_place_people_were_released_in(shelf: Shelf) -> None:
    conn, origins = shelf.conn, [(shelf.ids[0], 3), (shelf.ids[1], 1)]
    _, follow = freezes.reserve(conn, batch_ids=1)
    batches.add(conn, [shelf.draft(follow, "gmail", 0, size=2, origins=origins)])
    shelf.hand(follow)
    shelf.settle(follow, "refuse")
    found = batches.returns(conn, [follow])[1].to_pylist()
    assert sorted((row["batch"], row["position"]) for row in found) == sorted(origins)


def test_outcomes_are_told_in_full(shelf: Shelf) -> None:
    shelf.hand(shelf.ids[1])
    shelf.settle(shelf.ids[1], refused=[(0, "5.1.1", "no such user")], unknown=[3])
    told = batches.outcomes(shelf.conn, shelf.campaign.id)
    assert [(o.position, o.state) for o in told] == [(0, "refused"), (3, "unknown")]
    assert isinstance(told[0], Outcome)
    assert [s.status for s in batches.standings(shelf.conn, shelf.campaign.id)] == ["ready", "accepted", "ready"]


def _people(providers: Sequence[str], zones: Sequence[str | None]) -> pa.Table:
    n = len(providers)
    columns = {name: pa.array([f"{name}{k}" for k in range(n)]) for name in payloads.KEPT}
    columns |= {"contact": pa.array(range(n), pa.int64()), "provider": pa.array(providers, pa.string())}
    return pa.table(
        {**columns, "timezone": pa.array(zones, pa.string()), "attr_name": pa.array(["é"] * n, pa.string())}
    )


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["Europe/Paris", "UTC", None, "nowhere"])), max_size=60),
    st.integers(1, 9),
    st.booleans(),
)
def test_batches_partition_people_by_lane_and_zone(
    people: list[tuple[str, str | None]], most: int, local: bool
) -> None:
    table = _people([lane for lane, _ in people], [zone for _, zone in people])
    arranged = payloads.arrange(table, local=local)
    cuts = payloads.cut(arranged, most)

    assert sorted(n for cut in cuts for n in range(cut.start, cut.stop)) == list(range(len(people)))
    assert sorted(cut.place for cut in cuts) == list(range(len(cuts)))
    assert sorted(arranged["contact"].to_pylist()) == list(range(len(people)))
    for cut in cuts:
        part = arranged.slice(cut.start, cut.stop - cut.start)
        assert 1 <= part.num_rows <= most
        assert set(part["provider"].to_pylist()) == {cut.provider}
        contacts = part["contact"].to_pylist()
        assert contacts == sorted(contacts), "the order inside a lane stays"
        if local:
            assert {zone if zone in ("Europe/Paris", "UTC") else "" for zone in part["timezone"].to_pylist()} == {
                cut.zone
            }
        decoded = payloads.decode(payloads.encode(payloads.kept(part)))
        assert decoded["contact"].to_pylist() == contacts
        assert payloads.fields(decoded)["name"] == ["é"] * part.num_rows
