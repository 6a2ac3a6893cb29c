"""A campaign rehearsed end to end: the real commands and daemon, a simulated provider over HTTP, time run faster."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import Shell, populated
from http_esps import TALLIES, TELLS_MACHINES
from ports import free_port

from sendwave.clock import VARIABLE, Pace, SystemClock, wall
from sendwave.rules.signals import Tally
from sendwave.simulator.rehearsal import Rehearsal
from sendwave.simulator.scenario import Scenario
from sendwave.store import tallies
from sendwave.workspace import Workspace

PEOPLE = 500
SPEED = 3_600
GATES = "default: {signals: {hard_bounce: {hold: 99%, halt: 100%}, complaint: {hold: 99%, halt: 100%}}}\n"
TROUBLE: dict[str, Any] = {
    "like": "bad-list",
    "everybody": {"unsubscribe": "3%", "complaint": "3%", "deferred": "5%"},
    # every run draws anew over its seventeen batches: at 30% one run in four hundred met no busy call at all
    "calls": {"busy": "60%", "retry_after": "30s"},
    "webhooks": {
        "duplicates": "20%", "disorder": "20%", "late": "5%", "forgeries": "10%",
        "outages": [{"after": "1m", "lasts": "1h"}],
    },
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv(VARIABLE, str(Pace(SPEED, wall())))
    return populated(Shell(tmp_path / "shop", capsys), PEOPLE)


def counted(home: Path) -> dict[str, int]:
    """What the campaign's counters say; those of hand-over apart, which no webhook told."""
    workspace = Workspace.open(home)
    with workspace.db.read() as conn:
        found: Counter[str] = Counter()
        for (_, tally), n in tallies.by_batch(conn, 1).items():
            found[tally] += n
    workspace.close()
    return {tally: n for tally, n in found.items() if tally not in {"suppressed", "fail"}}


def told(provider: str, running: Rehearsal) -> dict[str, int]:
    """What the provider told us, in our words."""
    found: Counter[str] = Counter()
    for person in running.service.truth.people():
        words = {TALLIES[kind] for kind in person.told}
        if provider not in TELLS_MACHINES and Tally.MACHINE_OPEN in words:
            words = words - {Tally.MACHINE_OPEN} | {Tally.OPEN}
        found.update(word.value for word in words)
    return {tally: n for tally, n in found.items() if tally not in {"suppressed", "fail"}}


@pytest.mark.parametrize("provider", ["sendgrid"])
def test_audit_and_counters_equal_the_truth(shop: Shell, provider: str) -> None:
    port = free_port()
    hook = f"http://127.0.0.1:{port}/hooks/rehearsal"
    with Rehearsal(provider, Scenario.model_validate(TROUBLE), webhook=hook, clock=SystemClock()) as running:
        route = "".join(f"    {key}: {value!r}\n" for key, value in running.route.items())
        (shop.home / "sendwave.yaml").write_text(
            f"time_zone: Europe/Paris\nweb: {{listen: '127.0.0.1:{port}'}}\nroutes:\n  rehearsal:\n{route}"
        )
        (shop.home / "policies/gates.yaml").write_text(GATES)
        planned = shop.json("campaign", "plan", "first")["planned"]
        shop("campaign", "approve", "first")
        shop("run", "--until", "idle")
        running.service.posting.hurry(SystemClock().now())
        for _ in range(40):
            shop("run", "--until", (SystemClock().now() + timedelta(hours=2)).isoformat())
            running.service.posting.hurry(SystemClock().now())
            if not running.service.posting.waiting():
                break
        truth = running.service.truth
        written = {person.address for person in truth.people() if person.times}
        assert running.service.posting.waiting() == 0
    assert shop.json("campaign", "show", "first")["status"] == "completed"
    shop.json("campaign", "audit", "first", "--csv", shop.home / "audit.csv")
    with (shop.home / "audit.csv").open() as file:
        sent = {row["contact_id"] for row in csv.DictReader(file) if row["state"] == "sent"}
    with (shop.home / "data/contacts.csv").open() as file:
        addresses = {row["email"].strip().lower() for row in csv.DictReader(file) if row["contact_id"] in sent}
    assert {address.lower() for address in written} == addresses
    assert len(written) == len(sent)
    assert planned - len(sent) == sum(not person.times for person in truth.people()), "the others it refused"
    assert all(person.times <= 1 for person in truth.people()), "nobody twice"
    assert truth.calls["answered 429"] > 0
    assert dict(truth.given_up) == {}
    assert counted(shop.home) == told(provider, running)
