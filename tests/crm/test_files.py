"""The drop folder: every file ends in done/ or failed/ once, and out/ never shows half a file."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sendwave import crm
from sendwave.errors import BadInput, Busy, NotFound

CONTACTS = "contact_id,email\nC-1,a@shop.example.com\nC-2,b@shop.example.com\n"


@pytest.fixture
def folder(counter: Any) -> Path:
    return counter.home / "exchange"


@pytest.fixture
def opened(counter: Any, folder: Path) -> Any:
    return counter.open("files", folder="exchange")


def drop(counter: Any, folder: Path, name: str, text: str | bytes, rested: float = 60) -> Path:
    path = folder / "in" / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    stamp = counter.now.timestamp() - rested
    os.utime(path, (stamp, stamp))
    return path


def names(folder: Path, *parts: str) -> dict[str, list[str]]:
    return {
        part: sorted(p.name for p in (folder / part).iterdir()) for part in parts or ("in", "working", "done", "failed")
    }


def test_crms_are_found_by_name() -> None:
    assert crm.names() == ["files", "salesforce"]
    with pytest.raises(NotFound, match="no CRM adapter is called 'hubspot'; there are: files, salesforce"):
        crm.find("hubspot")


def test_files_land_and_are_put_away(counter: Any, folder: Path, opened: Any) -> None:
    drop(counter, folder, "consents.csv", "contact_id,channel,purpose,status\nC-1,email,marketing,granted\n")
    drop(counter, folder, "contacts-2026.csv", CONTACTS)
    report = counter.pull(opened)
    assert [(d.kind, d.landed, d.problem) for d in report.deliveries] == [("contacts", 2, ""), ("consents", 1, "")]
    assert report.clean
    assert names(folder) == {
        "in": [], "working": [], "failed": [],
        "done": ["20260302T090000Z-consents.csv", "20260302T090000Z-contacts-2026.csv"],
    }  # fmt: skip
    assert counter.pull(opened).deliveries == ()


def test_a_file_still_being_written_is_left_alone(counter: Any, folder: Path, opened: Any) -> None:
    drop(counter, folder, "contacts.csv", CONTACTS, rested=5)
    for name in (".contacts.csv", "contacts.csv.part", "contacts.tmp", "contacts.csv.filepart"):
        drop(counter, folder, name, CONTACTS)
    assert counter.pull(opened).deliveries == ()
    counter.now += timedelta(seconds=25)
    assert len(counter.pull(opened).deliveries) == 1
    assert len(names(folder)["in"]) == 4


def test_what_cannot_land_goes_to_failed_with_the_reason(counter: Any, folder: Path, opened: Any) -> None:
    drop(counter, folder, "contacts.csv", "name,town\nx,y\n")
    drop(counter, folder, "people.csv", CONTACTS)
    drop(counter, folder, "consents.parquet", b"no parquet")
    report = counter.pull(opened)
    assert not report.clean
    assert names(folder)["failed"] == [
        "20260302T090000Z-consents.parquet",
        "20260302T090000Z-consents.parquet.report.txt",
        "20260302T090000Z-contacts.csv",
        "20260302T090000Z-contacts.csv.report.txt",
        "20260302T090000Z-people.csv",
        "20260302T090000Z-people.csv.report.txt",
    ]
    said = (folder / "failed" / "20260302T090000Z-contacts.csv.report.txt").read_text()
    assert "the header does not fit" in said
    assert "no column for contact_id" in said
    assert "begin it with one of contacts" in (folder / "failed" / "20260302T090000Z-people.csv.report.txt").read_text()


def test_rejected_lines_lie_beside_the_file_that_landed(counter: Any, folder: Path, opened: Any) -> None:
    good = "".join(f"C-{n},c{n}@shop.example.com\n" for n in range(10))
    drop(counter, folder, "contacts.csv", f"contact_id,email\n{good},d@shop.example.com\n")
    report = counter.pull(opened)
    assert [(d.landed, d.rejected) for d in report.deliveries] == [(10, 1)]
    rejects = folder / "done" / "20260302T090000Z-contacts.csv.rejects.csv"
    assert "missing_contact_id" in rejects.read_text()


def test_one_bad_file_holds_up_no_other(counter: Any, folder: Path, opened: Any) -> None:
    drop(counter, folder, "contacts-a.csv", "nonsense")
    drop(counter, folder, "contacts-b.csv", CONTACTS)
    assert [bool(d.problem) for d in counter.pull(opened).deliveries] == [True, False]


def test_a_column_goes_by_the_name_it_has_here(counter: Any, folder: Path) -> None:
    opened = counter.open("files", folder="exchange", map={"contacts": {"Kennung": "contact_id"}})
    drop(counter, folder, "contacts.csv", CONTACTS.replace("contact_id", "Kennung"))
    assert counter.pull(opened).clean


def test_a_pull_that_died_is_finished_by_the_next(counter: Any, folder: Path, opened: Any) -> None:
    drop(counter, folder, "contacts.csv", CONTACTS)
    deliveries = opened.pull("", now=counter.now)
    next(deliveries)  # taken, and then the process dies
    deliveries.close()
    assert names(folder)["working"] == ["contacts.csv"]
    drop(counter, folder, "contacts.csv", CONTACTS.replace("C-2", "C-3").replace("b@", "c@"))
    assert [d.landed for d in counter.pull(opened).deliveries] == [2, 2]
    assert counter.desk.rows("contacts", "contact_id") == ["C-1", "C-2", "C-3"]
    assert len(names(folder)["done"]) == 2


def test_two_processes_never_take_the_same_folder(counter: Any, folder: Path, opened: Any) -> None:
    drop(counter, folder, "contacts.csv", CONTACTS)
    first = opened.pull("", now=counter.now)
    next(first)
    with pytest.raises(Busy, match="another process is importing"):
        next(counter.open("files", folder="exchange").pull("", now=counter.now))
    first.close()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_scores_of_the_day_are_put_out_whole(counter: Any, folder: Path, kind: str) -> None:
    counter.desk.take("contacts", CONTACTS)
    counter.score({"C-1": 60.5, "C-2": 4})
    opened = counter.open("files", folder="exchange", format=kind)
    report = counter.push(opened)
    assert (report.offered, report.taken, report.refused) == (2, 2, 0)
    assert names(folder, "out") == {"out": [f"scores-2026-03-02.{kind}"]}
    path = folder / "out" / f"scores-2026-03-02.{kind}"
    if kind == "csv":
        lines = sorted(path.read_text(encoding="utf-8").splitlines())
        assert lines[-1] == '"contact_id","score","tier","label","scored_at","grid_version"'
        assert '"C-1",60.5,"hot","Hot","2026-03-02T09:00:00+00:00",' in lines[0]
    else:
        rows = sorted(pq.read_table(path).to_pylist(), key=lambda row: row["contact_id"])
        assert [(row["contact_id"], row["score"], row["tier"]) for row in rows] == [
            ("C-1", 60.5, "hot"),
            ("C-2", 4, "cold"),
        ]
    counter.push(opened)  # the same day again replaces the file
    assert names(folder, "out") == {"out": [f"scores-2026-03-02.{kind}"]}


def test_a_push_that_breaks_off_shows_nothing(counter: Any, folder: Path, opened: Any) -> None:
    def rows() -> Any:
        yield from ()
        raise RuntimeError("the disk has gone")

    with pytest.raises(RuntimeError):
        opened.push(rows(), now=counter.now)
    assert names(folder, "out") == {"out": []}


def test_nothing_to_push_is_said(counter: Any, opened: Any) -> None:
    with pytest.raises(BadInput, match="no scores to push"):
        counter.push(opened)
