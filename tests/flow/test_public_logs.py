"""Purchase logs as other tools export them: no heading, blanks between columns, American dates, old encodings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from import_desk import Desk

from sendwave.cli import run
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow.intake import ImportSummary
from sendwave.rules.layout import layout_of
from sendwave.store.database import Database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

MASTER = """ 00001 19970101  1   11.77
 00002 19970112  1   12.00

 00002 19970112  5   77.00
\t00003\t19970102\t2   20.76  \r
 00003 19970330  2
"""

INVOICES = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
536365,85123A,"WHITE HANGING HEART, ""T-LIGHT"" HOLDER",6,12/1/2010 8:26,2.55,17850.0,United Kingdom
536366,22633,HAND WARMER,6,12/13/2010 8:28,1.85,17850.0,United Kingdom
536366,22633,HAND WARMER,6,12/13/2010 8:28,1.85,17850.0,United Kingdom
536414,22139,,56,12/1/2010 11:52,0,,United Kingdom
C536379,D,Discount,-1,12/1/2010 9:41,27.50,14527.0,United Kingdom
"""
INVOICED = {"CustomerID": "contact_id", "InvoiceDate": "ts"}

ACHATS = (
    "N° client;Date d'achat;Libellé;Montant TTC\r\n0042;28/02/2026;Écharpe à 5 €;1 204,50\r\n0043;01/02/2026;;12,5\r\n"
)


@pytest.fixture
def desk(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path) -> Desk:
    """Nobody imported yet."""
    return Desk(sqlite_database, engine, lake, tmp_path, NOW)


def purchases(desk: Desk, *files: str | bytes | Path, **options: Any) -> ImportSummary:
    """Import purchases, making contacts of their customers; layout options by their name."""
    names = ("delimiter", "heading", "encoding", "date_format", "skip", "repeats")
    layout = layout_of(**{name: options.pop(name) for name in names if name in options})
    return desk.take(
        "interactions", *files, layout=layout, constants={"kind": "purchase"}, create_contacts=True, **options
    )


def bought(desk: Desk) -> list[tuple[str, str, float | None]]:
    """(contact_id, instant in UTC, value) of every interaction, in order."""
    ids = dict(desk.rows("ids", "contact", "contact_id"))
    rows = desk.rows("interactions", "contact", "ts", "value")
    return sorted((ids[who], f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%d %H:%M}", value) for who, ts, value in rows)


def test_columns_by_number_with_blanks_between(desk: Desk) -> None:
    told = purchases(
        desk, MASTER, delimiter="space", heading=False, mapping={"1": "contact_id", "2": "ts", "4": "value"}
    )
    assert bought(desk) == [
        ("00001", "1997-01-01 00:00", 11.77), ("00002", "1997-01-12 00:00", 12.0), ("00002", "1997-01-12 00:00", 77.0),
        ("00003", "1997-01-02 00:00", 20.76),
    ]  # fmt: skip
    assert (told.rows, told.rejects) == (5, {"too_few_columns": 1})
    assert desk.report(told) == [("interactions-0.csv", 6, "rejected", "too_few_columns")]
    assert desk.rows("interactions", "attributes") == [None] * 4, "columns nobody named are left out"


def test_words_that_are_no_utf8_are_one_line_s_fault(desk: Desk) -> None:
    rows = "7 2026-01-02\r\nZo\xe9 2026-01-02\n8 2026-01-03\n".encode("latin-1")
    told = purchases(desk, rows, delimiter="space", heading=False, mapping={"1": "contact_id", "2": "ts"}, max_bad=0.5)
    assert desk.report(told) == [("interactions-0.csv", 2, "rejected", "broken_utf8")]
    assert [who for who, *_ in bought(desk)] == ["7", "8"]


def test_a_heading_between_blanks_names_the_columns(desk: Desk) -> None:
    purchases(desk, "customer  date\n  7   2026-01-02\n", delimiter="space")
    assert bought(desk) == [("7", "2026-01-02 00:00", None)]


@pytest.mark.parametrize(("bom", "delimiter"), [("", ","), ("\ufeff", ","), ("\ufeff", ";")])
def test_csv_without_a_heading_starts_on_its_first_line(desk: Desk, bom: str, delimiter: str) -> None:
    text = bom + "17,2026-01-02\n18,never\n19,2026-01-03\n".replace(",", delimiter)
    told = purchases(desk, text, heading=False, mapping={"1": "contact_id", "2": "ts"}, max_bad=0.5)
    assert bought(desk) == [("17", "2026-01-02 00:00", None), ("19", "2026-01-03 00:00", None)]
    assert [line for _, line, *_ in desk.report(told)] == [2]


def test_invoices_with_american_dates_cancellations_and_no_customer(desk: Desk) -> None:
    told = purchases(
        desk, INVOICES, date_format="month-first", skip=["CustomerID=", "invoiceno=c*"], mapping=INVOICED,
        time_zone="Europe/London",
    )  # fmt: skip
    assert bought(desk) == [("17850", "2010-12-01 08:26", None), ("17850", "2010-12-13 08:28", None)]
    assert told.counts == {"new": 2, "known": 0, "repeated": 1, "skipped": 2, "contacts_created": 1}
    assert (told.rows, told.rejected) == (3, 0)


def test_an_invoice_is_one_purchase_where_its_number_is_the_id(desk: Desk) -> None:
    lines = INVOICES.replace("536366,22633,HAND WARMER,6", "536366,22632,HAND WARMER,2", 1)
    options = {"date_format": "month-first", "skip": ["CustomerID=", "InvoiceNo=C*"]}
    told = purchases(desk, lines, mapping=INVOICED | {"InvoiceNo": "interaction_id"}, **options)
    assert told.counts["repeated"] == 1
    assert len(bought(desk)) == 2


def test_equal_lines_count_as_many_where_the_file_means_it_and_only_once_each(desk: Desk) -> None:
    options = {"date_format": "month-first", "skip": ["CustomerID=", "InvoiceNo=C*"], "mapping": INVOICED}
    assert purchases(desk, INVOICES, repeats=True, **options).counts["new"] == 3
    assert len(bought(desk)) == 3
    assert not purchases(desk, INVOICES, repeats=True, **options).changed
    assert not purchases(desk, INVOICES, **options).changed, "the first of equal rows is the one kept anyway"


@pytest.mark.parametrize(
    ("encoding", "said"), [("cp1252", "windows-1252"), ("utf-8-sig", None), ("utf-16", None), ("latin-1", "latin-1")]
)
def test_a_french_workbook_saved_as_text(desk: Desk, encoding: str, said: str | None) -> None:
    text = ACHATS.replace("€", "euros") if encoding == "latin-1" else ACHATS
    purchases(desk, text.encode(encoding), encoding=said)
    assert bought(desk) == [("0042", "2026-02-28 00:00", 1204.5), ("0043", "2026-02-01 00:00", 12.5)]
    libelle = json.loads(next(text for text in desk.rows("interactions", "attributes") if text))["libelle"]
    assert libelle == ("Écharpe à 5 euros" if encoding == "latin-1" else "Écharpe à 5 €")


def test_the_report_shows_rows_of_another_encoding_as_they_were(desk: Desk) -> None:
    told = purchases(desk, (ACHATS + "É1;hier;;\r\n").encode("cp1252"), encoding="windows-1252", max_bad=0.5)
    assert told.rejects_file is not None
    assert "É1;hier;;" in told.rejects_file.read_text(encoding="utf-8")


def test_parquet_with_timestamps_and_customers_kept_as_fractions(desk: Desk) -> None:
    path = desk.folder / "orders.parquet"
    when = pa.array([datetime(2026, 2, 1, 10, 30), datetime(2026, 2, 2)], pa.timestamp("ns"))  # noqa: DTZ001
    pq.write_table(pa.table({"customer": pa.array([17850.0, None]), "ts": when, "amount": [1.25, 2.0]}), path)
    told = purchases(desk, path, skip=["customer="], time_zone="Europe/Paris")
    assert bought(desk) == [("17850", "2026-02-01 09:30", 1.25)]
    assert told.counts["skipped"] == 1


def test_json_lines_count_their_broken_ones(desk: Desk) -> None:
    lines = '{"user_id": 7, "date": "2026-02-01", "test": true}\n{"user_id": 8, "date": "2026-02-01"}\n{oops\n\n'
    told = purchases(desk, lines, name="orders.jsonl", skip=["test=true"], max_bad=0.5)
    assert bought(desk) == [("8", "2026-02-01 00:00", None)]
    assert (told.rows, told.landed, told.rejected) == (2, 1, 1)
    assert [line for _, line, *_ in desk.report(told)] == [3]


@pytest.mark.parametrize(
    ("given", "number"),
    [("12.5", 12.5), ("12,5", 12.5), ("1 204,50", 1204.5), ("1.204,50 €", 1204.5), ("$1,204.50", 1204.5),
     ("1\u202f204", 1204.0), ("-3", -3.0), ("twelve", None)],
)  # fmt: skip
def test_amounts_as_people_write_them(desk: Desk, given: str, number: float | None) -> None:
    purchases(desk, f'customer;date;amount\n1;2026-01-01;"{given}"\n')
    assert bought(desk)[0][2] == number


@pytest.mark.parametrize(
    ("given", "form", "instant"),
    [("3/4/2026", "month-first", "2026-03-04 00:00"), ("3/4/2026 8:05 PM", "month-first", "2026-03-04 20:05"),
     ("2026-03-01T08:00:00Z", "month-first", "2026-03-01 08:00"), ("3/4/25", "%d/%m/%y", "2025-04-03 00:00"),
     ("02 Jan 2026", "%d %b %Y", "2026-01-02 00:00"), ("1/2/2026 7:05", None, "2026-02-01 07:05")],
)  # fmt: skip
def test_dates_in_the_order_somebody_else_writes_them(desk: Desk, given: str, form: str | None, instant: str) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    purchases(desk, f"customer;date\n1;{given}\n", date_format=form, now=now)
    assert bought(desk) == [("1", instant, None)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"delimiter": "ab"}, "--delimiter ab: one character"),
        ({"encoding": "klingon"}, "--encoding klingon: no encoding"),
        ({"date_format": "month-frist"}, "Did you mean 'month-first'"),
        ({"date_format": "%d %q %Y"}, "%q means nothing"),
        ({"date_format": "%H:%M"}, "needs its day, month and year"),
        ({"skip": ["CustomerID"]}, "write --skip COLUMN=PATTERN"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        layout_of(**options)


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        (MASTER, {}, "--delimiter space.*--no-header"),
        (MASTER, {"delimiter": "space", "heading": False}, r"Columns found: 1 \(00001\), 2 \(19970101\)"),
        (INVOICES, {"skip": ["Invoice="]}, "no column 'Invoice' in the files"),
        (ACHATS.encode("cp1252"), {"encoding": "utf-16"}, "not utf-16"),
    ],
)
def test_a_file_of_another_shape_says_what_to_try(
    desk: Desk, text: str | bytes, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadInput, match=problem):
        purchases(desk, text, **options)


def test_where_too_much_is_bad_the_command_says_what_to_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house, log = tmp_path / "shop", tmp_path / "invoices.csv"
    log.write_text(INVOICES, encoding="utf-8")
    run(["init", str(house)])
    options = [word for column, field in INVOICED.items() for word in ("--map", f"{column}={field}")]
    order = ["import", "interactions", str(log), "--home", str(house), "--set", "kind=purchase", *options]
    assert run(order) == 2
    assert "--create-contacts" in capsys.readouterr().err
    assert run([*order, "--create-contacts"]) == 2
    told = capsys.readouterr().err
    for hint in ("--date-format month-first", "--skip COLUMN=", "--max-bad", "invoices.csv:3: unreadable date"):
        assert hint in told
    assert run([*order, "--max-bad", "0.4"]) == 2
    assert "write 0.4% or 40%" in capsys.readouterr().err
    more = ["--date-format", "month-first", "--create-contacts", "--max-bad", "40%", "--time-zone", "Europe/London"]
    assert run([*order, *more]) == 1
    assert "invoices.csv:5: missing contact id" in capsys.readouterr().out
    assert run(["import", "signals", str(log), "--home", str(house), "--no-header"]) == 2
