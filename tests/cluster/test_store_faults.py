"""The store is away, locked or full: what was handed over is recorded in the end, everything else goes again, once."""

# ruff: noqa: PT012  # a transaction is what raises: its statements belong into the block
from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sendable
from nodes_running import until
from psycopg.pq.abc import PGconn
from sqlalchemy import insert, select, text, update

from sendwave import cluster
from sendwave.clock import SystemClock
from sendwave.cluster import Node
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import Busy, FullDisk, SendwaveError
from sendwave.esp.base import Receipt, Submission
from sendwave.flow.dispatch import Dispatcher, store_outage
from sendwave.flow.release import release
from sendwave.store import batches, database
from sendwave.store.database import Connection, Database
from sendwave.store.tables import meta

PEOPLE = 30


class Failing(Database):
    """Its n-th write from `arm` on, and those that follow it at once, fail: before they begin, or after the commit."""

    def arm(self, at: int, times: int, fault: SendwaveError, *, committed: bool) -> None:
        self.at, self.times, self.fault, self.committed = at, times, fault, committed
        self.lock = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.lock:
            self.at -= 1
            strikes = -self.times <= self.at < 0
        if strikes and not self.committed:
            raise self.fault
        with super().write() as conn:
            yield conn
        if strikes:
            raise self.fault


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("committed", [False, True], ids=["not written", "written, not told"])
def test_whichever_write_fails_everybody_is_written_to_once(  # noqa: PLR0917  # fixtures
    sqlite_database: Database, lake: Lake, engine: DuckdbEngine, now: datetime, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, *, committed: bool, threads: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(store_outage, "SOON", 0.0)
    monkeypatch.setattr(store_outage, "LATEST", 0.0)
    sendable.write_base(sqlite_database, lake, PEOPLE, now)
    sendable.approved(sqlite_database, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(sqlite_database, engine, lake, now=now, batch_sizes={"main": 10})
    template = tmp_path / "template.db"
    with sqlite3.connect(str(sqlite_database.url.database)) as source, sqlite3.connect(template) as copy:
        source.backup(copy)
    for at in range(1, 10):
        with sqlite3.connect(template) as source, sqlite3.connect(tmp_path / f"{at}.db") as copy:
            source.backup(copy)
        store, esp = Failing(f"sqlite:///{tmp_path}/{at}.db"), sendable.MemoryEsp()
        store.arm(at, 2, (Busy("away"), FullDisk("full"))[at % 2], committed=committed)
        dispatcher = Dispatcher(store, engine, lake, {"main": esp}, sendable.KEY, "me", threads=threads)
        for step in range(8):
            try:
                dispatcher.step(now + timedelta(seconds=step))
            except (Busy, FullDisk):
                continue
        dispatcher.close()
        with store.read() as conn:
            counts = Counter()  # type: ignore[var-annotated]  # of whatever Counts has
            for cell in batches.counts(conn, 1).values():
                counts.update({name: getattr(cell, name) for name in ("accepted", "unknown", "handed", "ready")})
        written = Counter(address for one in esp.submissions for address in one.recipients.addresses)
        assert +counts == {"accepted": PEOPLE}, f"write {at} failed"
        assert (len(written), set(written.values())) == (PEOPLE, {1}), f"write {at} failed"
        store.close()


def test_an_answer_waits_while_the_store_is_away_for_minutes(
    sqlite_database: Database, lake: Lake, engine: DuckdbEngine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes away between a hand-over and its record, and every try of the next minutes fails."""
    sendable.write_base(sqlite_database, lake, PEOPLE, now)
    sendable.approved(sqlite_database, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(sqlite_database, engine, lake, now=now, batch_sizes={"main": PEOPLE})
    store, slept = Failing(str(sqlite_database.url)), [0.0]
    store.arm(10**6, 0, Busy("away"), committed=False)

    def answer(_submission: Submission) -> Receipt:
        if not slept[0]:
            store.arm(0, 10**6, Busy("away"), committed=False)  # from here on
        return Receipt()

    def sleep(seconds: float) -> None:
        slept[0] += seconds
        if slept[0] > 180:
            store.times = 0  # it is back

    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=sleep))
    esp = sendable.MemoryEsp(answer)
    dispatcher = Dispatcher(store, engine, lake, {"main": esp}, sendable.KEY, "me")
    for second in range(4):
        with suppress(Busy):  # of the batch whose turn was next: it was not handed over
            dispatcher.step(now + timedelta(seconds=second))
    dispatcher.close()
    with store.read() as conn:
        told = [(one.accepted, one.unknown) for one in batches.counts(conn, 1).values()]
    assert (sum(accepted for accepted, _ in told), sum(unknown for _, unknown in told)) == (PEOPLE, 0)
    assert (slept[0] > 180, len(esp.arrived), set(esp.arrived.values())) == (True, PEOPLE, {1})
    store.close()


def put(store: Database, key: str) -> None:
    with store.write() as conn:
        conn.execute(insert(meta).values(key=key, value=""))


def test_sqlite_locked_by_somebody(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    store = Database(str(sqlite_database.url))
    with sqlite3.connect(str(store.url.database), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="another process is writing"):
            put(store, "a")
        with store.read() as conn:
            assert conn.execute(select(meta.c.key).where(meta.c.key == "a")).first() is None
        other.execute("ROLLBACK")
    put(store, "a")
    store.close()


def test_sqlite_on_a_full_disk(sqlite_database: Database) -> None:
    with sqlite_database.write() as conn:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
    with pytest.raises(FullDisk, match="free some room"), sqlite_database.write() as conn:
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        conn.execute(insert(meta).values(key="much", value="x" * 1_000_000))
    with sqlite_database.write() as conn:
        conn.exec_driver_sql("PRAGMA max_page_count = 1000000")
    put(sqlite_database, "little")


@pytest.mark.postgresql
def test_a_connection_that_is_cut_is_busy_and_the_next_one_works(postgresql_database: Database) -> None:
    with pytest.raises(Busy, match="cannot be used right now"), postgresql_database.write() as conn:
        pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with postgresql_database.read() as other:
            other.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
        conn.execute(insert(meta).values(key="a", value=""))
    put(postgresql_database, "a")


@pytest.mark.postgresql
def test_a_serialization_failure_is_busy(postgresql_database: Database) -> None:
    url = postgresql_database.url.update_query_dict({"options": "-c default_transaction_isolation=serializable"})
    strict = Database(url.render_as_string(hide_password=False))
    put(strict, "a")
    with pytest.raises(Busy, match="could not serialize"), strict.write() as conn:
        assert conn.execute(select(meta.c.value).where(meta.c.key == "a")).scalar_one() == ""
        with strict.write() as other:
            other.execute(update(meta).where(meta.c.key == "a").values(value="theirs"))
        conn.execute(update(meta).where(meta.c.key == "a").values(value="ours"))
    strict.close()


@pytest.fixture
def stuck(
    postgresql_database: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """The store as another process opens it, whose sessions end after so many seconds in the middle of a write."""
    monkeypatch.setattr(database, "STUCK_SECONDS", request.param)
    store = Database(postgresql_database.url.render_as_string(hide_password=False))
    yield store
    store.close()


@pytest.mark.postgresql
@pytest.mark.parametrize("stuck", [0.2], indirect=True)
def test_a_process_stuck_in_a_write_frees_its_rows(stuck: Database, postgresql_database: Database) -> None:
    put(stuck, "a")
    with pytest.raises(Busy), stuck.write() as conn:
        conn.execute(update(meta).where(meta.c.key == "a").values(value="stuck"))
        with postgresql_database.write() as other:  # waits until the server ends the session
            other.execute(update(meta).where(meta.c.key == "a").values(value="free"))
        conn.execute(select(meta.c.key))
    with stuck.read() as conn:
        SystemClock().sleep(0.3)  # who only reads holds nobody up
        assert conn.execute(select(meta.c.value).where(meta.c.key == "a")).scalar_one() == "free"


@pytest.mark.postgresql
@pytest.mark.parametrize("stuck", [1.0], indirect=True)
def test_a_process_stopped_in_the_middle_of_a_request_frees_its_rows(
    stuck: Database, postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rows go as one request of many messages. Until its end has come PostgreSQL takes the session for busy."""
    put(stuck, "a")
    with pytest.raises(Busy), stuck.write() as conn:
        plain = conn.connection.driver_connection
        assert plain is not None
        with plain.pipeline():
            plain.execute("UPDATE meta SET value = 'half' WHERE key = 'a'")
            plain.pgconn.send_flush_request()
            plain.pgconn.flush()
            until(lambda: _locked(postgresql_database, "a"), "the server has come to it")
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(_write_value, postgresql_database, "free")
                until(lambda: _blocked(postgresql_database), "another waits for the row")
                SystemClock().sleep(1.5)
                assert not other.done(), "the server's own time-out does not see it"
                monkeypatch.setattr(cluster, "BEAT_SECONDS", 0.1)
                node = Node(postgresql_database, "another", SystemClock())
                node.start()
                other.result(30)
                node.stop()
    with stuck.read() as conn:
        assert conn.execute(select(meta.c.value).where(meta.c.key == "a")).scalar_one() == "free"


def _after_many_rows(driver: PGconn) -> None:
    """The driver's last word about many rows is a Flush, which disarms the server's own time-out."""
    driver.enter_pipeline_mode()
    driver.send_flush_request()
    driver.flush()
    driver.exit_pipeline_mode()


def _in_an_answer(driver: PGconn) -> None:
    driver.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 100000)")
    driver.flush()


@pytest.mark.postgresql
@pytest.mark.parametrize("stuck", [1.0], indirect=True)
@pytest.mark.parametrize("stops", [_after_many_rows, _in_an_answer])
def test_a_process_stopped_where_the_server_is_blind_frees_its_rows(
    stuck: Database, postgresql_database: Database, stops: Callable[[PGconn], None]
) -> None:
    put(stuck, "a")
    with pytest.raises(Busy), stuck.write() as conn:
        conn.execute(update(meta).where(meta.c.key == "a").values(value="half"))
        plain = conn.connection.driver_connection
        assert plain is not None
        stops(plain.pgconn)
        _freed_by_another_node(postgresql_database)
        conn.execute(select(meta.c.key))


@pytest.mark.postgresql
@pytest.mark.parametrize("stuck", [0.2], indirect=True)
def test_who_works_for_long_is_not_stuck(stuck: Database, postgresql_database: Database) -> None:
    with ThreadPoolExecutor(1) as pool, stuck.write() as conn:
        asleep = pool.submit(conn.execute, text("SELECT pg_sleep(1)"))
        SystemClock().sleep(0.5)
        assert postgresql_database.end_stuck() == 0
        asleep.result(30)
        conn.execute(insert(meta).values(key="a", value=""))
    with stuck.read() as conn:
        assert conn.execute(select(meta.c.key).where(meta.c.key == "a")).scalar_one() == "a"


def _write_value(store: Database, value: str) -> None:
    with store.write() as conn:
        conn.execute(update(meta).where(meta.c.key == "a").values(value=value))


def _freed_by_another_node(store: Database) -> None:
    """Somebody waits for the row longer than the server's own time-out, until a node ends the session that holds it."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_write_value, store, "free")
        until(lambda: _blocked(store), "another waits for the row")
        SystemClock().sleep(1.5)
        assert not other.done(), "the server's own time-out does not see it"
        assert store.end_stuck() == 1
        other.result(30)


def _blocked(store: Database) -> bool:
    with store.read() as conn:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(conn.execute(text(asked)).scalar_one())


def _locked(store: Database, key: str) -> bool:
    with store.read() as conn:
        asked = select(meta.c.key).where(meta.c.key == key).with_for_update(skip_locked=True)
        return conn.execute(asked).first() is None
