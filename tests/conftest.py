"""What every test may ask for: an instant, a store on either database, a lake, the set engine."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import postgres_server
import pytest
from hypothesis import HealthCheck, settings

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.store.database import Database

if TYPE_CHECKING:
    from bucket_storage import Storage

# The same examples on every run, and no deadline: a noisy machine is no bug. `make explore` draws fresh ones.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("SENDWAVE_TEST_PROFILE", "repeatable"))


def pytest_configure() -> None:
    """Tests neither read the developer's own settings nor reach beyond this machine."""
    for name in [name for name in os.environ if name.startswith("SENDWAVE_") and not name.startswith("SENDWAVE_TEST_")]:
        del os.environ[name]
    sys.addaudithook(_only_loopback)


def _only_loopback(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_loopback(host.decode() if isinstance(host, bytes) else host or "localhost"):
        raise RuntimeError(f"a test tried to reach {host}: tests stay on this machine")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host.partition("%")[0]).is_loopback
    except ValueError:  # a name: looking it up would already leave the machine
        return False


@pytest.fixture
def now() -> datetime:
    """A Monday morning in UTC; 10:00 in Paris."""
    return datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def soon_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run --until idle` listens for reactions that trickle in for four seconds, not for a minute."""
    monkeypatch.setattr("sendwave.daemon.LISTEN_ROUNDS", 20)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgres_server.Server]:
    """One server per xdist worker; started by the first test that asks."""
    with postgres_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: postgres_server.Server) -> Iterator[str]:
    """Name of a migrated, empty database that others are copied from."""
    url = postgresql_server.create()
    database = Database(url.render_as_string(hide_password=False))
    database.migrate()
    database.close()
    assert url.database is not None
    yield url.database
    postgresql_server.drop(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file that others are copied from."""
    path = tmp_path_factory.mktemp("template") / "sendwave.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture
def postgresql_url(postgresql_server: postgres_server.Server) -> Iterator[str]:
    """URL of a fresh, empty, unmigrated database: for tests that start whole processes."""
    url = postgresql_server.create()
    yield url.render_as_string(hide_password=False)
    postgresql_server.drop(url)


@pytest.fixture
def postgresql_database(postgresql_server: postgres_server.Server, postgresql_template: str) -> Iterator[Database]:
    """A migrated store on PostgreSQL, of this test alone. Mark its tests with `postgresql`."""
    url = postgresql_server.create(postgresql_template)
    with _checked(Database(url.render_as_string(hide_password=False))) as database:
        yield database
    postgresql_server.drop(url)


@pytest.fixture
def sqlite_database(tmp_path: Path, sqlite_template: Path) -> Iterator[Database]:
    """A migrated store on SQLite, of this test alone."""
    path = tmp_path / "state" / "sendwave.db"
    path.parent.mkdir()
    shutil.copyfile(sqlite_template, path)
    with _checked(Database(f"sqlite:///{path}")) as database:
        yield database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def database(request: pytest.FixtureRequest) -> Database:
    """A migrated store; the test runs once on SQLite and once on PostgreSQL."""
    found = request.getfixturevalue(f"{request.param}_database")
    assert isinstance(found, Database)
    return found


@contextmanager
def _checked(database: Database) -> Iterator[Database]:
    """The store, closed afterwards; a connection the test kept is a leak the daemon would have too."""
    try:
        yield database
        kept = database.engine.pool.checkedout()  # type: ignore[attr-defined]  # both stores use a QueuePool
        assert kept == 0, f"{kept} pooled connection(s) were never given back"
    finally:
        database.close()


@pytest.fixture(scope="session")
def storage_server() -> Iterator[Storage]:
    """One S3 storage per xdist worker; started by the first test that asks."""
    from bucket_storage import storage  # two seconds of imports

    with storage() as running:
        yield running


@pytest.fixture
def storage(storage_server: Storage) -> Iterator[Storage]:
    """An S3 storage with an empty bucket."""
    yield storage_server
    storage_server.empty()


@pytest.fixture
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    """An empty lake; with SENDWAVE_TEST_LAKE=bucket in the environment, one in a bucket."""
    root = tmp_path / "lake"
    root.mkdir()
    if os.environ.get("SENDWAVE_TEST_LAKE") == "bucket":
        from bucket_storage import lake_in

        return lake_in(request.getfixturevalue("storage"), root)
    return Lake(root)


@pytest.fixture
def engine(tmp_path: Path, lake: Lake) -> DuckdbEngine:
    """The embedded engine, small."""
    hold = None if lake.remote is None else lake.hold
    return DuckdbEngine(threads=2, memory_limit="1GB", spill=tmp_path / "spill", hold=hold)
