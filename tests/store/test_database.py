"""Opening the store: migrations, versions of another time, the two kinds of transaction."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, insert, inspect, select, text

from sendwave.errors import BadInput, Busy
from sendwave.store import database as database_module
from sendwave.store import migrations
from sendwave.store.database import Database
from sendwave.store.tables import METADATA, meta

_WRITTEN = select(func.count()).select_from(meta).where(meta.c.key != migrations.OPEN_TO)


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    with database.read() as connection:
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, "alembic_version"}


def test_a_store_of_a_newer_version_is_refused_and_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(BadInput, match=r"newer sendwave.*9999.*upgrade sendwave"):
        database.migrate()
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(BadInput, match="sqlite or postgresql"):
        Database("mysql://localhost/x")


@pytest.mark.parametrize("what", ["a folder", "no database", "read-only"])
def test_a_file_that_cannot_be_the_store_is_told_in_one_line(tmp_path: Path, what: str) -> None:
    place = tmp_path / "store.db"
    if what == "a folder":
        place.mkdir()
    else:
        place.write_text("something else, long enough to be looked at\n" * 20 if what == "no database" else "")
    url = f"sqlite:///file:{place}?mode=ro&uri=true" if what == "read-only" else f"sqlite:///{place}"
    with pytest.raises(BadInput, match=r"the store .*store\.db cannot be used .*who may write there"):
        Database(url).migrate()


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def write_and_fail() -> None:
        with database.write() as connection:
            connection.execute(insert(meta).values(key="a", value="1"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    with database.read() as connection:
        assert connection.execute(_WRITTEN).scalar_one() == 0


def test_sqlite_keeps_every_commit_at_power_loss(sqlite_database: Database) -> None:
    with sqlite_database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "2 is FULL"


def test_writers_of_two_openings_wait_for_each_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    first, second = Database(url), Database(url)
    first.migrate()

    def add(database: Database, names: list[str]) -> None:
        for name in names:
            with database.write() as connection:
                connection.execute(insert(meta).values(key=name, value=""))

    work = [
        (database, [f"{d}-{t}-{i}" for i in range(20)]) for d, database in enumerate((first, second)) for t in (1, 2)
    ]
    threads = [threading.Thread(target=add, args=arguments) for arguments in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with second.read() as connection:
        assert connection.execute(_WRITTEN).scalar_one() == 80
    first.close()
    second.close()


@pytest.mark.postgresql
def test_a_network_that_swallows_everything_is_noticed(postgresql_database: Database) -> None:
    """Linux and libpq find it: they are told how long to wait, idle or with something under way."""
    with postgresql_database.write() as conn:
        told = conn.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]  # psycopg's
    assert told["tcp_user_timeout"] == "20000"
    assert int(told["keepalives_idle"]) + int(told["keepalives_interval"]) * int(told["keepalives_count"]) == 25
    assert told["connect_timeout"] == "5"


@pytest.mark.postgresql
def test_connections_of_a_dozen_hands_are_kept(postgresql_database: Database) -> None:
    """One opened anew for each hand-over would cost the server more than the hand-over."""

    def at_once() -> set[int]:
        with ExitStack() as open_:
            writing = [open_.enter_context(postgresql_database.write()) for _ in range(12)]
            return {int(conn.execute(text("SELECT pg_backend_pid()")).scalar_one()) for conn in writing}

    assert at_once() == at_once()


@pytest.mark.postgresql
def test_who_finds_no_connection_free_finds_the_store_busy(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "KEPT", 1)
    monkeypatch.setattr(database_module, "IN_TURN_SECONDS", 0.01)
    store = Database(postgresql_database.url.render_as_string(hide_password=False))
    with store.write(), pytest.raises(Busy, match="connection to the store is in use"), store.write():
        pass
    store.close()


def test_a_disk_that_takes_no_more_is_told_as_such(sqlite_database: Database) -> None:
    """SQLite says `disk I/O error` of a file at its limit, where it says `full` of a disk."""
    store = f"{sqlite_database.url.database}"
    inside = (
        "import resource, sys; from sqlalchemy import insert; from sendwave.store.database import Database\n"
        "from sendwave.errors import FullDisk; from sendwave.store.tables import meta\n"
        "db = Database('sqlite:///' + sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n"
        "try:\n with db.write() as conn: conn.execute(insert(meta).values(key='much', value='x' * 1_000_000))\n"
        "except FullDisk as fault: print(fault)\n"
    )
    done = subprocess.run([sys.executable, "-c", inside, store], capture_output=True, text=True, check=True)
    assert "over a quota" in done.stdout


def test_the_newest_revision_is_known_without_alembic() -> None:
    assert migrations.script().get_current_head() == migrations.HEAD
