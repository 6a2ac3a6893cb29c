"""Scenarios: read with the place of every mistake, drawn the same every time."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from sendwave.errors import BadInput, NotFound
from sendwave.esp.simulated_world import scenarios
from sendwave.simulator.base import LATER, REFUSED, Mail
from sendwave.simulator.fates import Fates
from sendwave.simulator.scenario import Scenario, load, read

EVERY = frozenset({REFUSED, LATER})


def mails(count: int, domain: str = "orange.fr", tag: str = "wave-1") -> list[Mail]:
    return [Mail(f"p{n}@{domain}", tags=(tag,), id=str(n)) for n in range(count)]


def kinds(scenario: Scenario, now: datetime, some: list[Mail]) -> Counter[str]:
    fates = Fates(scenario, EVERY).decide(some, now)
    return Counter(kind for fate in fates for kind, _ in fate.acts)


def test_a_shipped_name_or_a_file(tmp_path: Path) -> None:
    assert load("bad-list").like == "bad-list"
    file = tmp_path / "mine.yaml"
    file.write_text("like: bad-list\nseed: 3\nwebhooks: {duplicates: 5%}\n")
    assert load(str(file)).seed == 3
    with pytest.raises(NotFound, match="Did you mean 'bad-list'"):
        load("bad-lst")


def test_mistakes_are_told_with_their_place() -> None:
    text = "like: helthy\nscript:\n  - {match: 'a@*', outcome: [hard_bounce, click]}\n  - {match: b, outcome: bonce}\n"
    with pytest.raises(BadInput) as caught:
        read(text + "calls: {busy: 5}\ndelays: {opens: {median: 1h}}\nwebhook: {}\n")
    told = "\n".join(caught.value.findings)
    for piece in ("scenario:1:", "Did you mean 'healthy'", "after hard_bounce nothing else", "scenario:4:", "busy",
                  "Did you mean 'open'", "Did you mean 'webhooks'"):  # fmt: skip
        assert piece in told, told


@pytest.mark.parametrize("name", list(scenarios()))
def test_every_shipped_world_can_be_played(name: str, now: datetime) -> None:
    found = kinds(Scenario(like=name), now, mails(400))
    assert found["accepted"] > 380
    assert found["delivered"] > 300


def test_the_same_mails_meet_the_same_fate(now: datetime) -> None:
    scenario = Scenario(like="bad-list")
    assert kinds(scenario, now, mails(300)) == kinds(scenario, now, mails(300))
    assert kinds(scenario, now, mails(300)) != kinds(Scenario(like="bad-list", seed=2), now, mails(300))


def test_an_incident_knows_the_provider_and_the_wave(now: datetime) -> None:
    scenario = Scenario(like="bad-provider")
    calm = kinds(scenario, now, mails(500, tag="wave-2"))["blocked"]
    bad = kinds(scenario, now, mails(500, tag="wave-3"))["blocked"]
    elsewhere = kinds(scenario, now, mails(500, "gmail.com", tag="wave-3"))["blocked"]
    assert bad > 20 > max(calm, elsewhere)


def test_a_tier_is_given_by_pattern(now: datetime) -> None:
    scenario = read("like: bad-tail\ntiers: [{match: 'p1*', tier: frozen}]\n")
    fates = Fates(scenario, EVERY).decide(mails(2000), now)
    bounced = [n for n, fate in enumerate(fates) if any(kind == "hard_bounce" for kind, _ in fate.acts)]
    frozen = [n for n in bounced if str(n).startswith("1")]
    assert len(frozen) > len(bounced) / 2 > 40


def test_what_cannot_be_said_at_hand_over_is_told_later(now: datetime) -> None:
    scenario = read("script: [{match: 'p0*', outcome: refused}, {match: 'p1*', outcome: later}]")
    at_once = Fates(scenario, EVERY).decide(mails(2), now)
    assert [fate.verdict for fate in at_once] == [REFUSED, LATER]
    assert not any(fate.taken for fate in at_once)
    refused, late = Fates(scenario, frozenset()).decide(mails(2), now)
    assert [kind for kind, _ in refused.acts] == [REFUSED]
    assert {kind for kind, _ in late.acts} == {"accepted", "deferred", "delivered"}
