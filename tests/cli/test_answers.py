"""Every command's `--json`: one document on standard output, with the keys scripts rely on."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from command_line import Shell

from sendwave.clock import SystemClock
from sendwave.flow import policies

WAVE = {"number", "status", "planned", "released", "accepted", "refused", "unknown", "not_sent"}
SIGNAL = {"signal", "wave", "provider", "events", "exposure", "rate", "low", "high", "limit", "verdict"}


@pytest.mark.usefixtures("soon_idle")
def test_a_campaign_from_its_file_to_its_end(shell: Shell) -> None:
    """One walk through all commands of a campaign; what each prints is asserted on the way."""
    assert shell.json("campaign", "list") == [
        {"id": "first", "title": "Our first newsletter in waves", "type": "newsletter", "status": "draft"}
    ]
    dry = shell.json("campaign", "plan", "first", "--dry-run")
    planned = shell.json("campaign", "plan", "first")
    assert {"total", "planned", "excluded", "waves", "warnings"} <= set(planned)
    assert (dry["planned"], dry["excluded"]) == (planned["planned"], planned["excluded"])
    assert planned["total"] == planned["planned"] + sum(planned["excluded"].values()) == 400
    assert shell.json("campaign", "approve", "first") == {"id": "first", "done": "approved"}

    shell("run", "--until", "idle", "--threads", 2)

    shown = shell.json("campaign", "show", "first")
    keys = {"id", "name", "type", "status", "policy_version", "planned", "excluded"}
    assert keys | {"waves", "lanes", "holds", "signals"} <= set(shown)
    assert (shown["status"], shown["planned"]) == ("completed", planned["planned"])
    assert all(set(wave) >= WAVE for wave in shown["waves"])
    assert all(set(lane) == {"provider", "status"} for lane in shown["lanes"])
    assert all(set(signal) >= SIGNAL for signal in shown["signals"])
    _check_audit(shell, planned["planned"])
    _check_journal(shell)


def _check_audit(shell: Shell, planned: int) -> None:
    file = shell.home / "audit.csv"
    audited = shell.json("campaign", "audit", "first", "--csv", file)
    assert set(audited) == {"total", "sent", "unknown", "not_sent"}
    with file.open(newline="", encoding="utf-8") as rows:
        people = list(csv.DictReader(rows))
    assert list(people[0]) == ["contact_id", "state", "reason", "wave", "provider", "tier", "at"]
    assert len({person["contact_id"] for person in people}) == len(people) == audited["total"] == 400
    assert Counter(person["state"] for person in people)["sent"] == audited["sent"] > 0.9 * planned


def _check_journal(shell: Shell) -> None:
    entries = shell.json("campaign", "journal", "first")
    actions = [entry["action"] for entry in entries]
    assert actions[:4] == ["campaign.create", "campaign.plan", "campaign.approve", "campaign.start"]
    assert actions[-1] == "campaign.complete"
    assert all(entry["actor"] and entry["at"] for entry in entries)


def test_explain_tells_the_whole_chain(shell: Shell) -> None:
    shell("campaign", "plan", "first")
    told = shell.json("explain", "first", "C0000001")
    assert {"contact", "campaign", "decision", "wave", "rank", "chain"} <= set(told)
    assert (told["contact"], told["campaign"]) == ("C0000001", "first")
    assert all(set(link) == {"rule", "passed", "detail"} for link in told["chain"])
    assert "C0000001 in first" in shell("explain", "first", "C0000001").out


def test_steering_by_hand(shell: Shell) -> None:
    shell("campaign", "plan", "first")
    shell("campaign", "approve", "first")
    for words, done in (
        (("pause", "first", "--reason", "wrong subject"), "paused"),
        (("resume", "first"), "resumed"),
        (("shorten", "first", "--to", 1), "shortened to wave 1"),
        (("cancel", "first"), "cancelled"),
    ):
        assert shell.json("campaign", *words) == {"id": "first", "done": done}
    assert shell.json("campaign", "show", "first")["status"] == "cancelled"


def test_an_import_counts_what_landed_and_keeps_what_did_not(shell: Shell) -> None:
    file = shell.home / "more.csv"
    file.write_text(
        "contact_id,email\n" + "".join(f"X{n},x{n}@lune.example\n" for n in range(9)) + ",nobody@x.example\n"
    )
    told = shell.json("import", "contacts", file, expect=1)
    assert {"kind", "rows", "landed", "rejected", "rejects_file"} <= set(told)
    assert (told["rows"], told["landed"], told["rejected"]) == (10, 9, 1)
    assert "more.csv" in (shell.home / told["rejects_file"]).read_text()


def test_policies_compared(shell: Shell) -> None:
    other = shell.home / "other"
    other.mkdir()
    changes = shell.json("policy", "diff", other, expect=1)
    assert all(set(change) == {"path", "from", "to"} for change in changes)
    assert any(change["path"].startswith("types.newsletter") for change in changes)
    assert shell.json("policy", "diff", shell.home / "policies") == []
    assert shell.json("policy", "show")["version"]


@pytest.mark.parametrize("kind", ["type", "tiers", "gates", "lanes", "campaign"])
def test_schemas_for_editors(bare: Shell, kind: str) -> None:
    assert bare.plain("policy", "schema", kind).document["type"] == "object"


def test_check(shell: Shell) -> None:
    assert shell.json("check") == {"ok": True, "findings": [], "warnings": []}
    assert "all well" in shell("check").out


def test_the_base_by_tier(shell: Shell) -> None:
    told = shell.json("distribution")
    assert told["total"] == 400
    assert all({"tier", "label", "contacts", "share", "min_score", "max_score"} <= set(row) for row in told["tiers"])


@pytest.mark.parametrize("words", [["campaign", "list"], ["campaign", "show", "first"], ["campaign", "plan", "first"]])
def test_without_json_people_get_words_and_tables(shell: Shell, words: list[str]) -> None:
    out: Any = shell(*words).out
    assert "first" in out
    assert not out.lstrip().startswith(("{", "["))


def test_pressure_before_it_is_applied(shell: Shell) -> None:
    assert "no plan yet" in shell("pressure", "preview", "first", expect=2).err
    shell("campaign", "plan", "first")
    seen = shell.json("pressure", "preview", "first", "--segment", "provider")
    assert set(seen) == {"campaign", "planned_at", "planned", "rules", "segment", "left_out"}
    assert "people planned" in shell("pressure", "preview", "first").out
    assert shell.json("pressure", "arbitrate") == {"run": 1, "earlier": None, "campaigns": ["first"], "lost": []}
    assert set(shell.json("pressure", "replay")) == {"since", "sent", "today", "remarks"}
    assert "no price for email" in shell("pressure", "budget", "first", expect=2).err
    (shell.home / "policies" / "budgets.yaml").write_text("channels:\n  email: {price: 0.001 EUR, per_month: 50 EUR}\n")
    assert shell.json("pressure", "budget", "first")["left"] == "50.00 EUR"
    assert "month budget  50.00 EUR" in shell("pressure", "budget", "first").out


def test_a_changed_policy_played_over_the_past(shell: Shell) -> None:
    past = shell.home / "sends.csv"
    days = {day: SystemClock().now() - timedelta(days=day) for day in (3, 4)}
    rows = [f"C000000{n},past-{day},newsletter,{at:%Y-%m-%dT%H:%M:%SZ}" for n in (1, 2) for day, at in days.items()]
    past.write_text("contact_id,campaign,type,sent_at\n" + "\n".join(rows) + "\n")
    shell("import", "sends", past)
    other = shell.home / "other"
    (other / "types").mkdir(parents=True)
    text = (policies.shipped() / "types" / "newsletter.yaml").read_text()
    (other / "types" / "newsletter.yaml").write_text(text.replace("{max: 12 per 30d", "{max: 1 per 30d"))
    told = shell.json("policy", "diff", other, "--replay", expect=1)
    messages = {name: told["replay"][name]["messages"] for name in ("sent", "today", "changed")}
    assert messages["changed"] < messages["today"] <= messages["sent"]
    assert "people over-solicited" in shell("policy", "diff", other, "--replay", expect=1).out
    assert "people never reached" in shell("pressure", "replay").out
