from __future__ import annotations

import threading
from datetime import datetime, timedelta

import campaigns_made
import pytest

from sendwave.errors import BadInput, NotAllowed, NotFound, StaleTransition
from sendwave.rules.lifecycle import Campaign, Wave
from sendwave.store import campaigns, journal
from sendwave.store.campaigns import WaveRow
from sendwave.store.database import Connection, Database


def test_a_campaign_comes_back_as_its_author_wrote_it(database: Database, now: datetime) -> None:
    start = now + timedelta(hours=2)
    file = campaigns_made.described(title="Spring news", start=start)
    with database.write() as conn:
        made = campaigns.create(conn, file, "email", by="ann", now=now)
    with database.read() as conn:
        assert campaigns.get(conn, "spring") == campaigns.by_id(conn, made.id) == made
        assert campaigns.get(conn, str(made.id)) == made
    assert made.settings == file
    assert (made.status, made.title, made.start_at, made.created_by) == ("draft", "Spring news", start, "ann")


def test_a_name_is_never_used_again(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns.create(conn, campaigns_made.described(), "email", by="ann", now=now)
        campaigns.transition(conn, made.id, "cancel", by="ann", now=now)
        with pytest.raises(BadInput, match="never used again"):
            campaigns.create(conn, campaigns_made.described(), "email", by="bob", now=now)
        assert len(campaigns.listing(conn)) == 1


def test_a_name_nobody_knows_is_answered_with_the_nearest(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        campaigns.create(conn, campaigns_made.described("spring-news"), "email", by="ann", now=now)
        with pytest.raises(NotFound, match="Did you mean 'spring-news'"):
            campaigns.get(conn, "sprng-news")
        with pytest.raises(NotFound):
            campaigns.get(conn, "17")


def test_a_plan_brings_waves_lanes_and_exclusions_and_a_second_plan_replaces_them(
    database: Database, now: datetime
) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        assert made.status == Campaign.PLANNED
        assert [wave.planned for wave in campaigns.waves(conn, made.id)] == [100, 300, 600]
        assert [lane.provider for lane in campaigns.lanes(conn, made.id)] == ["gmail", "orange"]
        assert campaigns.exclusions(conn, made.id)["no_consent", "cold"] == 4
        campaigns.store_plan(
            conn,
            made.id,
            plan_file=made.plan_file or 0,
            pins={},
            policy_version=campaigns_made.POLICY_VERSION,
            waves=[WaveRow(1, "waiting", 7, {"hot": 7}, {"gmail": 7})],
            lanes=["gmail"],
            exclusions={},
            by="ann",
            now=now,
        )
        assert campaigns.waves(conn, made.id) == [WaveRow(1, "waiting", 7, {"hot": 7}, {"gmail": 7})]
        assert [lane.provider for lane in campaigns.lanes(conn, made.id)] == ["gmail"]
        assert campaigns.exclusions(conn, made.id) == {}


def test_planning_an_approved_campaign_again_takes_the_approval_back(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        campaigns.transition(conn, made.id, "approve", by="eve", now=now, approved_at=now, approved_by="eve")
        campaigns.store_plan(
            conn,
            made.id,
            plan_file=made.plan_file or 0,
            pins={},
            policy_version=campaigns_made.POLICY_VERSION,
            waves=[],
            lanes=[],
            exclusions={},
            by="ann",
            now=now,
        )
        again = campaigns.by_id(conn, made.id)
        assert (again.status, again.approved_at, again.approved_by) == ("planned", None, None)


def test_a_campaign_being_sent_cannot_be_planned_again(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        made = campaigns_made.sending(conn, now)
        with pytest.raises(NotAllowed, match="is sending"):
            campaigns.store_plan(
                conn,
                made.id,
                plan_file=made.plan_file or 0,
                pins={},
                policy_version=campaigns_made.POLICY_VERSION,
                waves=[],
                lanes=[],
                exclusions={},
                by="ann",
                now=now,
            )


def test_every_transition_is_journalled_with_what_it_was_under(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        campaigns.transition(conn, made.id, "approve", by="eve", now=now, reason="looks fine", evidence={"seen": 3})
        entry = journal.read(conn, made.id)[-1]
    assert (entry.actor, entry.action, entry.reason) == ("eve", "campaign.approve", "looks fine")
    assert entry.evidence == {"from": "planned", "to": "approved", "seen": 3}
    assert entry.policy_version == campaigns_made.POLICY_VERSION


def test_a_refused_transition_says_what_is_possible_and_changes_nothing(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        before = journal.read(conn, made.id)
        with pytest.raises(NotAllowed, match=r"is planned: `pause` is not possible, only plan, approve, cancel"):
            campaigns.transition(conn, made.id, "pause", by="ann", now=now)
        assert campaigns.by_id(conn, made.id) == made
        assert journal.read(conn, made.id) == before


def test_nothing_follows_cancelled(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        made = campaigns_made.planned(conn, now)
        campaigns.transition(conn, made.id, "cancel", by="ann", now=now)
        with pytest.raises(NotAllowed, match="is cancelled: nothing follows; create a new one"):
            campaigns.transition(conn, made.id, "resume", by="ann", now=now)
        assert campaigns.by_id(conn, made.id).ended_at == now


def test_transitions_stamp_their_instants(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.sending(conn, now)
        assert made.started_at == now
        steps = {"release": 1, "send": 2, "soak": 3, "clear": 4}
        for event, minute in steps.items():
            campaigns.transition_wave(conn, made.id, 1, event, by="daemon", now=now + timedelta(minutes=minute))
        wave = campaigns.waves(conn, made.id)[0]
        assert wave.status == Wave.CLEARED
        stamped = (wave.released_at, wave.sent_at, wave.cleared_at)
        assert stamped == tuple(now + timedelta(minutes=minute) for minute in (1, 3, 4))


def test_waves_move_together_where_the_table_lets_them(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        made = campaigns_made.sending(conn, now)
        for event in ("release", "send", "soak", "clear"):
            campaigns.transition_wave(conn, made.id, 1, event, by="daemon", now=now)
        campaigns.transition_wave(conn, made.id, 2, "release", by="daemon", now=now)
        assert campaigns.transition_waves(conn, made.id, "halt", by="daemon", now=now) == [2, 3]
        assert [wave.status for wave in campaigns.waves(conn, made.id)] == ["cleared", "halted", "halted"]
        assert campaigns.transition_waves(conn, made.id, "resume", by="ann", now=now, after=2) == [3]


def test_a_lane_moves_alone(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        made = campaigns_made.sending(conn, now)
        campaigns.transition_lane(conn, made.id, "orange", "suspend", by="daemon", now=now, throttle=0.5)
        gmail, orange = campaigns.lanes(conn, made.id)
        assert (gmail.status, gmail.throttle) == ("open", 1.0)
        assert (orange.status, orange.throttle) == ("suspended", 0.5)
        with pytest.raises(NotFound, match="lane wanadoo"):
            campaigns.transition_lane(conn, made.id, "wanadoo", "suspend", by="daemon", now=now)


def test_campaigns_start_when_their_time_has_come(database: Database, now: datetime) -> None:
    later = now + timedelta(hours=1)
    with database.write() as conn:
        for name, start in (("at-once", None), ("later", later)):
            made = campaigns_made.planned(conn, now, name=name, start=start)
            campaigns.transition(conn, made.id, "approve", by="eve", now=now)
        assert [one.name for one in campaigns.start_due(conn, by="daemon", now=now)] == ["at-once"]
        assert campaigns.start_due(conn, by="daemon", now=later - timedelta(seconds=1)) == []
        assert [one.name for one in campaigns.start_due(conn, by="daemon", now=later)] == ["later"]
        assert len(campaigns.listing(conn, statuses=[Campaign.SENDING])) == 2


def test_of_two_who_act_on_what_they_saw_one_wins_and_the_other_is_told(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns_made.sending(conn, now)
    together = threading.Barrier(2)
    answers: dict[str, object] = {}

    def act(event: str) -> None:
        with database.read() as conn:
            seen = campaigns.by_id(conn, made.id).status
        together.wait()
        try:
            with database.write() as conn:
                answers[event] = campaigns.transition(conn, made.id, event, by=event, now=now, seen=seen)
        except StaleTransition as lost:
            answers[event] = lost

    workers = [threading.Thread(target=act, args=(event,)) for event in ("pause", "cancel")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    won = [event for event, answer in answers.items() if isinstance(answer, str)]
    assert len(won) == 1
    assert sum(isinstance(answer, StaleTransition) for answer in answers.values()) == 1
    with database.read() as conn:
        assert campaigns.by_id(conn, made.id).status == answers[won[0]]
        moves = [entry.action for entry in journal.read(conn, made.id)]
    assert moves.count("campaign.pause") + moves.count("campaign.cancel") == 1


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ("campaign", "the campaign is paused"),
        ("lane", "somebody moved it first"),
    ],  # a campaign's movers wait before they look
)
def test_who_moves_a_row_second_is_told_so(postgresql_database: Database, now: datetime, row: str, lost: str) -> None:
    """The compare-and-set itself: the second transaction waits for the first, and never moves the row again."""
    database = postgresql_database
    with database.write() as conn:
        made = campaigns_made.sending(conn, now)
    looked, answers = threading.Event(), []

    def move(by: str) -> None:
        with database.write() as conn:
            _move(conn, by)
            looked.set()
            worker.join(timeout=0.3)  # it waits for our lock
            assert worker.is_alive()

    def _move(conn: Connection, by: str) -> None:
        if row == "campaign":
            campaigns.transition(conn, made.id, "pause", by=by, now=now)
        else:
            campaigns.transition_lane(conn, made.id, "gmail", "suspend", by=by, now=now)

    def second() -> None:
        looked.wait()
        try:
            with database.write() as conn:
                _move(conn, "bob")
        except NotAllowed as told:  # StaleTransition is one
            answers.append(told)

    worker = threading.Thread(target=second)
    worker.start()
    move("ann")
    worker.join()
    [told] = answers
    assert isinstance(told, StaleTransition) is (row == "lane")
    assert lost in str(told), told
