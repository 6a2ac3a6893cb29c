"""From a log of purchases nobody prepared to scores by recency, in three commands; and what it may get wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from import_desk import Desk

from sendwave.cli import run
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow import score as flow
from sendwave.flow.policies import load_policies
from sendwave.store.database import Database

LOG = """customer,date,count,amount
17850,2026-02-20,6,15.30
17850,2025-11-02,2,8.10
13047,2025-06-12 10:15,1,1200.00
12583,2024-01-05,24,90.00
12583,2024-01-05,24,90.00
"""
MAPPED = {"customer": "contact_id", "amount": "value", "count": "-"}


@pytest.fixture
def desk(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path, now: datetime) -> Desk:
    return Desk(sqlite_database, engine, lake, tmp_path, now)


def score(desk: Desk, **options: Any) -> flow.Summary:
    return flow.score(desk.db, desk.engine, desk.lake, load_policies(None), now=desk.now, by="zoe", **options)


def scores(desk: Desk) -> dict[str, float]:
    ids = dict(desk.rows("ids", "contact", "contact_id"))
    return {ids[contact]: value for contact, value in desk.rows("scores", "contact", "score")}


def test_a_purchase_log_is_scored_by_recency(desk: Desk) -> None:
    told = desk.take("interactions", LOG, mapping=MAPPED, constants={"kind": "purchase"}, create_contacts=True)
    assert (told.landed, told.rejected, told.counts["contacts_created"]) == (5, 0, 3)
    assert told.counts["repeated"] == 1  # the same line twice is one purchase
    summary = score(desk)
    assert scores(desk) == {"17850": 40, "13047": 10, "12583": 0}
    assert summary.left_out == ("sign_up", "click", "open", "visit", "survey", "social", "service", "intent")
    assert summary.acts == {"purchase": 4}


def test_the_same_log_again_changes_nothing_and_a_later_one_adds(desk: Desk) -> None:
    options: dict[str, Any] = {"mapping": MAPPED, "constants": {"kind": "purchase"}, "create_contacts": True}
    desk.take("interactions", LOG, **options)
    again = desk.take("interactions", LOG, **options)
    assert (again.changed, again.counts) == (False, {"new": 0, "known": 5})
    desk.take("interactions", "customer,date,count,amount\n99,2026-02-28,1,5\n17850,2026-03-01,1,5\n", **options)
    score(desk)
    assert scores(desk) == {"17850": 40, "13047": 10, "12583": 0, "99": 40}


def test_contacts_made_from_a_log_become_people_once_they_are_imported(desk: Desk) -> None:
    desk.take("interactions", LOG, mapping=MAPPED, constants={"kind": "purchase"}, create_contacts=True)
    rows = desk.rows("contacts", "contact_id", "email_status", "provider")
    assert set(rows) == {("17850", "missing", "other"), ("13047", "missing", "other"), ("12583", "missing", "other")}
    desk.take("contacts", "contact_id,email\n17850,zoe@gmail.com\n", name="base.csv")
    assert set(desk.rows("contacts", "contact_id", "email")) == {
        ("17850", "zoe@gmail.com"), ("13047", None), ("12583", None)
    }  # fmt: skip
    score(desk)
    assert scores(desk)["17850"] == 40


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"constants": {"knid": "purchase"}}, "'knid' is no field; did you mean 'kind'"),
        ({"constants": {"kind": " "}}, "has no value"),
        ({"constants": {}}, "header does not fit"),
    ],
)
def test_a_constant_that_fills_nothing_is_refused(desk: Desk, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        desk.take("interactions", LOG, mapping=MAPPED, **options)


def test_contacts_cannot_create_contacts(desk: Desk) -> None:
    with pytest.raises(BadInput, match="can create contacts, not contacts"):
        desk.take("contacts", "contact_id,email\n1,a@gmail.com\n", create_contacts=True)


def test_without_leave_people_nobody_imported_are_rejected(desk: Desk) -> None:
    told = desk.take("interactions", LOG, mapping=MAPPED, constants={"kind": "purchase"}, max_bad=1.0)
    assert told.rejects == {"unknown_contact": 5}


def test_rows_that_say_nothing_usable_are_told_of_and_the_rest_is_scored(desk: Desk) -> None:
    rows = """contact_id;type;date;amount;id
A;purchase;2026-02-20T10:00:00+01:00;NaN;1
A;purchase;20/02/2026 10:00;12,50;1
B;Demande de devis;2026-02-25T08:00:00Z;;2
B;quote_request;2026-02-25T08:00:00Z;;3
C;visit;2031-01-01;;4
D;visit;1969-12-31;;5
;visit;2026-02-01;;6
E;;2026-02-01;;7
F;visit;yesterday;;8
"""
    told = desk.take("interactions", rows, create_contacts=True, max_bad=1.0, time_zone="Europe/Paris")
    assert told.rejects == {
        "future_date": 1, "before_1970": 1, "missing_contact_id": 1, "missing_kind": 1, "unreadable_date": 1
    }  # fmt: skip
    assert told.counts["repeated"] == 1  # the same id twice counts once
    summary = score(desk)
    assert {who: value for who, value in scores(desk).items() if value} == {"A": 40, "B": 10}
    assert summary.unknown_kinds == {"demande_de_devis": 1}


def test_three_commands_on_a_fresh_workspace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house, log = tmp_path / "shop", tmp_path / "purchases.csv"
    log.write_text(LOG.replace("2026-02-20", f"{datetime.now(UTC):%Y-%m-%d}"))  # noqa: TID251  # the wall clock, on purpose
    mapped = ["--map", "customer=contact_id", "--map", "amount=value", "--map", "count=-", "--set", "kind=purchase"]
    assert run(["init", str(house)]) == 0
    assert run(["import", "interactions", str(log), *mapped, "--create-contacts", "--home", str(house)]) == 0
    capsys.readouterr()
    assert run(["score", "--home", str(house), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["contacts"], told["highest"], told["mode"]) == (3, 40, "full")
    assert run(["score", "--home", str(house)]) == 0
    shown = capsys.readouterr().out
    assert "without any data, left out: sign_up, click" in shown
    assert run(["score", "--home", str(house), "--sql", "snowflake"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("WITH acts AS")
    assert "only compiled" in printed.err
    assert run(["score", "--home", str(house), "--as-of", "tomorrow"]) == 2
    assert run(["score", "--home", str(house), "--as-of", "2040-01-01"]) == 2


def test_the_command_is_known_without_being_imported() -> None:
    from sendwave.cli import cli

    assert "score" in CliRunner().invoke(cli, ["--help"]).output
