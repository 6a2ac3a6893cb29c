"""docs/guides/first-campaign.md, run for real: CSV files > waves > Postfix > genuine bounces > halt > resume."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rehearse
from rehearse import CAMPAIGN, TYPE, Internet, write_export
from sqlalchemy import func, select

from sendwave.store.database import Database
from sendwave.store.tables import feeds, tallies

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

PEOPLE = 20_000
NAME = "soldes"


@dataclass(frozen=True)
class Shop:
    """A workspace, and the world around it."""

    home: Path
    internet: Internet

    def run(self, *arguments: str, expect: int = 0) -> str:
        """One command, as a person types it; its standard output."""
        environment = {**os.environ, "SENDWAVE_LOG": "warning"}
        done = subprocess.run(
            [sys.executable, "-m", "sendwave", *arguments, "--home", str(self.home)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=environment,
        )
        assert done.returncode == expect, f"sendwave {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def tally(self, name: str) -> int:
        """People of all campaigns something was reported about."""
        return self._sum(select(func.coalesce(func.sum(tallies.c.n), 0)).where(tallies.c.tally == name))

    def unmatched(self) -> int:
        """Events nobody could book."""
        return self._sum(select(func.coalesce(func.sum(feeds.c.unmatched), 0)))

    def _sum(self, statement: Any) -> int:
        store = Database(f"sqlite:///{self.home}/state/sendwave.db")
        try:
            with store.read() as connection:
                return int(connection.execute(statement).scalar_one())
        finally:
            store.close()

    def audit(self, file: str) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """The audit, and its rows by contact."""
        document = self.json("campaign", "audit", NAME, "--csv", str(self.home / file))
        with (self.home / file).open(newline="", encoding="utf-8") as rows:
            people = {row["contact_id"]: row for row in csv.DictReader(rows)}
        assert len(people) == document["total"] == PEOPLE, "everybody is accounted for exactly once"
        assert Counter(p["state"] for p in people.values()) == Counter(
            sent=document["sent"], unknown=document["unknown"], not_sent=sum(document["not_sent"].values())
        ), "and the sums agree"
        return document, people


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("shop")
    with rehearse.world(home) as internet:
        yield Shop(home, internet)


def test_a_bad_tail_is_halted_and_exactly_the_rest_is_sent_after_resume(shop: Shop) -> None:
    for kind, file in write_export(shop.home / "data", PEOPLE):
        assert shop.json("import", kind, str(file))["rejected"] == 0
    shop.run("check")
    shop.run("campaign", "create", str(shop.home / "campaigns/soldes.yaml"))
    planned = shop.json("campaign", "plan", NAME)
    assert planned["planned"] + sum(planned["excluded"].values()) == planned["total"] == PEOPLE
    shop.run("campaign", "approve", NAME)

    shop.run("run", "--until", "idle")

    shown = shop.json("campaign", "show", NAME)
    assert shown["status"] == "halted"
    assert [w["status"] for w in shown["waves"]] == ["cleared", "cleared", "cleared", "halted", "halted"], shown[
        "waves"
    ]
    assert any(hold["kind"] == "halt" and hold["reason"] == "hard_bounce" for hold in shown["holds"])
    halting = next(s for s in shown["signals"] if s["verdict"] == "halt" and s["wave"] == 4)
    assert halting["rate"] > halting["limit"] == 0.05
    document, before = shop.audit("before.csv")
    assert document["unknown"] == 0
    waiting = {contact for contact, person in before.items() if person["reason"] == "halted"}
    assert len(waiting) >= shown["waves"][4]["planned"] > 0.2 * planned["planned"], "the tail was spared"
    assert set(shop.internet.arrived.values()) == {1}

    shop.internet.repaired = True  # the relay's directory is mended; an approver lets the rest go
    shop.run("campaign", "resume", NAME, expect=2)  # never without a reason
    shop.run("campaign", "resume", NAME, "--reason", "directory of the relay repaired")
    shop.run("run", "--until", "idle")

    shown = shop.json("campaign", "show", NAME)
    assert shown["status"] == "completed"
    document, after = shop.audit("after.csv")
    sent_later = {c for c, person in after.items() if person["state"] == "sent" and before[c]["state"] != "sent"}
    assert sent_later == waiting, "exactly the rest"
    assert {c for c, p in before.items() if p["state"] == "sent"} <= {
        c for c, p in after.items() if p["state"] == "sent"
    }
    assert document["sent"] == planned["planned"]
    assert set(shop.internet.arrived.values()) == {1}, "nobody twice"

    explained = shop.json("explain", NAME, next(iter(sorted(waiting))))
    assert explained["wave"] in (4, 5)


def test_genuine_bounces_come_back_to_the_person_and_suppress_the_right_ones(shop: Shop) -> None:
    export = write_export(shop.home / "data", 1_500)
    for kind, file in export:
        shop.json("import", kind, str(file))
    one_wave = TYPE.replace("ramp: [5%, 25%, 20%, 25%, 25%]", "ramp: [100%]").replace(
        "gates: {use: default}", "control: 0%"
    )
    (shop.home / "policies/types/newsletter.yaml").write_text(one_wave.replace("control: 5%\n", ""))
    (shop.home / "policies/gates.yaml").write_text("default: {signals: {hard_bounce: {halt: 100%, mode: observe}}}\n")
    shop.run("campaign", "create", str(shop.home / "campaigns/soldes.yaml"))
    planned = shop.json("campaign", "plan", NAME)["planned"]
    shop.run("campaign", "approve", NAME)
    shop.run("run", "--until", "idle")
    shown = shop.json("campaign", "show", NAME)
    assert sum(wave["accepted"] for wave in shown["waves"]) == planned

    internet = shop.internet
    for _ in range(120):  # until the relay has tried everybody once
        if sum(internet.arrived.values()) + sum(internet.refused.values()) >= planned:
            break
        time.sleep(0.5)
    time.sleep(1)
    shop.run("run", "--until", "idle")  # bounces that came after the campaign's end are taken in too
    assert shop.tally("hard_bounce") == internet.refused["gone"] > 50, "every single one, by its token"
    assert shop.tally("block") == internet.refused["policy"]
    assert shop.tally("soft_bounce") == internet.refused["full"]
    assert shop.unmatched() == 0
    again = CAMPAIGN.replace("name: soldes", "name: encore")
    (shop.home / "campaigns/encore.yaml").write_text(again)
    shop.run("campaign", "create", str(shop.home / "campaigns/encore.yaml"))
    excluded = shop.json("campaign", "plan", "encore", "--dry-run")["excluded"]
    assert excluded["suppressed_hard_bounce"] == internet.refused["gone"], "a full mailbox or a block suppresses nobody"
