"""Imports: what files of each kind become, and that importing again, or in another order, changes nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from hashlib import sha256
from itertools import permutations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from import_desk import Desk

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.addresses import fingerprint
from sendwave.store import journal, suppressions
from sendwave.store.database import Database

PEOPLE = "contact_id;email\nA;zoe@gmail.com\nB;max@orange.fr\nC;lou@free.fr\n"


@pytest.fixture
def desk(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, tmp_path: Path, now: object) -> Desk:
    return Desk(sqlite_database, engine, lake, tmp_path, now)  # type: ignore[arg-type]


@pytest.fixture
def known(desk: Desk) -> Desk:
    """A desk where contacts A, B and C (1, 2, 3) are known."""
    desk.take("contacts", PEOPLE)
    return desk


def test_contacts_of_a_french_crm(desk: Desk) -> None:
    summary = desk.take(
        "contacts",
        "\ufeffid_client;Adresse e-mail;Prénom;Téléphone;Fuseau;Langue;Pays;Date d'inscription\r\n"
        "C1; Zoé.X@Gmail.com ;Zoé;06 12 34 56 78;europe/paris;fr_FR;fr;03/04/2024\r\n"
        'C2;max@ORANGE.fr;"Max; dit ""Le Grand""";+33 (0)6 12 34 56 78;;FR;FR;2024-04-03T10:00:00+02:00\r\n'
        "C3;lea@été.fr;Léa;;Europe/Paris;;;2024-04-03 10:00\r\n",
        time_zone="Europe/Paris",
    )
    assert (summary.rows, summary.landed, summary.rejected, summary.changed) == (3, 3, 0, True)
    columns = (
        "contact_id",
        "contact",
        "email",
        "email_status",
        "provider",
        "phone",
        "phone_status",
        "timezone",
        "language",
    )
    assert desk.rows("contacts", *columns) == [
        ("C1", 1, None, "invalid", "other", "+33612345678", "valid", "Europe/Paris", "fr-fr"),
        ("C2", 2, "max@orange.fr", "valid", "orange", "+33612345678", "valid", None, "fr"),
        ("C3", 3, "lea@xn--t-9fab.fr", "valid", "other", None, "missing", "Europe/Paris", None),
    ]
    assert desk.rows("contacts", "contact_id", "signed_up_ts", "country", "attr_prenom", "seed") == [
        ("C1", 1712095200, "FR", "Zoé", False),  # midnight in Paris
        ("C2", 1712131200, "FR", 'Max; dit "Le Grand"', False),
        ("C3", 1712131200, None, "Léa", False),
    ]
    assert desk.rows("contacts", "email_hash")[1] == sha256(b"max@orange.fr").hexdigest()[:32]
    assert summary.notes == {"invalid_email": 1}
    assert "Internationalized characters before the @-sign" in summary.findings[0]


def test_an_import_adds_and_updates_and_keeps_the_rest(known: Desk) -> None:
    summary = known.take("contacts", "id,email,city\nB,new@orange.fr,Lyon\nA,zoe@gmail.com,\nD,kim@free.fr,Metz\n")
    assert summary.counts == {"new": 1, "updated": 1, "unchanged": 1, "kept": 1, "email_valid": 4}
    assert known.rows("contacts", "contact_id", "contact", "email", "attr_city") == [
        ("A", 1, "zoe@gmail.com", None),
        ("B", 2, "new@orange.fr", "Lyon"),
        ("C", 3, "lou@free.fr", None),
        ("D", 4, "kim@free.fr", "Metz"),
    ]
    assert known.registered() == {"contacts": 1, "ids": 2}


def test_a_column_that_is_not_there_keeps_what_was_known_and_an_empty_cell_does_not(known: Desk) -> None:
    known.take(
        "contacts", "id,email,phone,language\nA,zoe@gmail.com,+33612345678,fr\nB,max@orange.fr,+33612345679,fr\n"
    )
    known.take("contacts", "id,phone\nA,\nB,+33700000000\n")
    assert known.rows("contacts", "contact_id", "email", "email_status", "phone", "phone_status", "language") == [
        ("A", "zoe@gmail.com", "valid", None, "missing", "fr"),
        ("B", "max@orange.fr", "valid", "+33700000000", "valid", "fr"),
        ("C", "lou@free.fr", "valid", None, "missing", None),
    ]


def test_a_number_once_given_is_never_given_again(known: Desk) -> None:
    known.take("contacts", "id,email\nAA,a@free.fr\n")
    known.take("contacts", "id,email\n0,b@free.fr\nA,zoe@gmail.com\n")
    assert known.rows("contacts", "contact", "contact_id") == [(1, "A"), (2, "B"), (3, "C"), (4, "AA"), (5, "0")]
    assert known.rows("ids", "contact", "contact_id") == known.rows("contacts", "contact", "contact_id")


def test_of_those_who_share_an_address_the_lowest_id_stays_reachable(desk: Desk) -> None:
    summary = desk.take("contacts", "id,email\n10,A@free.fr\n9,a@free.fr\n100,a@FREE.fr\n11,b@free.fr\n")
    status = desk.rows("contacts", "contact_id", "email_status")
    assert status == [("10", "duplicate"), ("100", "duplicate"), ("11", "valid"), ("9", "valid")]
    assert desk.report(summary) == [
        ("contacts-0.csv", 2, "noted", "duplicate_email"),
        ("contacts-0.csv", 4, "noted", "duplicate_email"),
    ]
    desk.take("contacts", "id,email\n9,other@free.fr\n")
    assert desk.rows("contacts", "contact_id", "email_status")[0] == ("10", "valid"), "the next one takes over"


def test_the_last_row_of_a_contact_wins(desk: Desk) -> None:
    summary = desk.take(
        "contacts", "id,email\nA,old@free.fr\nA,new@free.fr\n", "id,email\nB,x@free.fr\nA,last@free.fr\n"
    )
    assert desk.rows("contacts", "contact_id", "email") == [("A", "last@free.fr"), ("B", "x@free.fr")]
    assert summary.landed == 2
    assert [line for _, line, _, reason in desk.report(summary) if reason == "repeated_contact_id"] == [2, 3]


def test_the_order_files_are_given_in_never_matters(
    sqlite_template: Path, engine: DuckdbEngine, tmp_path: Path, now: object
) -> None:
    contents = {
        "a.csv": "id,email,lang\nA,a1@free.fr,fr\nB,b@free.fr,fr\n",
        "b.csv": "id;email\nA;a2@free.fr\nC;b@free.fr\n",
        "c.jsonl": '{"id": "A", "phone": "+33612345678"}\n{"id": "D", "email": "d@free.fr"}\n',
    }
    seen = []
    for place, names in enumerate(list(permutations(contents))[::2]):
        folder = tmp_path / str(place)
        folder.mkdir()
        (folder / "s.db").write_bytes(sqlite_template.read_bytes())
        database = Database(f"sqlite:///{folder}/s.db")
        desk = Desk(database, engine, Lake(folder / "lake"), folder, now)  # type: ignore[arg-type]
        desk.take("contacts", *(desk.file(name, contents[name]) for name in names))
        seen.append(desk.rows("contacts", "contact", "contact_id", "email", "email_status", "phone", "language"))
        database.close()
    assert all(rows == seen[0] for rows in seen)
    assert [row[1] for row in seen[0]] == ["A", "B", "C", "D"]


FILES = {
    "contacts": PEOPLE + "D;broken\nE;zoe@gmail.com\n",
    "consents": "contact_id,channel,purpose,status,date\nA,email,marketing,yes,2026-01-01\nB,email,marketing,yes,\n"
    "C,email,marketing,no,\n",
    "suppressions": "email,reason\nmax@orange.fr,unsubscribe\n",
    "scores": "contact_id,score,date\nA,12.5,2026-01-01\nB,3,\n",
    "interactions": "contact_id,kind,ts,sku\nA,purchase,2026-01-01T10:00:00Z,X1\nA,visit,2026-01-02T10:00:00Z,\n",
    "sends": "contact_id,campaign,type,sent_at\nA,may,newsletter,2026-01-01T10:00:00Z\n",
}


def test_importing_the_same_files_again_changes_nothing(desk: Desk) -> None:
    for kind, content in FILES.items():
        assert desk.take(kind, content).changed, kind
    before = desk.registered(), desk.on_disk(), desk.rows("consents", "contact", "recorded_ts")
    later = Desk(desk.db, desk.engine, desk.lake, desk.folder, desk.now + timedelta(days=3))
    for kind, content in FILES.items():
        assert not later.take(kind, content).changed, kind
    assert (desk.registered(), desk.on_disk(), desk.rows("consents", "contact", "recorded_ts")) == before


def test_parquet_and_json_lines_say_the_same_as_csv(desk: Desk, tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "Customer_Id": [1, 2],
                "email": ["a@free.fr", None],
                "signed_up": pa.array([0, 86_400], pa.timestamp("s", "UTC")),
                "vip": [True, None],
            }
        ),
        tmp_path / "a.parquet",
    )
    lines = [{"id": 3, "email": "c@free.fr", "signed_up": "1970-01-03", "vip": False}, {"id": 4, "email": "d@free.fr"}]
    content = "\n".join(["", *(json.dumps(line) for line in lines), "[1]", "{broken", ""])
    summary = desk.take("contacts", tmp_path / "a.parquet", desk.file("b.jsonl", content), max_bad=0.5)
    assert desk.rows("contacts", "contact_id", "email", "signed_up_ts", "attr_vip") == [
        ("1", "a@free.fr", 0, "true"),
        ("2", None, 86_400, None),
        ("3", "c@free.fr", 172_800, "false"),
        ("4", "d@free.fr", None, None),
    ]
    assert desk.report(summary) == [
        ("b.jsonl", 4, "rejected", "broken_json"),
        ("b.jsonl", 5, "rejected", "broken_json"),
    ]


def test_consents_in_the_words_people_use(known: Desk) -> None:
    summary = known.take(
        "consents",
        "id_client;canal;finalité;statut;base;date;preuve\n"
        "A;E-mail;Marketing;Oui;consent;03/04/2024;formulaire\nA;SMS;marketing;opt-out;;;\n"
        "B;email;marketing;en attente;;2024-04-03;\nC;email;marketing;peut-être;;;\nC;fax;marketing;oui;;;\n"
        "C;email;;oui;;;\nC;email;marketing;oui;;soon;\nC;email;marketing;oui;;2027-01-01;\nZ;email;marketing;oui;;;\n",
        max_bad=1.0,
    )
    assert known.rows("consents", "contact", "channel", "purpose", "status", "recorded_ts", "proof") == [
        (1, "email", "marketing", "granted", 1712102400, "formulaire"),
        (1, "sms", "marketing", "withdrawn", int(known.now.timestamp()), None),
        (2, "email", "marketing", "pending", 1712102400, None),
    ]
    assert [(line, reason) for _, line, _, reason in known.report(summary)] == [
        (5, "ambiguous_status"), (6, "unknown_channel"), (7, "missing_purpose"), (8, "unreadable_date"),
        (9, "future_date"), (10, "unknown_contact"),
    ]  # fmt: skip


HEADER = "contact_id,channel,purpose,status,date\n"


STATEMENTS = {
    "later_no": ("yes,2026-01-01", "no,2026-01-02", "withdrawn"),
    "later_yes": ("yes,2026-01-02", "no,2026-01-01", "granted"),
    "same_day": ("yes,2026-01-01", "no,2026-01-01", "withdrawn"),
    "same_day_pending": ("yes,2026-01-01", "pending,2026-01-01", "pending"),
    "undated_yes": ("yes,", "no,2026-01-01", "withdrawn"),
    "undated_both": ("yes,", "no,", "withdrawn"),
    "undated_no": ("yes,2026-01-01", "no,", "withdrawn"),
    "unreadable_no": ("yes,2026-01-01", "no,some day", "withdrawn"),
    "undated_pending": ("yes,", "pending,", "pending"),
}


def test_the_newest_statement_counts_and_doubt_never_means_yes(known: Desk) -> None:
    """In one file (A), in two (B), in two the other way round (C): by purpose, the status that counts."""

    def lines(contact: str, place: int) -> str:
        return "".join(f"{contact},email,{case},{said[place]}\n" for case, said in STATEMENTS.items())

    known.take("consents", HEADER + lines("A", 0) + lines("A", 1) + lines("B", 0) + lines("C", 1))
    known.take("consents", HEADER + lines("B", 1) + lines("C", 0))
    found = known.rows("consents", "contact", "purpose", "status")
    assert found == [(c, case, STATEMENTS[case][2]) for c in (1, 2, 3) for case in sorted(STATEMENTS)]


def test_an_undated_yes_does_not_undo_a_withdrawal_and_is_told(known: Desk) -> None:
    known.take("consents", HEADER + "A,email,marketing,no,2020-01-01\n")
    summary = known.take("consents", HEADER + "A,email,marketing,yes,\n")
    assert known.rows("consents", "status") == ["withdrawn"]
    assert summary.notes == {"undated_after_withdrawal": 1}
    known.take("consents", HEADER + "A,email,marketing,yes,2020-01-02\n")
    assert known.rows("consents", "status") == ["granted"]


def test_yes_and_no_columns_of_contacts_are_consents(desk: Desk) -> None:
    summary = desk.take(
        "contacts",
        "id,email,optin_email,optin_sms,optin_date\nA,a@free.fr,oui,0,2024-04-03\nB,b@free.fr,,non,\nC,c@free.fr,maybe,,\n",
        mapping={"optin_email": "consent:email:marketing", "optin_sms": "consent:sms:marketing"},
    )
    assert desk.rows("consents", "contact", "channel", "purpose", "status", "recorded_ts") == [
        (1, "email", "marketing", "granted", 1712102400),
        (1, "sms", "marketing", "withdrawn", 1712102400),
        (2, "sms", "marketing", "withdrawn", int(desk.now.timestamp())),
    ]
    assert summary.counts["consents_new"] == 3
    assert (summary.rejected, summary.landed) == (0, 3)
    assert desk.report(summary) == [("contacts-0.csv", 4, "noted", "ambiguous_status")]


def test_a_contact_without_consent_rows_is_simply_without_consent(known: Desk) -> None:
    assert known.rows("consents", "contact") == []
    assert known.registered() == {"contacts": 1, "ids": 1}


def test_suppressions_by_address_contact_or_hash(known: Desk) -> None:
    known.take("contacts", "id,phone\nC,+33612345678\n")
    summary = known.take(
        "suppressions",
        "email,phone,contact_id,hash,channel,scope,reason,since\n"
        "Unknown@Free.fr,,,,,,désabonnement,03/04/2024\n,,A,,email,newsletter,plainte,\n,,C,,sms,,,\n"
        ",+33 6 00 00 00 00,,,,tous,,\n"
        f",,,{sha256(b'x@free.fr').hexdigest().upper()},,,NPAI,someday\n"
        "nonsense,,,,,,,\n,,Z,,,,,\n,,A,,sms,,,\n,0612,,,,,,\n,,,,,,,\na@free.fr,,,,fax,,,\n,,,abc,,,,\n",
        max_bad=1.0,
    )
    with known.db.read() as connection:
        rows = suppressions.recorded_since(connection, known.now)
    assert {(row.address_hash, row.channel, row.scope, row.reason, int(row.since_at.timestamp())) for row in rows} == {
        (fingerprint("unknown@free.fr"), "email", "all", "unsubscribe", 1712102400),
        (fingerprint("zoe@gmail.com"), "email", "newsletter", "complaint", int(known.now.timestamp())),
        (fingerprint("+33612345678"), "sms", "all", "imported", int(known.now.timestamp())),
        (fingerprint("+33600000000"), "sms", "all", "imported", int(known.now.timestamp())),
        (fingerprint("x@free.fr"), "email", "all", "hard_bounce", int(known.now.timestamp())),
    }
    assert [reason for *_, outcome, reason in known.report(summary) if outcome == "rejected"] == [
        "invalid_email", "unknown_contact", "no_address", "invalid_phone", "missing_address", "unknown_channel",
        "not_a_hash",
    ]  # fmt: skip
    assert summary.notes == {"suppressed_from_now": 1}
    assert summary.counts == {"new": 5, "known": 0}


def test_the_newest_score_counts_and_a_new_file_replaces_the_former(known: Desk) -> None:
    summary = known.take(
        "scores",
        'client;note;palier;date\nA;"12,5";hot;2026-01-01\nA;99;cold;2025-01-01\nB;nan;;\nB;inf;;\nB;x;;\nC;-3;;\n',
        max_bad=0.5,
    )
    assert known.rows("scores", "contact", "score", "tier", "scored_ts") == [
        (1, 12.5, "hot", 1767225600),
        (3, -3.0, None, int(known.now.timestamp())),
    ]
    assert summary.rejects == {"score_not_a_number": 3}
    assert known.take("scores", "client;score\nB;1\n").counts == {"new": 1, "updated": 0, "unchanged": 0, "gone": 2}
    assert known.rows("scores", "contact", "score") == [(2, 1.0)]
    assert known.rows("history", "scored_on", "contact", "former_score", "former_tier", "score", "tier") == [
        ("2026-03-02", 1, 12.5, "hot", None, None),
        ("2026-03-02", 1, None, None, 12.5, "hot"),
        ("2026-03-02", 2, None, None, 1.0, None),
        ("2026-03-02", 3, -3.0, None, None, None),
        ("2026-03-02", 3, None, None, -3.0, None),
    ]


def test_interactions_are_added_once(known: Desk) -> None:
    content = (
        "contact_id,event_id,type,date,montant,sku,shop,bot\n"
        'A,e1,Achat,2026-01-01 10:00,"19,90",X1,,\nA,e1,Achat,2026-01-01 10:00,"19,90",X1,,\n'
        "B,,open,2026-01-02T08:00:00Z,,,,oui\nB,,open,2026-01-02T08:00:00Z,,,,oui\nB,,open,2026-01-02T08:00:01Z,much,,Lyon,\n"
        "Z,,open,2026-01-02,,,,\nA,,open,2026-03-03,,,,\nA,,open,1969-12-31,,,,\nA,,,2026-01-01,,,,\nA,,open,,,,,\n"
    )
    summary = known.take("interactions", content, max_bad=0.6, time_zone="Europe/Paris")
    assert (summary.landed, summary.counts) == (5, {"new": 3, "known": 0, "repeated": 2})
    assert known.rows("interactions", "contact", "kind", "ts", "value", "machine", "attributes") == [
        (1, "achat", 1767258000, 19.9, False, '{"sku":"X1"}'),
        (2, "open", 1767340800, None, True, None),
        (2, "open", 1767340801, None, False, '{"shop":"Lyon"}'),
    ]
    assert summary.rejects == {
        "before_1970": 1, "future_date": 1, "missing_date": 1, "missing_kind": 1, "unknown_contact": 1
    }  # fmt: skip
    assert summary.notes == {"value_not_a_number": 1}
    more = known.take("interactions", "contact_id,event_id,type,date\nA,e1,Achat,2026-01-01\nA,e2,Achat,2026-01-05\n")
    assert more.counts == {"new": 1, "known": 1}
    assert known.registered()["interactions"] == 2


def test_past_sends_become_pressure(known: Desk) -> None:
    content = (
        "contact,campagne,type_campagne,canal,date_envoi\nA,Mai,Newsletter,,2026-01-01\nA,Mai,Newsletter,,2026-01-01\n"
        "B,Mai,Newsletter,email,2026-01-01\nB,Juin,Flash sale,sms,2026-02-01\n"
    )
    summary = known.take("sends", content)
    assert summary.counts == {"new": 3, "known": 0, "repeated": 1}
    rows = known.rows("sends", "contact", "type", "channel", "sent_ts", "freeze", "excluded_by")
    assert rows == [
        (1, "newsletter", "email", 1767225600, 0, None),
        (2, "flash_sale", "sms", 1769904000, 0, None),
        (2, "newsletter", "email", 1767225600, 0, None),
    ]
    campaigns = known.rows("sends", "campaign")
    assert len(set(campaigns)) == 2
    assert all(number < 0 for number in campaigns)
    more = known.take("sends", "contact,campaign,type,sent_at\nC,Mai,newsletter,2026-01-01\n")
    assert more.changed
    assert set(known.rows("sends", "campaign")) == set(campaigns), "a name is always the same number"


def test_the_journal_tells_of_an_import(known: Desk) -> None:
    with known.db.read() as connection:
        entry = journal.read(connection)[-1]
    assert (entry.actor, entry.action, entry.at) == ("zoe", "import.contacts", known.now)
    assert entry.evidence["counts"]["new"] == 3
    assert "zoe@gmail.com" not in json.dumps(dict(entry.evidence)), "the journal names nobody"


def test_the_summary_is_plain_json(known: Desk) -> None:
    document = known.take("contacts", "id,email,tz\nA,zoe@gmail.com,Europe/Pari\n").document()
    assert json.loads(json.dumps(document)) == document
    assert document["notes"] == {"unknown_timezone": 1}
    assert document["findings"] == ["contacts-0.csv:2: unknown timezone: Europe/Pari"]
