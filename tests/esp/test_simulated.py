"""The simulated ESP: the same seed tells the same story, and the story has the shares its settings ask for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sendwave import esp
from sendwave.errors import BadInput, Transient, Unknown
from sendwave.esp.base import EspAdapter, Message, RawReport, Recipients, Submission
from sendwave.esp.simulated_state import arrivals
from sendwave.esp.simulated_world import scenarios
from sendwave.rules.events import Cause, EventType, Permanence
from sendwave.rules.signals import tally_of
from sendwave.rules.token import sign

KEY = b"0123456789abcdef" * 2
EVER = timedelta(days=400)
Make = Callable[..., EspAdapter]


@pytest.fixture
def simulated(tmp_path: Path) -> Make:
    def make(**settings: Any) -> EspAdapter:
        return esp.make({"esp": "simulated", **settings}, route="test", home=tmp_path, token_key=KEY)

    return make


def people(now: datetime, number: int = 1, *, count: int = 1000, **changed: Any) -> Submission:
    tier = changed.pop("tier", "hot")
    addresses = changed.pop("addresses", [f"p{number}.{i}@orange.fr" for i in range(count)])
    recipients = Recipients(
        addresses, [sign(KEY, number, i) for i in range(len(addresses))], [f"C{i}" for i in range(len(addresses))],
        [tier] * len(addresses),
    )  # fmt: skip
    message = Message("lettre", "newsletter", "news@maisonlune.example", "Bonjour")
    wave, provider = changed.pop("wave", 1), changed.pop("provider", "orange")
    return Submission(number, f"key-{number}", 1, wave, provider, message, recipients, now)


def words(reports: Iterable[RawReport]) -> Counter[str]:
    return Counter(row["event"] for report in reports for row in json.loads(report.body)["events"])


def shares(adapter: EspAdapter, now: datetime, batches: int = 10, **changed: Any) -> dict[str, float]:
    for number in range(1, batches + 1):
        adapter.submit(people(now, number, **changed))
    found = words(adapter.poll(now + EVER))
    return {word: count / batches / 1000 for word, count in found.items()}


def test_the_same_seed_tells_the_same_story(simulated: Make, now: datetime) -> None:
    stories = []
    for seed in (1, 1, 2):
        adapter = simulated(seed=seed, duplicates="2%", disorder="5%", loss="1%")
        receipts = [adapter.submit(people(now, number)) for number in range(1, 4)]
        stories.append((receipts, [report.body for report in adapter.poll(now + EVER)]))
    assert stories[0] == stories[1]
    assert stories[0][1] != stories[2][1]


def test_the_order_of_batches_changes_nothing(simulated: Make, now: datetime) -> None:
    bodies = []
    for order in ((1, 2, 3), (3, 1, 2)):
        adapter = simulated()
        for number in order:
            adapter.submit(people(now, number, count=200))
        rows = [r for report in adapter.poll(now + EVER) for r in json.loads(report.body)["events"]]
        bodies.append(sorted(rows, key=lambda row: (row["id"], row["at"])))
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    ("where", "low", "high"),
    [
        (("healthy", "burning", "orange", 5), 0.002, 0.004),
        (("healthy", "frozen", "orange", 5), 0.012, 0.018),
        (("healthy", "high", "orange", 5), 0.003, 0.006),
        (("healthy", "a tier of one's own", "orange", 5), 0.004, 0.008),
        (("bad-tail", "burning", "google", 1), 0.002, 0.004),
        (("bad-tail", "cold", "google", 1), 0.07, 0.09),
        (("bad-tail", "frozen", "google", 1), 0.10, 0.13),
        (("bad-list", "burning", "google", 1), 0.08, 0.10),
        (("bad-provider", "hot", "google", 3), 0.003, 0.006),
        (("bad-provider", "hot", "orange", 2), 0.003, 0.006),
        (("bad-provider", "hot", "orange", 3), 0.02, 0.03),
    ],
)
def test_hard_bounces_of_the_scenarios(
    simulated: Make, now: datetime, where: tuple[str, str, str, int], low: float, high: float
) -> None:
    scenario, tier, provider, wave = where
    found = shares(simulated(scenario=scenario), now, tier=tier, provider=provider, wave=wave)
    assert low <= found["hard_bounce"] <= high


def test_a_healthy_list_stays_below_every_default_gate(simulated: Make, now: datetime) -> None:
    found = shares(simulated(), now, tier="frozen")
    limits = {"hard_bounce": 0.02, "soft_bounce": 0.05, "blocked": 0.01, "deferred": 0.15, "complaint": 0.001}
    assert all(found.get(word, 0) < limit for word, limit in limits.items())


def test_a_bad_provider_blocks_from_wave_three(simulated: Make, now: datetime) -> None:
    assert shares(simulated(scenario="bad-provider"), now, wave=3)["blocked"] > 0.08
    assert shares(simulated(scenario="bad-provider"), now, wave=2)["blocked"] < 0.002


def test_settings_change_the_scenario(simulated: Make, now: datetime) -> None:
    adapter = simulated(
        everybody={"hard_bounce": "50%"},
        rates={"hot": {"soft_bounce": "20%"}},
        incidents=[{"provider": "orange", "tiers": ["hot"], "since": now, "until": now + timedelta(hours=1),
                    "factors": {"complaint": 3000}}],
    )  # fmt: skip
    found = shares(adapter, now)
    assert 0.47 < found["hard_bounce"] < 0.53
    assert 0.08 < found["soft_bounce"] < 0.12
    assert 0.15 < found["complaint"] < 0.22
    later = simulated(incidents=[{"until": now, "factors": {"complaint": 3000}}])
    assert shares(later, now).get("complaint", 0) < 0.002


def test_an_address_that_does_not_exist_bounces_every_time(simulated: Make, now: datetime) -> None:
    dead = []
    for number in (1, 2):
        adapter = simulated(everybody={"hard_bounce": "20%"})
        adapter.submit(people(now, number, addresses=[f"p{i}@orange.fr" for i in range(500)]))
        events = [e for r in adapter.poll(now + EVER) for e in adapter.normalise(r, now + EVER)]
        dead.append({e.recipient for e in events if e.permanence is Permanence.HARD})
    assert dead[0] == dead[1]
    assert 60 < len(dead[0]) < 140


def test_every_story_is_consistent(simulated: Make, now: datetime) -> None:
    adapter = simulated(scenario="bad-provider")
    receipt = adapter.submit(people(now, wave=3))
    refused = {sign(KEY, 1, one.index) for one in receipt.refused}
    seen: dict[str, set[str]] = {}
    for report in adapter.poll(now + EVER):
        for row in json.loads(report.body)["events"]:
            seen.setdefault(row["token"], set()).add(row["event"])
    assert refused
    assert not refused & set(seen)
    for found in seen.values():
        failed = found & {"hard_bounce", "soft_bounce", "blocked"}
        assert len(failed) + ("delivered" in found) == 1
        assert not failed or found == failed
        assert "click" not in found or "open" in found


def test_events_come_when_they_are_due(simulated: Make, now: datetime) -> None:
    adapter = simulated()
    for number in range(1, 6):
        adapter.submit(people(now, number))
    counts = []
    for minutes in (0, 1, 60, 60 * 24 * 30):
        reports = list(adapter.poll(now + timedelta(minutes=minutes)))
        assert all(len(json.loads(r.body)["events"]) <= 1000 for r in reports)
        counts.append(words(reports))
        adapter.acknowledge(reports)
    assert counts[0] == {}
    assert 0.4 < counts[1]["delivered"] / 5000 < 0.75  # the median is 45 s
    assert counts[2]["open"] > 0
    assert counts[3]["open"] > counts[2]["open"]
    assert sum(c["delivered"] for c in counts) > 4900


def test_loss_and_duplicates(simulated: Make, now: datetime) -> None:
    adapter = simulated(loss="20%", duplicates="10%")
    adapter.submit(people(now))
    ids = [row["id"] for report in adapter.poll(now + EVER) for row in json.loads(report.body)["events"]]
    whole = simulated()
    whole.submit(people(now))
    all_ids = {row["id"] for report in whole.poll(now + EVER) for row in json.loads(report.body)["events"]}
    assert set(ids) < all_ids
    assert 0.75 < len(set(ids)) / len(all_ids) < 0.85
    assert 0.06 < len(ids) / len(set(ids)) - 1 < 0.14


def test_disorder(simulated: Make, now: datetime) -> None:
    def times(**settings: Any) -> list[float]:
        adapter = simulated(**settings)
        adapter.submit(people(now))
        return [row["at"] for report in adapter.poll(now + EVER) for row in json.loads(report.body)["events"]]

    assert times() == sorted(times())
    assert times(disorder="30%") != sorted(times(disorder="30%"))


def test_too_fast_then_taken(simulated: Make, now: datetime) -> None:
    adapter = simulated(busy={"share": "50%", "retry_after": "20s"})
    waits = []
    for number in range(1, 21):
        for _ in range(50):
            try:
                adapter.submit(people(now, number, count=1))
                break
            except Transient as busy:
                waits.append(busy.retry_after)
    assert waits
    assert set(waits) == {20.0}
    tokens = {row["token"] for report in adapter.poll(now + EVER) for row in json.loads(report.body)["events"]}
    assert len(tokens) >= 19  # what was refused with 429 was not sent, what was taken was sent once


def test_taken_without_an_answer(simulated: Make, now: datetime) -> None:
    adapter = simulated(unanswered="100%")
    with pytest.raises(Unknown):
        adapter.submit(people(now))
    assert words(adapter.poll(now + EVER))["delivered"] > 950


def test_an_outage_takes_nothing(simulated: Make, now: datetime) -> None:
    adapter = simulated(outages=[{"since": now, "until": now + timedelta(minutes=5)}])
    with pytest.raises(Transient, match="away") as caught:
        adapter.submit(people(now))
    assert caught.value.retry_after == 60
    adapter.submit(people(now + timedelta(minutes=5)))
    assert words(adapter.poll(now + EVER))["delivered"] > 950


def test_scripted_addresses(simulated: Make, now: datetime) -> None:
    script = {"a@x.example": "refused", "b@x.example": "later", "c@x.example": "unanswered", "d@x.example": "blocked",
              "e@x.example": "complaint", "f@x.example": "accepted"}  # fmt: skip
    adapter = simulated(scripted=script, everybody={"hard_bounce": "100%"})
    receipt = adapter.submit(people(now, addresses=list(script)))
    assert [one.index for one in receipt.refused] == [0]
    assert receipt.refused[0].event.cause is Cause.SUPPRESSED
    assert [one.index for one in receipt.deferred] == [1]
    assert list(receipt.unknown) == [2]
    events = [e for r in adapter.poll(now + EVER) for e in adapter.normalise(r, now + EVER)]
    assert sorted((e.recipient or "", e.type.value) for e in events) == [
        ("c@x.example", "delivered"), ("d@x.example", "bounce"), ("e@x.example", "complaint"),
        ("e@x.example", "delivered"), ("f@x.example", "delivered"),
    ]  # fmt: skip


def test_every_word_has_its_tally(simulated: Make, now: datetime) -> None:
    adapter = simulated()
    everything = ["hard_bounce", "soft_bounce", "blocked", "refused", "deferred", "delivered", "open", "machine_open",
                  "click", "machine_click", "unsubscribe", "complaint", "levitated"]  # fmt: skip
    rows = [{"event": word, "at": now.timestamp(), "token": "t"} for word in everything]
    events = adapter.normalise(RawReport(json.dumps({"events": rows}).encode()), now)
    assert [tally_of(event).value for event in events] == [
        "hard_bounce", "soft_bounce", "block", "suppressed", "deferral", "delivered", "open", "machine_open",
        "click", "click", "unsubscribe", "complaint", "unknown",
    ]  # fmt: skip
    assert events[-1].type is EventType.UNKNOWN
    assert "levitated" in events[-1].description


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        ({"scenario": "bad-mood"}, "scenario: .*no scenario 'bad-mood'; there are: healthy, bad-tail"),
        ({"delays": {"opens": {"median": "1h"}}}, "delays: .*no such kind of event: opens"),
        ({"incidents": [{"factors": {"blocks": 3}}]}, r"incidents.0.factors: .*no such kind: blocks"),
        ({"everybody": {"hard_bounce": "0.3"}}, "everybody.hard_bounce: .*needs its unit"),
        ({"scripted": {"a@x.example": "vanish"}}, "scripted.a@x.example: Input should be"),
    ],
)
def test_settings_are_checked(simulated: Make, settings: dict[str, Any], finding: str) -> None:
    with pytest.raises(BadInput, match=finding):
        simulated(**settings)


def test_scenarios_that_ship() -> None:
    assert list(scenarios()) == ["healthy", "bad-tail", "bad-provider", "bad-list"]
    assert all(scenario.summary for scenario in scenarios().values())


# ── what it remembers ────────────────────────────────────────────────────────────────────────────────────────────────
def test_events_go_on_after_a_restart(simulated: Make, now: datetime) -> None:
    reference = simulated(disorder="5%", duplicates="1%")
    first = simulated(state="esp", disorder="5%", duplicates="1%")
    for number in (1, 2):
        for adapter in (reference, first):
            adapter.submit(people(now, number))
    early = list(first.poll(now + timedelta(minutes=1)))
    first.acknowledge(early[:1])
    seen = words(early[:1])
    second = simulated(state="esp", disorder="5%", duplicates="1%")
    seen += words(second.poll(now + EVER))
    assert seen == words(reference.poll(now + EVER))
    second.acknowledge(list(second.poll(now + EVER)))
    assert list(simulated(state="esp").poll(now + EVER)) == []


def test_two_processes_see_each_others_batches(simulated: Make, now: datetime) -> None:
    sender, reader = simulated(state="esp"), simulated(state="esp")
    assert list(reader.poll(now)) == []
    sender.submit(people(now))
    assert words(reader.poll(now + EVER))["delivered"] > 950


def test_the_truth_about_who_was_written_to(simulated: Make, tmp_path: Path, now: datetime) -> None:
    script = {"p1.0@orange.fr": "refused", "p1.1@orange.fr": "later", "p1.2@orange.fr": "unanswered"}
    simulated(state="esp", scripted=script, everybody={"refused": "0%"}).submit(people(now, count=5))
    (arrival,) = arrivals(tmp_path / "esp")
    assert arrival.written_to == ["C2", "C3", "C4"]
    assert (arrival.batch, arrival.campaign, arrival.wave, arrival.provider) == (1, 1, 1, "orange")


def test_what_arrived_survives_a_kill(simulated: Make, tmp_path: Path, now: datetime) -> None:
    code = f"""
import os, signal, sys
from datetime import datetime
from pathlib import Path
from sendwave import esp
from sendwave.esp.base import Message, Recipients, Submission
adapter = esp.make({{"esp": "simulated", "state": "esp"}}, route="t", home=Path({str(tmp_path)!r}), token_key=b"")
people = Recipients(["a@x.example"], ["t"], ["C1"], ["hot"])
message = Message("c", "newsletter", "s@x.example", "S")
adapter.submit(Submission(9, "k", 1, 1, "orange", message, people, datetime.fromisoformat({now.isoformat()!r})))
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ})
    assert killed.returncode == -9
    assert [arrival.batch for arrival in arrivals(tmp_path / "esp")] == [9]
    assert list(simulated(state="esp").poll(now + EVER))


def test_half_a_line_left_by_a_kill_is_no_arrival(simulated: Make, tmp_path: Path, now: datetime) -> None:
    adapter = simulated(state="esp")
    adapter.submit(people(now, 1, count=3))
    with (tmp_path / "esp" / "arrivals.jsonl").open("a") as file:
        file.write('{"batch": 2, "key"')
    adapter.submit(people(now, 3, count=3))
    assert [arrival.batch for arrival in arrivals(tmp_path / "esp")] == [1, 3]
    assert words(adapter.poll(now + EVER))["delivered"] >= 4
