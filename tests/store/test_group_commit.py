"""Several threads' writes in one commit: each gets its own answer, durable; a fault harms nobody else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, insert, select

from sendwave.store.database import Database
from sendwave.store.group_commit import Together
from sendwave.store.tables import meta


def note(conn: Connection, key: str) -> str:
    conn.execute(insert(meta).values(key=key, value="1"))
    return key


def noted(db: Database) -> set[str]:
    with db.read() as conn:
        return set(conn.execute(select(meta.c.key).where(meta.c.key.like("t-%"))).scalars())


def test_everybody_gets_their_own_answer(database: Database) -> None:
    together = Together(database)
    keys = [f"t-{n}" for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda key: together.run(lambda conn: note(conn, key)), keys)) == keys
    assert noted(database) == set(keys)


def test_who_waits_is_written_by_one_commit(database: Database) -> None:
    together, commits, started = Together(database), [], threading.Barrier(5)
    slow = threading.Event()

    def first(conn: Connection) -> str:
        started.wait(10)  # the others are queueing from here on
        slow.wait(10)
        return note(conn, "t-first")

    def other(key: str) -> str:
        started.wait(10)
        return together.run(lambda conn: note(conn, key))

    with ThreadPoolExecutor(5) as pool:
        found: list[Any] = [pool.submit(together.run, first)]
        found += [pool.submit(other, f"t-{n}") for n in range(4)]
        while len(together._waiting) < 4:
            pass
        event.listen(database._writing, "commit", lambda conn: commits.append(1))
        slow.set()
        assert {one.result(10) for one in found} == noted(database)
    assert len(commits) == 2, "the first, and the four that waited for it"


def test_a_fault_is_raised_where_it_belongs(database: Database) -> None:
    together = Together(database)

    def act(number: int) -> str:
        def action(conn: Connection) -> str:
            key = note(conn, f"t-{number}")
            if number % 3 == 0:
                raise ValueError(key)
            return key

        return together.run(action)

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(act, number) for number in range(12)]
    for number, one in enumerate(found):
        if number % 3 == 0:
            with pytest.raises(ValueError, match=f"t-{number}"):
                one.result()
        else:
            assert one.result() == f"t-{number}"
    assert noted(database) == {f"t-{number}" for number in range(12) if number % 3}
    with database.read() as conn:
        assert conn.execute(select(func.count()).select_from(meta)).scalar_one() >= 8


@pytest.mark.postgresql
def test_a_server_far_away_works_on_several_at_once(
    postgresql_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Database, "is_near", False)
    together, both = Together(postgresql_database), threading.Barrier(2, timeout=30)

    def meets(conn: Connection) -> str:
        both.wait()
        return note(conn, f"t-{threading.get_ident()}")

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(together.run, meets) for _ in range(2)]
        assert {one.result(30) for one in found} == noted(postgresql_database)


@pytest.mark.parametrize(
    ("url", "near"),
    [
        ("sqlite:///x.db", True),
        ("postgresql+psycopg://me@/shop", True),
        ("postgresql+psycopg://me@/shop?host=/run/postgresql", True),
        ("postgresql+psycopg://me@localhost/shop", True),
        ("postgresql+psycopg://me@[::1]:5433/shop", True),
        ("postgresql+psycopg://me@db.example/shop", False),
        ("postgresql+psycopg://me@/shop?host=db.example", False),
        ("postgresql+psycopg://me@10.0.0.5/shop", False),
    ],
)
def test_which_stores_are_on_this_machine(url: str, near: bool) -> None:
    assert Database(url).is_near is near
