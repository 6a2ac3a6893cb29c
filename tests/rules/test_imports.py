"""Headings: which column is which field, and what is said when it is none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.errors import BadInput, NotFound
from sendwave.rules.imports import KINDS, STATUSES, check_mapping, kind_of, match_headings, word


def matched(kind: str, *columns: str, **mapping: str) -> dict[str, str]:
    return match_headings(KINDS[kind], columns, mapping, "file.csv")


@pytest.mark.parametrize(
    ("kind", "columns", "targets"),
    [
        ("contacts", "contact_id | email", "contact_id | email"),
        ("contacts", "ID | E-mail", "contact_id | email"),
        ("contacts", "Customer ID | Adresse e-mail | Prénom", "contact_id | email | attr_prenom"),
        ("contacts", "id_client | courriel | Date d'inscription | Pays", "contact_id | email | signed_up | country"),
        ("contacts", "id | customer_id | email", "attr_id | contact_id | email"),
        ("contacts", "id | email | ", "contact_id | email | -"),
        ("consents", "client | canal | finalité | statut | preuve", "contact_id | channel | purpose | status | proof"),
        ("consents", "id | channel | purpose | status | comment", "contact_id | channel | purpose | status | -"),
        ("scores", "client | points | palier", "contact_id | score | tier"),
        ("sends", "contact | campagne | date_envoi", "contact_id | campaign | sent_at"),
        ("suppressions", "hash", "address_hash"),
        (
            "interactions",
            "id | contact_id | event | timestamp | sku",
            "interaction_id | contact_id | kind | ts | attr_sku",
        ),
    ],
)
def test_headings_people_use_are_understood(kind: str, columns: str, targets: str) -> None:
    names = columns.split(" | ")
    found = matched(kind, *names)
    assert " | ".join(found.get(name, "-") for name in names) == targets


def test_what_is_mapped_goes_first() -> None:
    found = matched("contacts", "id", "ref", "email", ref="contact_id", id="-")
    assert found == {"ref": "contact_id", "email": "email"}
    assert matched("contacts", "id", "email", "optin", optin="consent:email:Marketing") == {
        "id": "contact_id", "email": "email", "optin": "consent:email:marketing",
    }  # fmt: skip
    assert matched("contacts", "id", "email", "emial", emial="attr:emial")["emial"] == "attr_emial"


def test_a_wrong_header_lists_what_was_found_and_guesses() -> None:
    with pytest.raises(BadInput, match="Columns found: contct_id, emial, city") as caught:
        matched("contacts", "contct_id", "emial", "city")
    assert caught.value.findings == (
        "file.csv:1: no column for contact_id; did you mean 'contct_id'?",
        "file.csv:1: no column for email or phone; did you mean 'emial'?",
    )


def test_what_a_whole_file_shares_may_be_said_once() -> None:
    columns = ["recency", "history_segment", "mens", "segment", "visit", "conversion", "spend"]
    with pytest.raises(BadInput) as caught:
        matched("experiments", *columns)
    assert caught.value.findings == ("file.csv:1: no column for experiment; the same in every row? --set experiment=…",)


def test_a_misspelt_optional_column_is_not_taken_for_an_attribute() -> None:
    with pytest.raises(BadInput) as caught:
        matched("contacts", "id", "email", "langauge")
    assert "is column 'langauge' a misspelt 'language'?" in caught.value.findings[0]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"email": "emial"}, "no such field; did you mean 'email'"),
        ({"email": "consent:fax:marketing"}, "no such field"),
        ({"a": "email", "email": "email"}, "does not fit"),
    ],
)
def test_a_wrong_mapping_is_refused(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        matched("contacts", "id", "email", "a", **mapping)


def test_a_mapped_column_no_file_has_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'e-mail'"):
        check_mapping({"e_mial": "email"}, ["id", "e-mail"])


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(NotFound, match="contacts, consents"):
        kind_of("contact")


@given(st.text(max_size=30))
def test_a_word_is_its_own_word(text: str) -> None:
    assert word(word(text)) == word(text)


def test_words_of_statuses_are_spelt_as_they_are_looked_up() -> None:
    assert [text for text in STATUSES if word(text) != text] == []
    assert {STATUSES[word(text)] for text in ("Oui", "opt-in", "Opted in", "Accepté", "1", "TRUE")} == {"granted"}
    assert {STATUSES[word(text)] for text in ("Non", "opt-out", "OPTED_OUT", "Désabonné", "STOP", "0", "false")} == {
        "withdrawn"
    }
    assert "actif" not in STATUSES, "an active contact is not a consenting one"


def test_every_field_and_reason_is_in_the_reference() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "reference" / "imports.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert [field for field in kind.fields if f"`{field}`" not in section] == [], name
    told: set[str] = set()
    for module in ("people", "history", "reading", "landing"):
        source = (root / "sendwave" / "engine" / f"{module}.py").read_text(encoding="utf-8")
        told |= set(re.findall(r"""(?:THEN|ELSE|true,|false,)\s+'([a-z]+(?:_[a-z0-9]+)+)'""", source))
        told |= set(re.findall(r'note\("(\w+)"', source)) | set(re.findall(r'": "(\w+_\w+)",', source))
    assert {"broken_utf8", "unknown_contact", "duplicate_email", "unknown_timezone"} <= told
    assert [reason for reason in sorted(told) if f"`{reason}`" not in page] == []
