from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.errors import BadInput
from sendwave.rules.events import Cause, Event, EventType, Permanence, decode_events, encode_events

WORDS = st.none() | st.text(max_size=20).filter(bool)
EVENTS = st.builds(
    Event,
    type=st.sampled_from(EventType),
    event_at=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))])),
    permanence=st.sampled_from(Permanence),
    cause=st.none() | st.sampled_from(Cause),
    token=WORDS,
    recipient=WORDS,
    message_id=WORDS,
    event_id=WORDS,
    machine_open=st.none() | st.booleans(),
    enhanced_code=WORDS,
    description=st.text(max_size=20),
    url=WORDS,
)


@given(st.lists(EVENTS, max_size=4))
def test_events_survive_the_way_through_a_report(events: list[Event]) -> None:
    assert decode_events(encode_events(events)) == events


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"3",
        b"[3]",
        b'["type"]',
        b"[{}]",
        b'[{"type": "bounce"}]',
        b'[{"type": "bounce", "event_at": "2026-03-02T09:00:00"}]',
        b'[{"type": "exploded", "event_at": "2026-03-02T09:00:00Z"}]',
        b'[{"type": "bounce", "event_at": 5}]',
    ],
)
def test_what_is_no_list_of_events_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput, match="no list of sendwave events"):
        decode_events(body)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    (event,) = decode_events(b'[{"type": "open", "event_at": "2026-03-02T09:00:00Z", "mood": "good"}]')
    assert event == Event(EventType.OPEN, datetime(2026, 3, 2, 9, tzinfo=UTC))
