"""The fixtures keep their word."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta

import psycopg
import pytest
from sqlalchemy import create_engine, func, insert, inspect, select

from sendwave.store.database import Database
from sendwave.store.tables import METADATA, meta


@pytest.mark.parametrize("turn", ["first", "second"])
def test_every_test_gets_a_migrated_store_of_its_own(database: Database, turn: str) -> None:
    with database.write() as connection:
        assert connection.execute(select(func.count()).select_from(meta).where(meta.c.key == "turn")).scalar_one() == 0
        connection.execute(insert(meta).values(key="turn", value=turn))
    assert set(METADATA.tables) <= set(inspect(database.engine).get_table_names())


@pytest.mark.postgresql
def test_a_postgresql_url_opens_an_empty_database(postgresql_url: str) -> None:
    engine = create_engine(postgresql_url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.postgresql
def test_a_database_goes_away_with_what_a_killed_process_left_connected(postgresql_server: object) -> None:
    server = postgresql_server
    url = server.create()  # type: ignore[attr-defined]
    stray = psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False))
    server.drop(url)  # type: ignore[attr-defined]
    with pytest.raises(psycopg.OperationalError):
        stray.execute("SELECT 1")
    stray.close()


def test_now_is_an_instant_in_utc(now: datetime) -> None:
    assert now.utcoffset() == timedelta(0)


@pytest.mark.parametrize("host", ["192.0.2.1", "mx.example.org"])  # RFC 5737, RFC 2606: nobody's
def test_a_test_cannot_leave_this_machine(host: str) -> None:
    with pytest.raises(RuntimeError, match="stay on this machine"):
        socket.create_connection((host, 25))
