from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules import lifecycle
from sendwave.rules.lifecycle import FINAL, SETTLED, TABLES, Batch, Campaign, Lane, Wave, allowed, next_status

WORDS = {"campaign": Campaign, "wave": Wave, "batch": Batch, "lane": Lane}
FIRST = {"campaign": Campaign.DRAFT, "wave": Wave.WAITING, "batch": Batch.READY, "lane": Lane.OPEN}
LAST = {
    "campaign": {Campaign.CANCELLED},
    "wave": {Wave.SKIPPED},
    "batch": {Batch.REFUSED, Batch.RECALLED},
    "lane": set(),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_speak_only_the_words_of_their_statuses(kind: str) -> None:
    known = {status.value for status in WORDS[kind]}
    used = {status for sources, target in TABLES[kind].values() for status in {*sources, target}}
    assert used <= known


@pytest.mark.parametrize("kind", TABLES)
def test_every_status_can_be_reached_from_the_first(kind: str) -> None:
    reached, fresh = set(), {str(FIRST[kind])}
    while fresh:
        reached |= fresh
        fresh = {t for s in fresh for e in allowed(TABLES[kind], s) if (t := next_status(TABLES[kind], s, e))} - reached
    assert reached == {status.value for status in WORDS[kind]}


@pytest.mark.parametrize("kind", TABLES)
def test_nothing_follows_final_statuses_and_something_follows_all_others(kind: str) -> None:
    stuck = {status for status in WORDS[kind] if not allowed(TABLES[kind], status)}
    assert stuck == LAST[kind]


def test_only_people_nobody_knows_the_fate_of_bring_a_completed_campaign_back() -> None:
    assert {*FINAL} == {Campaign.COMPLETED, Campaign.CANCELLED}
    assert allowed(lifecycle.CAMPAIGN, Campaign.COMPLETED) == ("reopen",)
    assert Batch.READY not in SETTLED
    assert Batch.HANDED not in SETTLED


@pytest.mark.parametrize("status", sorted(set(Campaign) - FINAL))
def test_a_campaign_can_be_cancelled_until_it_ends(status: Campaign) -> None:
    assert next_status(lifecycle.CAMPAIGN, status, "cancel") == Campaign.CANCELLED


@pytest.mark.parametrize("status", sorted(set(Campaign) - {Campaign.APPROVED}))
def test_only_an_approved_campaign_starts(status: Campaign) -> None:
    assert next_status(lifecycle.CAMPAIGN, status, "start") is None


@pytest.mark.parametrize("event", lifecycle.BATCH)
def test_what_was_handed_over_or_settled_is_never_ready_again_unless_it_certainly_did_not_leave(event: str) -> None:
    sources, target = lifecycle.BATCH[event]
    if target == Batch.READY:
        assert not sources & {Batch.ACCEPTED, Batch.REFUSED, Batch.UNKNOWN, Batch.RECALLED}
        assert event in ("unclaim", "return_unsent")


def test_the_esp_is_only_called_for_a_batch_that_was_claimed_and_handed() -> None:
    assert lifecycle.BATCH["hand"] == (frozenset({Batch.CLAIMED}), Batch.HANDED)
    for event in ("accept", "refuse"):
        assert lifecycle.BATCH[event][0] == {Batch.HANDED, Batch.UNKNOWN}


@given(st.data())
def test_any_walk_stays_in_the_table_and_ends_only_where_nothing_follows(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(TABLES)))
    status, ended = str(FIRST[kind]), False
    for event in data.draw(st.lists(st.sampled_from(sorted(TABLES[kind])), max_size=30)):
        following = next_status(TABLES[kind], status, event)
        assert (following is None) == (event not in allowed(TABLES[kind], status))
        if following is not None:
            assert not ended
            status = following
        ended = ended or status in LAST[kind]
