"""Schema versions: what the revisions make is what the tables say, and a campaign in flight outlives an upgrade."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sendable
from sqlalchemy import MetaData, insert, inspect, select, text, update

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow import backup
from sendwave.flow.dispatch import Dispatcher, reconcile
from sendwave.flow.release import release
from sendwave.store import batches, campaigns, holds, migrations
from sendwave.store.database import Database
from sendwave.store.tables import METADATA
from sendwave.store.tables import batches as batch_rows

PEOPLE = 40
NEXT = """
from alembic import op
from sqlalchemy import Column, Integer, String

revision = "0003"
down_revision = {head!r}
open_to = ({head!r},)


def upgrade():
    op.add_column("batches", Column("weather", String(16)))
    op.add_column("journal", Column("weight", Integer, nullable=False, server_default="1"))
    op.create_table("places", Column("id", Integer, primary_key=True))
    op.execute("UPDATE batches SET weather = 'fair'")
"""
RELEASED = [one.revision for one in migrations.script().walk_revisions()]


def differences(database: Database) -> list[Any]:
    """What Alembic would change to get from the store to the tables."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as conn, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*expression-based index")  # looked for by name below
        return list(compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), METADATA))


@pytest.fixture
def ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As the release after this one: a further revision, which only adds."""
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "0003_next.py").write_text(NEXT.format(head=migrations.HEAD))
    revisions = migrations.script(folder)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "script", lambda: revisions)
        patch.setattr(migrations, "HEAD", "0003")
        yield patch


def half_sent(database: Database, engine: DuckdbEngine, lake: Lake, now: datetime, esp: sendable.MemoryEsp) -> None:
    """A campaign in flight: some batches accepted, one handed over by a node that died, one claimed, some ready."""
    sendable.write_base(database, lake, PEOPLE, now)
    sendable.approved(database, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(database, engine, lake, now=now, batch_sizes={"main": 4})
    dispatcher = Dispatcher(database, engine, lake, {"main": esp}, sendable.KEY, "old", at_once=3)
    dispatcher.step(now)
    dispatcher.close()
    with database.write() as conn:
        first, second = batches.ready(conn, batches.groups(conn, now), now, 2)
        one, _ = batches.claim(conn, [first.id, second.id], holder="old", until=now + timedelta(minutes=1))
        assert batches.hand(conn, one, (), holder="old", now=now)


def finished(database: Database, engine: DuckdbEngine, lake: Lake, now: datetime, esp: sendable.MemoryEsp) -> None:
    """A node begins, puts right what the dead one left, and sends the rest: each once, the doubtful not at all."""
    later = now + timedelta(hours=1)
    assert reconcile(database, "new", later) == {"claimed": 1, "handed": 1}
    dispatcher = Dispatcher(database, engine, lake, {"main": esp}, sendable.KEY, "new", at_once=3)
    for second in range(10):
        dispatcher.step(later + timedelta(seconds=second))
    dispatcher.close()
    with database.read() as conn:
        counts = list(batches.counts(conn, 1).values())
        waves = campaigns.waves(conn, 1)
    told = {name: sum(getattr(one, name) for one in counts) for name in ("accepted", "unknown", "ready", "handed")}
    assert told == {"accepted": PEOPLE - told["unknown"], "unknown": told["unknown"], "ready": 0, "handed": 0}
    assert 1 <= told["unknown"] <= 4
    assert (set(esp.arrived.values()), esp.arrived.total()) == ({1}, told["accepted"])
    assert [wave.status for wave in waves] == ["soaking"]


def copy(source: Database, store: Database) -> None:
    """The rows of a store, as far as the other one has their tables and columns."""
    with source.read() as conn, store.write() as old:
        for table in METADATA.sorted_tables:
            if not inspect(old).has_table(table.name):
                continue
            known = [table.c[one["name"]] for one in inspect(old).get_columns(table.name) if one["name"] in table.c]
            rows = [row for row in conn.execute(select(*known)).mappings() if row.get("key") != migrations.OPEN_TO]
            for row in rows:  # given as None a document would become the JSON word null
                old.execute(insert(table).values({name: value for name, value in row.items() if value is not None}))
            if rows and not store.is_sqlite and "id" in table.c:
                sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
                old.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table.name}))"))


def test_the_revisions_make_what_the_tables_say(database: Database) -> None:
    assert differences(database) == []
    with database.read() as conn:  # Alembic does not compare an index of expressions on SQLite
        asked = "name FROM sqlite_master" if database.is_sqlite else "indexname FROM pg_indexes"
        names = set(conn.execute(text(f"SELECT {asked}")).scalars())
    assert {index.name for table in METADATA.sorted_tables for index in table.indexes} <= names


def test_a_change_of_the_tables_without_a_revision_is_noticed(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_database.write() as conn:
        conn.execute(text("ALTER TABLE batches DROP COLUMN esp_ref"))
    (change,) = differences(sqlite_database)
    assert (change[0], change[2], change[3].name) == ("add_column", "batches", "esp_ref")


def test_a_campaign_in_flight_outlives_an_upgrade(
    database: Database, lake: Lake, engine: DuckdbEngine, now: datetime, ahead: pytest.MonkeyPatch
) -> None:
    esp = sendable.MemoryEsp()
    half_sent(database, engine, lake, now, esp)
    database.migrate()
    with database.read() as conn:
        assert migrations.current(conn) == "0003"
        assert "weather" in {one["name"] for one in inspect(conn).get_columns("batches")}
    finished(database, engine, lake, now, esp)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
@pytest.mark.parametrize("revision", RELEASED)
def test_a_store_of_each_release_is_upgraded_with_a_campaign_in_flight(  # noqa: PLR0917  # fixtures
    request: pytest.FixtureRequest, kind: str, sqlite_database: Database, tmp_path: Path, lake: Lake,
    engine: DuckdbEngine, now: datetime, revision: str,
) -> None:  # fmt: skip
    """The rows of a campaign go to a store of that release, as far as it has their columns; that store is upgraded."""
    esp = sendable.MemoryEsp()
    half_sent(sqlite_database, engine, lake, now, esp)
    url = f"sqlite:///{tmp_path}/old.db" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    store = Database(url)
    migrations._migrate(store.engine, migrations.script(), revision)
    copy(sqlite_database, store)
    store.migrate()
    assert differences(store) == []
    finished(store, engine, lake, now, esp)
    store.close()


def test_who_was_to_go_again_before_the_upgrade_may_have_the_first_message(
    sqlite_database: Database, tmp_path: Path, lake: Lake, engine: DuckdbEngine, now: datetime
) -> None:
    """The first schema did not say whose call nobody had answered; who had not been put off went again for that."""
    half_sent(sqlite_database, engine, lake, now, sendable.MemoryEsp())
    of = batch_rows.c
    with sqlite_database.write() as conn:
        first, second, third = conn.execute(select(of.id).order_by(of.id).limit(3)).scalars()
        conn.execute(update(batch_rows).where(of.id == second).values(origins=[[first, 0]]))
        conn.execute(update(batch_rows).where(of.id == third).values(origins=[[first, 1]], attempt=1))
    store = Database(f"sqlite:///{tmp_path}/old.db")
    migrations._migrate(store.engine, migrations.script(), "0001")
    copy(sqlite_database, store)
    store.migrate()
    with store.read() as conn:
        assert list(conn.execute(select(of.id).where(of.doubted)).scalars()) == [second]
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_a_backup_of_an_earlier_release_is_restored_and_upgraded(  # noqa: PLR0917  # fixtures
    request: pytest.FixtureRequest, kind: str, sqlite_database: Database, tmp_path: Path, lake: Lake,
    engine: DuckdbEngine, now: datetime,
) -> None:  # fmt: skip
    """Last night's backup, and this morning's sendwave."""
    esp, other = sendable.MemoryEsp(), Lake(tmp_path / "other")
    half_sent(sqlite_database, engine, lake, now, esp)
    taken = backup.take(sqlite_database, lake, tmp_path / "copy", now=now)
    request.getfixturevalue("ahead")
    url = f"sqlite:///{tmp_path}/new.db" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    store = Database(url)
    store.migrate()

    restored, paused = backup.restore(store, other, tmp_path / "copy", by="ann", now=now)

    assert (restored, paused) == (taken, ["spring"])
    with store.write() as conn:
        assert migrations.current(conn) == "0003"
        assert set(conn.execute(text("SELECT weather FROM batches")).scalars()) == {"fair"}, "the rows were upgraded"
        assert set(conn.execute(text("SELECT weight FROM journal")).scalars()) == {1}
        assert migrations.open_to(conn) == ["0002"]
        holds.lift_kinds(conn, ("pause",), campaign_id=1, by="ann", now=now)
        campaigns.transition(conn, 1, "resume", by="ann", now=now)
    finished(store, engine, other, now, esp)
    store.close()


def test_the_release_before_works_on_beside_it(
    database: Database, lake: Lake, engine: DuckdbEngine, now: datetime, ahead: pytest.MonkeyPatch
) -> None:
    esp = sendable.MemoryEsp()
    half_sent(database, engine, lake, now, esp)
    database.migrate()
    ahead.undo()  # the old code again, which knows nothing of 0003
    database.migrate()
    with database.read() as conn:
        assert migrations.current(conn) == "0003", "it left the schema alone"
        columns = MetaData()
        columns.reflect(conn, only=["journal"])
    finished(database, engine, lake, now, esp)
    with database.read() as conn:
        assert set(conn.execute(select(columns.tables["journal"].c.weight)).scalars()) == {1}


def test_an_older_release_than_that_is_refused(database: Database, ahead: pytest.MonkeyPatch) -> None:
    database.migrate()
    ahead.undo()
    ahead.setattr(migrations, "HEAD", "0000")  # two releases behind
    with pytest.raises(BadInput, match=r"newer sendwave.*upgrade"):
        database.migrate()
