"""The health of a set-up: what is broken is named with its next step, and stops no other check."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import campaigns_made
import pytest
from sqlalchemy import insert, update

from sendwave.esp.base import RawReport
from sendwave.flow import doctor
from sendwave.rules.health import Finding, State
from sendwave.store import batches, feeds, files, holds, inbox, nodes, tables, unknowns
from sendwave.store.database import Database
from sendwave.workspace import Workspace

SETTINGS = "routes:\n  main: {esp: simulated, seed: 1}\n"
SAFE = "  by_http: {esp: brevo, api_key: x, webhook_token: long-and-secret}\n"


class House:
    """A workspace on disk, opened anew for each look."""

    def __init__(self, home: Path, now: datetime) -> None:
        self.home, self.now = home, now
        self.write("sendwave.yaml", SETTINGS)

    def write(self, name: str, text: str) -> None:
        (self.home / name).parent.mkdir(parents=True, exist_ok=True)
        (self.home / name).write_text(text)

    def look(self) -> dict[str, Finding]:
        """The findings by check."""
        opened: list[Workspace] = []

        def door() -> Workspace:
            opened.append(Workspace.open(self.home, {}))
            return opened[0]

        try:
            found = doctor.examine(door, self.now)
        finally:
            for workspace in opened:
                workspace.close()
        assert len({one.check for one in found}) == len(found), "a check has one line"
        assert all(bool(one.next) == (one.state is not State.OK) for one in found), (
            "what to do, where there is something"
        )
        return {one.check: one for one in found}


@pytest.fixture
def house(tmp_path: Path, now: datetime) -> House:
    """A healthy workspace that nobody used yet."""
    return House(tmp_path, now)


@pytest.fixture
def workspace(house: House) -> Iterator[Workspace]:
    """The same one, opened to put something into its store."""
    opened = Workspace.open(house.home, {})
    yield opened
    opened.close()


def not_well(found: dict[str, Finding]) -> dict[str, str]:
    """The states of all checks that are not ok."""
    return {one.check: one.state.value for one in found.values() if one.state is not State.OK}


def test_a_healthy_workspace(house: House) -> None:
    found = house.look()
    assert not_well(found) == {}
    assert {"settings", "policies", "store", "lake", "route main", "daemon", "lake files", "score"} < set(found)


def test_broken_settings_leave_what_needs_them_out(house: House) -> None:
    house.write("sendwave.yaml", "routes: [")
    found = house.look()
    assert not_well(found) == {"settings": "problem"}
    assert set(found) == {"time zones", "settings"}
    assert "sendwave.yaml:1:" in found["settings"].detail


def test_a_broken_policy_is_told_once_and_the_rest_is_looked_at(house: House) -> None:
    house.write("policies/tiers.yaml", "tiers: 3\n")
    found = house.look()
    assert not_well(found) == {"policies": "problem"}
    assert "tiers.yaml:1:" in found["policies"].detail
    assert "score" in found


def test_files_that_are_gone_are_named(house: House, workspace: Workspace) -> None:
    house.write("lake/contacts/here.parquet", "")
    with workspace.db.write() as conn:
        for name in ("here", "gone"):
            path = f"contacts/{name}.parquet"
            files.register(conn, dataset="contacts", path=path, rows=1, size=1, now=house.now)
    found = house.look()
    assert not_well(found) == {"lake files": "problem"}
    assert "1 of 2 are gone: contacts/gone.parquet" in found["lake files"].detail


def test_a_store_of_a_newer_version(house: House) -> None:
    house.look()
    with sqlite3.connect(house.home / "state/sendwave.db") as store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    found = house.look()
    assert not_well(found) == {"store": "problem"}
    assert "newer sendwave (schema '9999')" in found["store"].detail
    assert "lake" in found
    assert "lake files" not in found, "the store knows which"


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_store_that_is_none(house: House, content: bytes) -> None:
    (house.home / "state").mkdir()
    (house.home / "state/sendwave.db").write_bytes(content)
    assert not_well(house.look()) == {"store": "problem"}


def test_a_lake_nobody_can_write_to(house: House) -> None:
    house.write("lake", "a file, no folder")
    assert not_well(house.look()) == {"lake": "problem"}


def test_little_room(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=2**30 - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage)
    assert not_well(house.look()) == {"disk of the lake": "warning", "disk of the store": "warning"}


SES = "  amazon: {esp: ses, region: eu-west-1, queue_url: https://sqs.example/q}\n"
SMTP = "  relay: {esp: smtp, host: 127.0.0.1, bounce_domain: b.example, bounces: mail}\n"


@pytest.mark.parametrize(
    ("route", "library", "expected"),
    [
        (SES, "boto3", (State.PROBLEM, "routes.amazon needs ses")),
        (SES.replace("}", ", topic: arn}"), "cryptography", (State.PROBLEM, "routes.amazon needs signatures")),
        (SMTP, "flufl-bounce", (State.WARNING, "routes.relay is better with bounces")),
    ],
)
def test_a_route_without_its_extra(
    house: House, monkeypatch: pytest.MonkeyPatch, route: str, library: str, expected: tuple[State, str]
) -> None:
    house.write("sendwave.yaml", SETTINGS + route)
    assert "libraries" not in not_well(house.look())
    there = metadata.version

    def version(name: str) -> str:
        if name.replace(".", "-") == library:
            raise metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(metadata, "version", version)
    found = house.look()["libraries"]
    assert (found.state, found.detail) == expected
    assert found.next == f"pip install 'sendwave[{expected[1].rpartition(' ')[2]}]'"


def test_a_route_that_cannot_be_made(house: House) -> None:
    house.write("sendwave.yaml", SETTINGS + "  other: {esp: brevoo}\n  third: {esp: brevo, keys: x}\n")
    found = house.look()
    assert not_well(found) == {"route other": "problem", "route third": "problem"}
    assert "routes.third.keys: no such setting" in found["route third"].detail


@pytest.mark.parametrize(
    ("settings", "state", "told"),
    [
        (SAFE, "problem", "nothing listens"),
        (SAFE.replace(", webhook_token: long-and-secret", "") + "web: {}\n", "problem", "no secret is set"),
        (SAFE + "web: {}\n", "warning", "no public_url"),
        (SAFE + "web: {public_url: 'http://localhost:8484'}\n", "warning", "this machine only"),
        (SAFE + "web: {public_url: 'https://crm.example'}\n", "ok", "https://crm.example/hooks/by_http"),
    ],
)
def test_what_a_webhook_needs(house: House, settings: str, state: str, told: str) -> None:
    house.write("sendwave.yaml", SETTINGS + settings)
    found = house.look()
    assert not_well(found) == ({} if state == "ok" else {"webhook by_http": state})
    assert told in found["webhook by_http"].detail


def test_campaigns_that_wait_for_a_person(house: House, workspace: Workspace) -> None:
    with workspace.db.write() as conn:
        campaign = campaigns_made.sending(conn, house.now, name="spring")
        campaigns_made.halt(conn, campaign, house.now)
        campaigns_made.planned(conn, house.now, name="summer")
        holds.place(
            conn, kind="hold", reason="esp_quota", by="dispatch", now=house.now, route="main", detail="until noon"
        )
    for name in ("spring", "summer"):
        house.write(f"lake/plan/{name}.parquet", "")
    found = house.look()
    states = not_well(found)
    assert (states["campaign spring"], states["campaign summer"]) == ("problem", "warning")
    assert "sendwave campaign approve summer" in found["campaign summer"].next
    assert "route main: hold esp_quota (until noon)" in found["holds"].detail


def test_a_daemon_that_is_waited_for_and_one_that_runs(house: House, workspace: Workspace) -> None:
    with workspace.db.write() as conn:
        campaigns_made.sending(conn, house.now)
    house.write("lake/plan/spring.parquet", "")
    assert not_well(house.look()) == {"daemon": "warning"}
    with workspace.only_daemon(house.now):
        found = house.look()["daemon"]
        assert found.state is State.OK
        assert "runs: pid " in found.detail
    assert not_well(house.look()) == {"daemon": "warning"}, "it ended"
    house.write("state/sendwave.lock", "pid 1 on a machine that lost its power")
    assert not_well(house.look()) == {"daemon": "warning"}, "what a dead one left says nothing"


def test_what_came_back_and_what_nobody_read(house: House, workspace: Workspace) -> None:
    long_ago = house.now - timedelta(hours=3)
    with workspace.db.write() as conn:
        feeds.update(
            conn, "main", last_event_at=None, last_received_at=long_ago, unmatched=7, unknown_words={"zapped": 2}
        )
        inbox.put(conn, "main", [RawReport(b"{}")], long_ago)
        files.register(
            conn, dataset="scores", path="scores/a.parquet", rows=1, size=1, now=house.now - timedelta(hours=49)
        )
    house.write("lake/scores/a.parquet", "")
    found = house.look()
    assert not_well(found) == {"feed main": "warning", "inbox": "warning", "score": "warning"}
    told = "last told something 2026-03-02 06:00 UTC; 7 events name none of our messages; unknown words: zapped (2)"
    assert found["feed main"].detail == told
    assert found["inbox"].detail.startswith("1 reports wait")


def test_a_check_that_fails_in_a_way_nobody_thought_of(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(inbox, "backlog", broken)
    found = house.look()
    assert not_well(found) == {"inbox": "problem"}
    assert found["inbox"].detail == "ZeroDivisionError: by zero"


def test_people_nobody_knows_the_fate_of_are_counted_until_somebody_decides(house: House, workspace: Workspace) -> None:
    with workspace.db.write() as conn:
        campaign = campaigns_made.sending(conn, house.now)
        conn.execute(
            insert(tables.freezes).values(id=1, campaign_id=campaign.id, wave=1, contacts=3, frozen_at=house.now)
        )
        draft = batches.Draft(*(1, campaign.id, 1, 1, "gmail", "main", "", 0), size=3, payload=b"three people")
        batches.add(conn, [draft])
        conn.execute(update(tables.batches).values(status="unknown", handed_at=house.now, unknown=3))
    house.write("lake/plan/spring.parquet", "")
    assert house.look()["unknown people"].detail == "3 of spring"
    with workspace.db.write() as conn:
        (doubt,) = unknowns.read(conn, campaign.id)
        unknowns.leave(conn, doubt)
    assert house.look()["unknown people"].state is State.OK


@pytest.mark.postgresql
def test_a_workspace_on_postgresql_is_held_by_the_nodes_that_live(house: House, postgresql_database: Database) -> None:
    url = postgresql_database.url.render_as_string(hide_password=False)
    house.write("sendwave.yaml", f"store: {url}\n{SETTINGS}")
    found = house.look()
    assert not_well(found) == {}
    assert "disk of the store" not in found, "it lies elsewhere"
    with postgresql_database.write() as conn:
        nodes.beat(conn, "node a", None, wall=house.now)
    assert house.look()["daemon"].detail == "runs: node a"
    house.now += nodes.LIFE
    assert house.look()["daemon"].detail == "none runs, and no campaign waits for one"


def test_a_postgresql_that_is_not_there(house: House) -> None:
    house.write("sendwave.yaml", f"store: postgresql+psycopg://nobody@127.0.0.1:1/none\n{SETTINGS}")
    assert not_well(house.look()) == {"store": "problem"}
