"""Imports that go wrong: every bad row is told with its file and line, and nothing lands by half."""

from __future__ import annotations

import csv
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from import_desk import Desk

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.engine.landing import Landing
from sendwave.errors import BadInput, Busy, FullDisk, NotFound
from sendwave.flow import intake
from sendwave.store import journal
from sendwave.store.database import Database


@pytest.fixture
def desk(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path, now: Any) -> Desk:
    return Desk(sqlite_database, engine, lake, tmp_path, now)


def people(count: int, bad: int = 0) -> str:
    """That many rows, the first of them without an id."""
    return "id,email\n" + "".join(f"{'' if i < bad else i},p{i}@free.fr\n" for i in range(count))


def untouched(desk: Desk) -> bool:
    with desk.db.read() as connection:
        return not desk.registered() and not desk.on_disk() and not journal.read(connection)


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "wrong header": ("a.csv", b"contct_id,emial\nA,a@free.fr\n", "Columns found: contct_id, emial"),
    "no header": ("a.csv", b"A,a@free.fr\nB,b@free.fr\n", "Columns found: A, a@free.fr"),
    "empty": ("a.csv", b"", "is empty"),
    "one heading twice": ("a.csv", b"id,email,email\nA,a@free.fr,b@free.fr\n", "same name: email"),
    "two headings for one field": ("a.csv", b"id,email,id \nA,a@free.fr,B\n", "same name: id"),
    "a workbook": ("a.csv", b"PK\x03\x04\x14\x00", "is an Excel workbook"),
    "windows-1252 heading": ("a.csv", "id;email;prénom\nA;a@free.fr;Zoé\n".encode("cp1252"), "--encoding windows-1252"),
    "no parquet": ("a.parquet", b"id,email\n", "cannot be read"),
    "no json": ("a.jsonl", b"id,email\nA,a@free.fr\n", "no line that is a JSON object"),
    "windows-1252 text": ("a.csv", "id;email;nom\n1;a@b.fr;Zoé\n2;b@b.fr;Zoé\n".encode("cp1252"), "broken utf8 2"),
    "a quote never closed": ("a.csv", b'id,email\n1,"a@b.fr\n' + b"2,b@b.fr\n" * 50, "51 of 51 lines are bad"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_meant_is_refused_whole(desk: Desk, case: str) -> None:
    name, content, message = BAD_FILES[case]
    with pytest.raises(BadInput, match=message):
        desk.take("contacts", content, name=name)
    assert untouched(desk)


def test_a_missing_file_and_an_unknown_kind_are_not_found(desk: Desk) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*none\.csv"):
        desk.take("contacts", desk.folder / "none.csv")
    with pytest.raises(NotFound, match="nothing imports 'people'"):
        desk.take("people", people(1))


def test_every_bad_row_is_told_by_its_line_whatever_stands_before_it(desk: Desk) -> None:
    content = (
        b'\xef\xbb\xbf"id";email;note\r\n'  # 1
        b'1;a@free.fr;"two\r\nlines; and ""quotes"""\r\n'  # 2, 3
        b";nobody@free.fr;x\r\n"  # 4: no id
        b"\r\n"  # 5
        b"3;c@free.fr;bad \xe9 byte\r\n"  # 6
        b"4;d@free.fr\r\n"  # 7: too few
        b"5;e@free.fr;x;y\r\n"  # 8: too many
        b'6;"f"@free.fr;x\r\n'  # 9: broken quotes
        b'7;g@free.fr;12" screen\r\n'  # 10: fine
        b';"no\r\n\r\nid";x\r\n'  # 11 to 13: no id
        b"9;i@free.fr;last"  # 14
    )
    summary = desk.take("contacts", content, max_bad=1.0)
    assert [(line, reason) for _, line, _, reason in desk.report(summary)] == [
        (4, "missing_contact_id"), (6, "broken_utf8"), (7, "too_few_columns"), (8, "too_many_columns"),
        (9, "broken_quotes"), (11, "missing_contact_id"),
    ]  # fmt: skip
    assert desk.rows("contacts", "contact_id", "attr_note") == [
        ("1", 'two\r\nlines; and "quotes"'), ("7", '12" screen'), ("9", "last")
    ]  # fmt: skip
    assert summary.rejects_file is not None
    with summary.rejects_file.open(encoding="utf-8", newline="") as file:
        rows = {row["line"]: row["row"] for row in csv.DictReader(file)}
    assert rows["4"] == ";nobody@free.fr;x"
    assert rows["6"] == "3;c@free.fr;bad \ufffd byte"
    assert rows["11"] == ';"no\r\n\r\nid";x'


def test_ten_percent_of_bad_rows_are_told_and_the_rest_lands(desk: Desk) -> None:
    summary = desk.take("contacts", people(100, bad=10))
    assert (summary.rows, summary.landed, summary.rejected) == (100, 90, 10)
    assert summary.rejects == {"missing_contact_id": 10}
    assert summary.findings[0] == "contacts-0.csv:2: missing contact id"
    assert len(desk.rows("contacts", "contact")) == 90


@pytest.mark.parametrize(("bad", "options"), [(21, {}), (1, {"strict": True}), (11, {"max_bad": 0.1})])
def test_too_many_bad_rows_land_nothing(desk: Desk, bad: int, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"nothing landed: {bad} of 100 lines are bad") as caught:
        desk.take("contacts", people(100, bad=bad), **options)
    assert untouched(desk)
    assert caught.value.findings[0] == "contacts-0.csv:2: missing contact id"
    report = next((desk.folder / "rejects").iterdir())
    assert str(report) in str(caught.value)
    assert len(report.read_text().splitlines()) == bad + 1


def test_strict_does_not_mind_notes(desk: Desk) -> None:
    summary = desk.take("contacts", "id,email,tz\nA,broken,Europe/Pari\n", strict=True)
    assert (summary.landed, summary.notes) == (1, {"invalid_email": 1, "unknown_timezone": 1})


def test_an_unknown_time_zone_costs_the_zone_not_the_contact(desk: Desk) -> None:
    summary = desk.take("contacts", "id,email,timezone\nA,a@free.fr,Mars/Olympus\nB,b@free.fr,indian/reunion\n")
    assert desk.rows("contacts", "contact_id", "timezone") == [("A", None), ("B", "Indian/Reunion")]
    assert desk.report(summary) == [("contacts-0.csv", 2, "noted", "unknown_timezone")]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk looks like, without being root."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_nothing_behind(desk: Desk) -> None:
    path = desk.file("many.csv", "id,email\n" + "".join(f"{i},{os.urandom(20).hex()}@free.fr\n" for i in range(20_000)))
    with room_for(400_000), pytest.raises(FullDisk, match="full"):
        desk.take("contacts", path)
    assert untouched(desk)
    assert desk.take("contacts", path).landed == 20_000


def test_a_disk_that_fills_at_the_last_file_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Landing.write

    def fill(landing: Landing, dataset: str, sql: str) -> Any:
        with room_for(100_000 if dataset == "contacts" else 1 << 30):
            return write(landing, dataset, sql)

    monkeypatch.setattr(Landing, "write", fill)
    path = desk.file("many.csv", "id,email\n" + "".join(f"{i},{os.urandom(20).hex()}@free.fr\n" for i in range(20_000)))
    with pytest.raises(FullDisk):
        desk.take("contacts", path)
    assert untouched(desk), "the ids, written first, are gone as well"


def test_a_store_that_fails_at_the_commit_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FullDisk("the disk that holds the store is full")

    monkeypatch.setattr(intake.journal, "write", fail)
    with pytest.raises(FullDisk):
        desk.take("contacts", people(3))
    monkeypatch.undo()
    assert untouched(desk)


@pytest.fixture
def either_desk(database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path, now: Any) -> Desk:
    return Desk(database, engine, lake, tmp_path, now)


def test_of_two_imports_at_once_the_later_to_finish_lands_nothing(
    either_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge, others = intake.people.merge_contacts, iter(["id,email\nB,b@free.fr\n"])

    def meanwhile(landing: Landing, domains: Any) -> Any:
        for content in others:
            either_desk.take("contacts", either_desk.file("other.csv", content))
        return merge(landing, domains)

    monkeypatch.setattr(intake.people, "merge_contacts", meanwhile)
    with pytest.raises(Busy, match="another import changed the contacts meanwhile"):
        either_desk.take("contacts", "id,email\nA,a@free.fr\n")
    assert either_desk.rows("contacts", "contact", "contact_id") == [(1, "B")]
    either_desk.take("contacts", "id,email\nA,a@free.fr\n")
    assert either_desk.rows("contacts", "contact", "contact_id") == [(1, "B"), (2, "A")]
