"""A copy of store and lake taken while things run, and an empty workspace filled from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sendable
from sqlalchemy import func, insert, null, select

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput
from sendwave.flow import backup
from sendwave.flow.audit import audit
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import release
from sendwave.store import backup as rows
from sendwave.store import batches, campaigns, files, holds, inbox, journal, keys
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.tables import METADATA
from sendwave.store.tables import batches as batch_rows

WAITING = ("paused", "waiting", "ready")


@dataclass
class House:
    """A campaign in the middle of its first wave."""

    db: Database
    engine: Engine
    lake: Lake
    now: datetime
    campaign: Campaign

    def audit(self, db: Database | None = None, lake: Lake | None = None) -> set[tuple[str, str, str]]:
        """Who is where; those still to go wait for the pause of a restore as for their wave."""
        found = audit(db or self.db, self.engine, lake or self.lake, "spring").rows()
        return {(row[0], row[1], "waits" if row[2] in WAITING else row[2]) for row in found}


@pytest.fixture
def house(database: Database, engine: Engine, lake: Lake, now: datetime) -> House:
    return _house(database, engine, lake, now)


@pytest.fixture
def sqlite_house(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime) -> House:
    return _house(sqlite_database, engine, lake, now)


def _house(db: Database, engine: Engine, lake: Lake, now: datetime) -> House:
    sendable.write_base(db, lake, 120, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["50%", "50%"]), now)
    release(db, engine, lake, now=now, batch_sizes={"main": 10})
    esp = sendable.MemoryEsp(sendable.refusing("7", later=("5",)))
    Dispatcher(db, engine, lake, {"main": esp}, sendable.KEY, "me", at_once=3).step(now)
    with db.write() as conn:
        keys.token_key(conn)
    return House(db, engine, lake, now, campaign)


@pytest.fixture
def empty(sqlite_template: Path, tmp_path: Path) -> Iterator[tuple[Database, Lake]]:
    """Another workspace, without anything in it yet."""
    place = tmp_path / "other"
    place.mkdir()
    shutil.copyfile(sqlite_template, place / "sendwave.db")
    db = Database(f"sqlite:///{place / 'sendwave.db'}")
    yield db, Lake(place / "lake")
    db.close()


def _everything(db: Database) -> dict[str, list[Any]]:
    """All rows of all tables but the holds and journal a restore adds to, in the order of their keys."""
    with db.read() as conn:
        return {
            table.name: conn.execute(select(table).order_by(*table.primary_key.columns)).all()
            for table in METADATA.sorted_tables
            if table.name not in ("holds", "journal", "campaigns")
        }


def test_what_comes_back_is_what_was_there(house: House, empty: tuple[Database, Lake], tmp_path: Path) -> None:
    before, told = _everything(house.db), house.audit()

    made = backup.take(house.db, house.lake, tmp_path / "copy", now=house.now)
    restored, paused = backup.restore(*empty, tmp_path / "copy", by="ann", now=house.now + timedelta(hours=1))

    assert _everything(empty[0]) == before
    assert house.audit(*empty) == told
    assert restored == made
    assert paused == ["spring"]
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0, "it holds the key of all tokens"


@pytest.mark.postgresql
def test_a_backup_of_sqlite_moves_to_postgresql_and_goes_on(
    sqlite_house: House, postgresql_database: Database, tmp_path: Path
) -> None:
    house, lake = sqlite_house, Lake(tmp_path / "moved")
    with house.db.write() as conn:
        conn.execute(insert(METADATA.tables["inbox"]), [_report(house.now) for _ in range(5)])
        conn.execute(METADATA.tables["inbox"].delete().where(METADATA.tables["inbox"].c.id > 1))
        last = rows.last_ids(conn)["inbox"]
    backup.take(house.db, house.lake, tmp_path / "copy", now=house.now)

    backup.restore(postgresql_database, lake, tmp_path / "copy", by="ann", now=house.now)

    assert _everything(postgresql_database) == _everything(house.db)
    with postgresql_database.write() as conn:
        inbox.put(conn, "main", [], house.now)
        conn.execute(insert(METADATA.tables["inbox"]).values(_report(house.now)))
        assert conn.execute(select(func.max(METADATA.tables["inbox"].c.id))).scalar() == last + 1, "no id twice"
        holds.lift_kinds(conn, ("pause",), campaign_id=house.campaign.id, by="ann", now=house.now)
        campaigns.transition(conn, house.campaign.id, "resume", by="ann", now=house.now)
    esp = {"main": sendable.MemoryEsp()}
    again = Dispatcher(postgresql_database, house.engine, lake, esp, sendable.KEY, "other", at_once=10)
    assert again.step(house.now + timedelta(hours=1)).accepted > 0


def _report(now: datetime) -> dict[str, Any]:
    return {"source": "main", "headers": {}, "body": b"x", "received_at": now, "status": "new"}


def test_a_document_that_is_not_there_stays_none_and_json_null_stays_null(house: House, tmp_path: Path) -> None:
    table = batch_rows
    with house.db.write() as conn:
        first, second = conn.execute(select(table.c.id).order_by(table.c.id).limit(2)).scalars()
        conn.execute(table.update().where(table.c.id == first).values(outcomes=null()))
        conn.execute(table.update().where(table.c.id == second).values(outcomes=None))
        nothing = select(table.c.id).where(table.c.outcomes.is_(null())).order_by(table.c.id)
        before = conn.execute(nothing).scalars().all()
    backup.take(house.db, house.lake, tmp_path / "copy", now=house.now)
    with house.db.write() as conn:
        for one in reversed(METADATA.sorted_tables):
            conn.execute(one.delete())
    backup.restore(house.db, house.lake, tmp_path / "copy", by="ann", now=house.now)

    with house.db.read() as conn:
        assert conn.execute(nothing).scalars().all() == before
    assert first in before
    assert second not in before


def test_what_happens_while_it_is_taken_is_all_or_nothing_in_it(
    house: House, empty: tuple[Database, Lake], tmp_path: Path
) -> None:
    with rows.snapshot(house.db) as conn:
        before = conn.execute(select(func.count()).select_from(batch_rows)).scalar()
        with house.db.write() as other:
            other.execute(METADATA.tables["tallies"].delete())
            journal.write(other, at=house.now, actor="x", action="y")
        rows.dump(conn, tmp_path / "rows")
        told = rows.last_ids(conn)
    with empty[0].write() as conn:
        found = rows.load(conn, tmp_path / "rows", told)

    assert found["batches"] == before
    with empty[0].read() as conn:
        assert "y" not in {entry.action for entry in journal.read(conn)}


def test_campaigns_that_could_send_wait_for_a_person(
    sqlite_house: House, empty: tuple[Database, Lake], tmp_path: Path
) -> None:
    backup.take(sqlite_house.db, sqlite_house.lake, tmp_path / "copy", now=sqlite_house.now)
    backup.restore(*empty, tmp_path / "copy", by="ann", now=sqlite_house.now)

    with empty[0].read() as conn:
        assert campaigns.get(conn, "spring").status == "paused"
        (hold,) = holds.open_holds(conn, sqlite_house.campaign.id)
        assert (hold.reason, hold.kind) == (backup.RESTORED, "pause")
        assert batches.groups(conn, sqlite_house.now + timedelta(days=1)) == []


def test_nothing_is_overwritten(sqlite_house: House, empty: tuple[Database, Lake], tmp_path: Path) -> None:
    house, copy = sqlite_house, tmp_path / "copy"
    backup.take(house.db, house.lake, copy, now=house.now)

    with pytest.raises(BadInput, match="not empty"):
        backup.take(house.db, house.lake, copy, now=house.now)
    with pytest.raises(BadInput, match="never restored over"):
        backup.restore(house.db, house.lake, copy, by="ann", now=house.now)
    with house.db.read() as conn:
        path = empty[1].root / files.present(conn)[0].path
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(BadInput, match="overwrites nothing") as refused:
        backup.restore(*empty, copy, by="ann", now=house.now)
    assert refused.value.findings == (str(path),)
    assert path.read_text() == "mine"


def test_an_interrupted_restore_is_run_again(
    sqlite_house: House, empty: tuple[Database, Lake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup.take(sqlite_house.db, sqlite_house.lake, tmp_path / "copy", now=sqlite_house.now)

    def dies(*_: object, **__: object) -> list[str]:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backup, "_pause", dies)
        with pytest.raises(OSError, match="no space"):
            backup.restore(*empty, tmp_path / "copy", by="ann", now=sqlite_house.now)
    with empty[0].read() as conn:
        rows.expect_empty(conn)

    backup.restore(*empty, tmp_path / "copy", by="ann", now=sqlite_house.now)
    assert sqlite_house.audit(*empty) == sqlite_house.audit()


def test_a_damaged_backup_is_refused_before_anything_is_written(
    sqlite_house: House, empty: tuple[Database, Lake], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    backup.take(sqlite_house.db, sqlite_house.lake, copy, now=sqlite_house.now)
    hurt = copy / "store/batches.parquet"
    whole = hurt.read_bytes()

    hurt.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    next((copy / "lake/contacts").iterdir()).unlink()
    with pytest.raises(BadInput, match="2 of") as refused:
        backup.restore(*empty, copy, by="ann", now=sqlite_house.now)
    assert "store/batches.parquet" in refused.value.findings
    assert not empty[1].root.exists()

    (copy / backup.MANIFEST).unlink()
    with pytest.raises(BadInput, match="no finished backup"):
        backup.check(copy)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"schema": "9999"}, "newer sendwave.*upgrade"),
        ({"files": None}, "cannot be read"),
        ({"files": {"../../x": {"bytes": 1, "sha256": ""}}}, "not one of ours"),
    ],
)
def test_a_strange_manifest(sqlite_house: House, tmp_path: Path, told: dict[str, Any], says: str) -> None:
    copy = tmp_path / "copy"
    backup.take(sqlite_house.db, sqlite_house.lake, copy, now=sqlite_house.now)
    manifest = copy / backup.MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **told}))

    with pytest.raises(BadInput, match=says):
        backup.check(copy)


def test_a_file_the_janitor_removed_meanwhile_is_no_loss_and_any_other_is(
    sqlite_house: House, empty: tuple[Database, Lake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = sqlite_house
    with house.db.write() as conn:
        listed = files.live(conn, ["contacts", "scores"])
        gone, kept = listed["scores"][0], listed["contacts"][0]
        files.retire(conn, [gone.id], house.now)
    (house.lake.root / gone.path).unlink()
    seen = files.present

    def then_removed(conn: Any) -> list[files.LakeFile]:
        found = seen(conn)
        monkeypatch.setattr(files, "present", seen)
        with house.db.write() as other:
            files.removed(other, [gone.id], house.now)
        return found

    monkeypatch.setattr(files, "present", then_removed)
    made = backup.take(house.db, house.lake, tmp_path / "copy", now=house.now)
    assert made.gone == [gone.id]
    backup.restore(*empty, tmp_path / "copy", by="ann", now=house.now)
    with empty[0].read() as conn:
        assert gone.id not in {file.id for file in files.present(conn)}

    (house.lake.root / kept.path).unlink()
    with pytest.raises(BadInput, match="is damaged"):
        backup.take(house.db, house.lake, tmp_path / "second", now=house.now)
    assert not (tmp_path / "second" / backup.MANIFEST).exists()
