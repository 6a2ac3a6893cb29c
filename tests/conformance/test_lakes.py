"""What every kind of lake does alike: a folder all nodes see, and a bucket of which each has copies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sendable
from sqlalchemy import select

from sendwave import faults
from sendwave.engine.base import Written
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.engine.writing import writing
from sendwave.errors import BadInput, Busy, NotFound, StaleTransition
from sendwave.flow import backup, janitor
from sendwave.flow.audit import audit
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import release
from sendwave.rules.columns import CONTACTS
from sendwave.settings import RetentionSettings
from sendwave.store import files
from sendwave.store.database import Database

KINDS = ("folder", "bucket")
KEEP = RetentionSettings()
PEOPLE = pa.schema([("contact", pa.int64())])


@dataclass
class World:
    """A lake, as several nodes see it; `inside` names its files, `grow_old` has them written earlier."""

    kind: str
    place: Path
    storage: Any = None
    nodes: int = field(default=0)

    def node(self, limit: int = 1 << 30) -> Lake:
        """The lake as a further node sees it."""
        if self.storage is None:
            return Lake(self.place)
        from bucket_storage import lake_in

        self.nodes += 1
        return lake_in(self.storage, self.place / f"node-{self.nodes}", self.place.name, limit)

    def inside(self) -> list[str]:
        if self.storage is not None:
            mine = f"{self.place.name}/"
            return [name.removeprefix(mine) for name in self.storage.names() if name.startswith(mine)]
        return sorted(str(path.relative_to(self.place)) for path in self.place.rglob("*") if path.is_file())

    def lose(self, name: str) -> None:
        """The file is gone, and nobody was told."""
        if self.storage is not None:
            self.storage.lose(f"{self.place.name}/{name}")
        else:
            (self.place / name).unlink()

    def grow_old(self, by: timedelta) -> None:
        if self.storage is not None:
            self.storage.grow_old(by)
            return
        for path in self.place.rglob("*"):
            at = path.stat().st_mtime - by.total_seconds()
            os.utime(path, (at, at))


@pytest.fixture
def world_of(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str, str], World]:
    """Makes a lake of that kind and name."""

    def made(kind: str, name: str) -> World:
        storage = request.getfixturevalue("storage") if kind == "bucket" else None
        (tmp_path / name).mkdir()
        return World(kind, tmp_path / name, storage)

    return made


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, world_of: Callable[[str, str], World]) -> World:
    """An empty lake of each kind."""
    return world_of(request.param, "lake-of-all")


def engine_of(lake: Lake) -> DuckdbEngine:
    return DuckdbEngine(threads=1, memory_limit="500MB", hold=lake.hold)


def write(lake: Lake, *contacts: int) -> Written:
    with writing(lake.new("contacts", "contacts"), PEOPLE) as file:
        file.write([pa.table({"contact": pa.array(contacts, pa.int64())})])
        return file.finish()


def register(db: Database, lake: Lake, written: Written, now: datetime) -> files.LakeFile:
    lake.share(written)
    with db.write() as conn:
        told = {"rows": written.rows, "size": written.bytes, "now": now}
        found = files.get(conn, files.register(conn, dataset="contacts", path=lake.relative(written.path), **told))
    assert found is not None
    return found


def contacts(lake: Lake, *listed: files.LakeFile) -> list[int]:
    with engine_of(lake).session(lake.paths({"contacts": listed})) as session:
        rows = session.read(select(CONTACTS.c.contact).order_by(CONTACTS.c.contact))
    return [int(n) for n in rows["contact"].to_pylist()]


def test_what_one_node_wrote_another_reads(world: World, sqlite_database: Database, now: datetime) -> None:
    here, there = world.node(), world.node()
    first = register(sqlite_database, here, write(here, 1, 2), now)
    second = register(sqlite_database, there, write(there, 3), now)
    for lake in (here, there, world.node()):
        assert lake.has(lake.path(first))
        assert lake.missing([first.path, second.path, "contacts/none.parquet"]) == ["contacts/none.parquet"]
        assert contacts(lake, first, second) == [1, 2, 3]
        assert lake.columns([first, second]) == {"contact"}
        with lake.reading(second.path) as path:
            assert pq.read_table(path)["contact"].to_pylist() == [3]


def test_a_file_whose_registration_was_refused_is_nowhere(world: World) -> None:
    lake = world.node()
    written = [write(lake, 1), write(lake, 2)]
    lake.share(*written)
    assert len(world.inside()) == 2
    lake.withdraw(StaleTransition("somebody was first"), [*written, None])
    assert world.inside() == []
    assert not any(file.path.exists() for file in written)


def test_a_file_that_may_have_been_registered_stays(world: World) -> None:
    lake = world.node()
    lake.share(written := write(lake, 1))
    lake.withdraw(Busy("the store went away while it committed"), [written])
    lake.withdraw(KeyboardInterrupt(), [written])
    assert world.inside() == [lake.relative(written.path)]


def test_a_file_is_withdrawn_before_it_was_shared(world: World) -> None:
    lake = world.node()
    lake.withdraw(BadInput("nothing will come of it"), [write(lake, 1)])
    lake.discard(write(lake, 1))
    assert world.inside() == []
    assert world.storage is None or not world.storage.calls["DELETE"], "the storage never had it"


def test_a_file_that_is_gone_is_named(world: World, sqlite_database: Database, now: datetime) -> None:
    lake = world.node()
    listed = register(sqlite_database, lake, write(lake, 1), now)
    world.lose(listed.path)
    other = world.node()
    with pytest.raises(NotFound, match=rf"{listed.path}.* is gone from .*`sendwave doctor`"):
        contacts(other, listed)
    with pytest.raises(FileNotFoundError), other.reading(listed.path) as path:
        path.read_bytes()
    assert not other.has(other.path(listed))
    assert lake.missing([listed.path]) == [listed.path], "what the lake has counts, not what a node has copies of"


def test_what_nobody_registered_goes_a_day_later(world: World, sqlite_database: Database, now: datetime) -> None:
    lake, db = world.node(), sqlite_database
    kept = register(db, lake, write(lake, 1), now)
    lake.share(write(lake, 2))
    world.grow_old(timedelta(hours=25))
    lake.share(young := write(lake, 3))
    assert janitor.tidy(db, engine_of(lake), lake, KEEP, now).abandoned_removed == 1
    assert world.inside() == sorted([kept.path, lake.relative(young.path)])


def test_what_was_replaced_goes_a_week_later(world: World, sqlite_database: Database, now: datetime) -> None:
    lake, db = world.node(), sqlite_database
    old, new = (register(db, lake, write(lake, n), now) for n in (1, 2))
    with db.write() as conn:
        files.retire(conn, [old.id], now)
    assert janitor.tidy(db, engine_of(lake), lake, KEEP, now + timedelta(days=6)).files_removed == 0
    assert janitor.tidy(db, engine_of(lake), lake, KEEP, now + timedelta(days=8)).files_removed == 1
    assert world.inside() == [new.path]


class Killed(BaseException):
    """The process ends here."""


def test_a_node_killed_before_it_registered_leaves_garbage_and_no_harm(
    world: World, database: Database, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = world.node()
    sendable.write_base(database, lake, 30, now)
    sendable.approved(database, engine_of(lake), lake, sendable.policy_set(ramp=["100%"]), now)
    before = world.inside()

    def point(name: str) -> None:
        if name == "release_file_written":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(faults, "point", point)
        with pytest.raises(Killed):
            release(database, engine_of(lake), lake, now=now, batch_sizes={"main": 10})
    assert len(world.inside()) == len(before) + 1, "the wave's people were there already, and nobody knows"

    other, later = world.node(), now + timedelta(minutes=6)  # the right to freeze ended with its lease
    assert release(database, engine_of(other), other, now=later, batch_sizes={"main": 10})
    esp = sendable.MemoryEsp()
    Dispatcher(database, engine_of(other), other, {"main": esp}, sendable.KEY, "b", at_once=9).step(later)
    assert (len(esp.arrived), set(esp.arrived.values())) == (30, {1})
    world.grow_old(timedelta(hours=25))
    assert janitor.tidy(database, engine_of(other), other, KEEP, later).abandoned_removed == 1
    told = audit(database, engine_of(other), other, "spring")
    assert (told.sent, told.total) == (30, 30)


@pytest.fixture
def empty_store(sqlite_template: Path, tmp_path: Path) -> Iterator[Database]:
    """Another store, without anything in it."""
    shutil.copyfile(sqlite_template, tmp_path / "other.db")
    db = Database(f"sqlite:///{tmp_path / 'other.db'}")
    yield db
    db.close()


@pytest.mark.parametrize("into", KINDS)
@pytest.mark.parametrize("of", KINDS)
def test_a_backup_of_any_kind_is_restored_into_any(  # noqa: PLR0917  # fixtures
    of: str,
    into: str,
    world_of: Callable[[str, str], World],
    sqlite_database: Database,
    empty_store: Database,
    tmp_path: Path,
    now: datetime,
) -> None:
    db, old, new = sqlite_database, world_of(of, "old"), world_of(into, "new")
    lake = old.node()
    sendable.write_base(db, lake, 20, now)
    sendable.approved(db, engine_of(lake), lake, sendable.policy_set(ramp=["100%"]), now)
    release(db, engine_of(lake), lake, now=now, batch_sizes={"main": 10})

    backup.take(db, old.node(), tmp_path / "copy", now=now)
    made, _ = backup.restore(empty_store, new.node(), tmp_path / "copy", by="ann", now=now)
    assert made == backup.check(tmp_path / "copy")
    assert old.inside() == new.inside()
    lakes = [(db, old.node()), (empty_store, new.node())]
    before, after = (audit(store, engine_of(node), node, "spring") for store, node in lakes)
    assert (before.not_sent, after.not_sent) == ({"ready": 20}, {"paused": 20}), "a restore pauses"
    with pytest.raises(BadInput, match="already"):
        backup.restore(empty_store, new.node(), tmp_path / "copy", by="ann", now=now)


def test_an_interrupted_restore_goes_on(
    world: World, sqlite_database: Database, empty_store: Database, tmp_path: Path, now: datetime
) -> None:
    home = Lake(tmp_path / "home")
    sendable.write_base(sqlite_database, home, 20, now)
    made = backup.take(sqlite_database, home, tmp_path / "copy", now=now)
    names = [name.removeprefix("lake/") for name in made.files if name.startswith("lake/")]
    lake = world.node()
    first = lake.root / names[0]
    first.parent.mkdir(parents=True)
    shutil.copyfile(tmp_path / "copy/lake" / names[0], first)
    lake.share(Written(first, 0, 0))
    backup.restore(empty_store, world.node(), tmp_path / "copy", by="ann", now=now)
    assert world.inside() == sorted(names)


def test_a_restore_overwrites_nothing(
    world: World, sqlite_database: Database, empty_store: Database, tmp_path: Path, now: datetime
) -> None:
    home = Lake(tmp_path / "home")
    sendable.write_base(sqlite_database, home, 20, now)
    backup.take(sqlite_database, home, tmp_path / "copy", now=now)
    lake = world.node()
    name = next(path for path in (tmp_path / "copy/lake").rglob("*.parquet")).relative_to(tmp_path / "copy/lake")
    (lake.root / name).parent.mkdir(parents=True)
    (lake.root / name).write_text("somebody else's")
    lake.share(Written(lake.root / name, 0, 0))
    with pytest.raises(BadInput, match="overwrites nothing"):
        backup.restore(empty_store, world.node(), tmp_path / "copy", by="ann", now=now)
    assert world.inside() == [str(name)]
