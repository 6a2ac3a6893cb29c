"""Codes of the store in words for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sendwave.demo import words
from sendwave.flow import policies
from sendwave.rules import plan
from sendwave.store.journal import Entry

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def _entry(action: str, **more: Any) -> Entry:
    told = {"wave": None, "provider": None, "reason": "", "evidence": {}} | more
    return Entry(id=1, at=AT, actor="daemon", action=action, campaign_id=1, policy_version=None, **told)


def test_every_reason_of_every_shipped_type_has_words() -> None:
    policy = policies.load_policies(None)
    names = {reason.name for kind in policy.types.values() for reason in plan.reasons(kind, int(AT.timestamp()))}
    assert {name for name in names if "_" in words.label(name)} == set()
    assert {name for name in names if words.label(name) == name and name != "suppressed"} == set()


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("no_address", "no address"),
        ("suppressed_spam_trap", "suppressed: spam trap"),
        ("cap_channel_1d", "had enough messages on this channel within 1d"),
        ("cap_all_30d", "had enough messages over all channels within 30d"),
        ("something_new", "something new"),
    ],
)
def test_labels(reason: str, told: str) -> None:
    assert words.label(reason) == told


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (_entry("wave.release", wave=3, evidence={"people": 14_529}), "wave 3 opened: 14,529 people"),
        (
            _entry("wave.release", wave=3, evidence={"people": 9, "dropped": {"suppressed": 2}}),
            "wave 3 opened: 9 people, 2 left out since the plan",
        ),
        (_entry("wave.soak", wave=3), "wave 3 is out; waiting 4h for what comes back"),
        (_entry("wave.clear", wave=3), "wave 3 cleared"),
        (_entry("wave.halt", wave=3, evidence={"from": "sending"}), "wave 3 stopped where it was"),
        (_entry("wave.halt", wave=4, evidence={"from": "waiting"}), "wave 4 will not open"),
        (
            _entry("lane.suspend", provider="orange", reason="block", evidence={"sentence": "11 %"}),
            "orange stopped: 11 %",
        ),
        (_entry("campaign.halt", reason="hard_bounce"), "the campaign stopped itself: hard_bounce"),
        (_entry("verdict.hold", reason="likely above"), None),
        (_entry("wave.send", wave=1), None),
        (_entry("hold.place", reason="block", evidence={"kind": "halt"}), None),
        (
            _entry("hold.place", reason="esp_unreachable", evidence={"kind": "hold", "route": "mta", "detail": "down"}),
            "waiting, route mta: esp unreachable (down)",
        ),
        (_entry("campaign.shorten", reason="enough"), "campaign shorten enough"),
    ],
    ids=lambda value: value.action if isinstance(value, Entry) else None,
)
def test_sentences(entry: Entry, told: str | None) -> None:
    assert words.sentence(entry, timedelta(hours=4)) == told
