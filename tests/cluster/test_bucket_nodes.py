"""Real nodes that share no folder: a store, a bucket, and for each a workspace and copies of its own."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bucket_storage import BUCKET, Storage
from nodes_running import CountingEsp, Nodes, until, workspace

from sendwave.flow import janitor
from sendwave.rules.lifecycle import Campaign
from sendwave.settings import RetentionSettings
from sendwave.store import campaigns, files
from sendwave.store.database import Database
from sendwave.workspace import Workspace

PEOPLE = 400


@pytest.fixture
def esp() -> Iterator[CountingEsp]:
    with CountingEsp() as running:
        yield running


@contextmanager
def two_homes(  # noqa: PLR0917  # fixtures
    place: Path,
    store: str,
    storage: Storage,
    esp: CountingEsp,
    monkeypatch: pytest.MonkeyPatch,
    pace: str | None = None,
) -> Iterator[tuple[Nodes, Nodes]]:
    """The campaign is planned in the first home; the other knows its settings and policies, and has no copies."""
    for home in ("a", "b"):
        (place / home).mkdir()
    monkeypatch.setenv("SENDWAVE_LAKE", f"s3://{BUCKET}/shop")
    monkeypatch.setattr("nodes_running.SETTINGS", _settings(storage))
    with workspace(place / "a" / "home", store, esp, people=PEOPLE, pace=pace) as first:
        shutil.copytree(first.home, place / "b" / "home", ignore=shutil.ignore_patterns("state", "data"))
        second = Nodes(place / "b" / "home", Database(store))
        try:
            yield first, second
        finally:
            second.stop()
            second.db.close()


def _settings(storage: Storage) -> str:
    from nodes_running import SETTINGS

    return f"{SETTINGS}bucket: {{{{endpoint: '{storage.url}', region: us-east-1}}}}\n"


def copies(nodes: Nodes) -> list[Path]:
    return list((nodes.home / "state" / "copies").rglob("*.parquet"))


def listed(db: Database) -> set[str]:
    with db.read() as conn:
        return {f"shop/{file.path}" for file in files.present(conn)}


def over(nodes: Nodes) -> bool:
    with nodes.db.read() as conn:
        return campaigns.get(conn, "first").status == Campaign.COMPLETED


def assert_all_came(nodes: Nodes, esp: CountingEsp) -> None:
    """Everybody of both waves, once."""
    left = nodes.left()
    assert {*left} == {"accepted"}
    assert (len(esp.people), esp.twice) == (left["accepted"], [])
    assert left["accepted"] > PEOPLE // 3


@pytest.mark.crash
def test_a_node_killed_between_upload_and_registration(
    tmp_path: Path, storage: Storage, esp: CountingEsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite:///{tmp_path}/shared.db"
    with two_homes(tmp_path, store, storage, esp, monkeypatch) as (first, second):
        before = {*storage.names()}
        assert before == listed(first.db)
        dead = first.start(environ={"SENDWAVE_FAULT": "release_file_written"})
        until(lambda: dead.poll() is not None, "the node dies")
        assert dead.returncode == -signal.SIGKILL
        (garbage,) = {*storage.names()} - before
        assert "/sends/first-1-" in garbage
        assert copies(second) == []

        second.start()
        until(lambda: over(second), "the other node finishes")
        assert_all_came(second, esp)
        assert copies(second), "it fetched what it read"
        second.command("campaign", "audit", "first")
        second.stop()
        second.command("backup", tmp_path / "backup")

        assert {*storage.names()} - listed(second.db) == {garbage}
        storage.grow_old(timedelta(days=2))
        house = Workspace.open(second.home)
        try:
            janitor.tidy(house.db, house.engine, house.lake, RetentionSettings(), datetime.now(UTC))  # noqa: TID251  # real nodes
        finally:
            house.close()
        assert {*storage.names()} == listed(second.db)


@pytest.mark.postgresql
@pytest.mark.crash
def test_two_nodes_go_on_after_the_storage_was_down(
    tmp_path: Path, postgresql_url: str, storage: Storage, esp: CountingEsp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two_homes(tmp_path, postgresql_url, storage, esp, monkeypatch, pace="100 per 1s") as (first, second):
        storage.down = True
        for node in (first, second):
            node.start()
        until(lambda: first.heard(0, "tick_failed") or second.heard(0, "tick_failed"), "the leader says so")
        assert esp.people.total() == 0
        storage.down = False
        until(lambda: esp.people.total() > 0, "the campaign begins")
        until(lambda: over(first), "the campaign is over")
        assert_all_came(second, esp)
        for node in (first, second):
            told = [one["reason"] for one in node.events(0) if one["event"] == "tick_failed"]
            assert len(told) <= 4, "once a stage, not at every tick"
            assert all(f"s3://{BUCKET}/shop" in reason for reason in told)
            assert not node.heard(0, "tick_crashed")
        second.command("campaign", "audit", "first")
        assert {*storage.names()} == listed(first.db)
