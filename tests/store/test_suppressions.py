from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendwave.store import suppressions
from sendwave.store.database import Database
from sendwave.store.suppressions import Suppression


def _row(address: str, now: datetime, *, scope: str = "all", reason: str = "manual") -> Suppression:
    return Suppression(address.ljust(32, "0"), "email", scope, reason, now)


def _listed(database: Database) -> dict[tuple[str, str], tuple[str, datetime]]:
    with database.read() as conn:
        rows = suppressions.among(conn, "email", [letter.ljust(32, "0") for letter in "abcdef"])
    return {(row.address_hash.rstrip("0"), row.scope): (row.reason, row.since_at) for row in rows}


def _add(database: Database, rows: list[Suppression], now: datetime) -> int:
    with database.write() as conn:
        return suppressions.add(conn, rows, source="test", now=now)


def test_the_earliest_instant_and_the_strongest_reason_are_kept(database: Database, now: datetime) -> None:
    _add(database, [_row("a", now, reason="hard_bounce")], now)
    _add(database, [_row("a", now + timedelta(days=1), reason="complaint")], now)
    _add(database, [_row("a", now - timedelta(days=1), reason="imported")], now)
    assert _listed(database) == {("a", "all"): ("complaint", now - timedelta(days=1))}


def test_duplicates_inside_one_call_are_merged(database: Database, now: datetime) -> None:
    rows = [_row("b", now, reason="manual"), _row("b", now - timedelta(hours=1), reason="unsubscribe")]
    assert _add(database, rows, now) == 1
    assert _listed(database) == {("b", "all"): ("unsubscribe", now - timedelta(hours=1))}


def test_a_word_nobody_knows_never_hides_a_known_reason(sqlite_database: Database, now: datetime) -> None:
    _add(sqlite_database, [_row("a", now, reason="spamtrap")], now)
    assert _listed(sqlite_database)["a", "all"][0] == "spamtrap"
    _add(sqlite_database, [_row("a", now, reason="imported")], now)
    _add(sqlite_database, [_row("a", now, reason="spamtrap")], now)
    assert _listed(sqlite_database)["a", "all"][0] == "imported"


def test_scopes_stand_beside_each_other(sqlite_database: Database, now: datetime) -> None:
    _add(sqlite_database, [_row("a", now, scope="partner"), _row("a", now, scope="marketing")], now)
    assert set(_listed(sqlite_database)) == {("a", "partner"), ("a", "marketing")}


def test_the_table_carries_one_channel_as_columns(database: Database, now: datetime) -> None:
    _add(database, [_row("a", now), _row("b", now)._replace(channel="sms")], now)
    with database.read() as conn:
        table = suppressions.table(conn, "email")
        empty = suppressions.table(conn, "push")
    assert table.to_pylist() == [
        {"address_hash": "a".ljust(32, "0"), "channel": "email", "scope": "all", "reason": "manual"}
    ]
    assert (empty.num_rows, empty.column_names) == (0, table.column_names)


def test_recorded_since_gives_new_rows_once_and_repeats_nothing_older(database: Database, now: datetime) -> None:
    _add(database, [_row("a", now)], now)
    later = now + timedelta(minutes=5)
    _add(database, [_row("a", now, reason="complaint"), _row("b", now)], later)
    with database.read() as conn:
        found = suppressions.recorded_since(conn, later)
        everything = suppressions.recorded_since(conn, now, channel="email")
        other = suppressions.recorded_since(conn, now, channel="sms")
    assert [row.address_hash[0] for row in found] == ["b"]
    assert [row.address_hash[0] for row in everything] == ["a", "b"]
    assert other == []


def test_a_large_import_is_taken_in_chunks(sqlite_database: Database, now: datetime) -> None:
    rows = [Suppression(f"{n:032x}", "email", "all", "imported", now) for n in range(12_000)]
    assert _add(sqlite_database, rows, now) == 12_000
    with sqlite_database.read() as conn:
        assert suppressions.table(conn, "email").num_rows == 12_000
        assert len(suppressions.among(conn, "email", [f"{n:032x}" for n in range(11_000, 13_000)])) == 1_000


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("cd"), st.sampled_from(suppressions.REASONS), st.integers(-9, 9)), max_size=12
    ),
    cut=st.integers(0, 12),
)
def test_order_and_repetition_change_nothing(
    sqlite_database: Database, now: datetime, rows: list[tuple[str, str, int]], cut: int
) -> None:
    given_rows = [_row(a, now + timedelta(days=days), reason=reason) for a, reason, days in rows]
    with sqlite_database.write() as conn:
        conn.exec_driver_sql("DELETE FROM suppressions")
    _add(sqlite_database, given_rows[:cut], now)
    _add(sqlite_database, given_rows[cut:], now)
    first = _listed(sqlite_database)
    _add(sqlite_database, given_rows[::-1], now)
    assert _listed(sqlite_database) == first
    for (address, _scope), (reason, since) in first.items():
        mine = [row for row in given_rows if row.address_hash[0] == address]
        assert since == min(row.since_at for row in mine)
        assert suppressions.REASONS.index(reason) == min(suppressions.REASONS.index(row.reason) for row in mine)


def test_nothing_to_add_is_nothing(sqlite_database: Database, now: datetime) -> None:
    assert _add(sqlite_database, [], now) == 0
