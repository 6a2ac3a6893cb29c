from __future__ import annotations

from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from bases import base, consent, newsletter, person, policy, read, ready, score
from sqlalchemy import column, select, table

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import eligibility
from sendwave.rules.columns import first_reason
from sendwave.rules.plan import plan_statement

NAMES = ("address", "address_hash", "address_status", "suppressed_for", "consent")
GOOD = ("a@example.com", "00", "valid", None, "granted")


def reasons_of(engine: DuckdbEngine, facts: list[tuple[Any, ...]], *, needs_consent: bool = True) -> list[str | None]:
    columns = {name: pa.array([row[n] for row in facts], pa.string()) for n, name in enumerate(NAMES)}
    columns["n"] = pa.array(range(len(facts)))
    asked = first_reason(eligibility.reasons(needs_consent=needs_consent)).label("reason")
    rows = read(engine, select(column("n"), asked).select_from(table("facts")), {"facts": pa.table(columns)})
    return [row["reason"] for row in sorted(rows, key=lambda row: row["n"])]


def facts(**changes: str | None) -> tuple[Any, ...]:
    return tuple({**dict(zip(NAMES, GOOD, strict=True)), **changes}.values())


CASES = [
    ({}, None),
    ({"address_status": "missing"}, "no_address"),
    ({"address_status": None}, "no_address"),
    ({"address_status": "anything"}, "no_address"),
    ({"address": None}, "no_address"),
    ({"address_hash": None}, "no_address"),
    ({"address_status": "invalid", "address": None}, "invalid_address"),
    ({"address_status": "duplicate"}, "duplicate_address"),
    ({"suppressed_for": "complaint"}, "suppressed_complaint"),
    ({"consent": "withdrawn"}, "consent_withdrawn"),
    ({"consent": "pending"}, "consent_pending"),
    ({"consent": None}, "no_consent"),
    ({"consent": "GRANTED"}, "no_consent"),
    ({"address_status": "invalid", "suppressed_for": "complaint", "consent": None}, "invalid_address"),
    ({"suppressed_for": "complaint", "consent": "withdrawn"}, "suppressed_complaint"),
]


def test_each_reason_in_its_order(engine: DuckdbEngine) -> None:
    assert reasons_of(engine, [facts(**changes) for changes, _ in CASES]) == [reason for _, reason in CASES]


def test_a_service_message_needs_an_address_but_no_consent(engine: DuckdbEngine) -> None:
    asked = [facts(consent=None), facts(consent="withdrawn"), facts(suppressed_for="hard_bounce"), facts(address=None)]
    assert reasons_of(engine, asked, needs_consent=False) == [None, None, "suppressed_hard_bounce", "no_address"]


def test_unknown_consent_is_never_eligible(engine: DuckdbEngine) -> None:
    """Safety property, over every combination of known, unknown and unheard-of facts."""
    every = list(
        product(
            ("a@example.com", None),
            ("00", None),
            ("valid", "invalid", "missing", "duplicate", "odd", None),
            (None, "complaint"),
            ("granted", "withdrawn", "pending", "odd", "", None),
        )
    )
    passed = [row for row, reason in zip(every, reasons_of(engine, every), strict=True) if reason is None]
    assert passed == [GOOD]


def test_a_row_of_nulls_is_left_out_by_every_reason_but_the_list_it_is_not_on(engine: DuckdbEngine) -> None:
    nothing = (None,) * len(NAMES)
    assert reasons_of(engine, [nothing]) == ["no_address"]
    assert reasons_of(engine, [nothing], needs_consent=False) == ["no_address"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"channel": "email", "scope": "all", "reason": "complaint"}, "suppressed_complaint"),
        ({"channel": "email", "scope": "marketing", "reason": "unsubscribe"}, "suppressed_unsubscribe"),
        ({"channel": "email", "scope": "service", "reason": "unsubscribe"}, None),
        ({"channel": "sms", "scope": "all", "reason": "complaint"}, None),
        ({"channel": None, "scope": None, "reason": None}, "suppressed_unknown"),
    ],
)
def test_a_suppression_counts_for_its_channel_and_purpose(
    engine: DuckdbEngine, row: dict[str, Any], reason: str | None
) -> None:
    tables = ready(1, suppressions=[{"address_hash": f"{1:032x}", **row}])
    kind = newsletter(control="0%")
    assert read(engine, plan_statement(policy(), kind, "spring", 0), tables)[0]["excluded_by"] == reason


def test_the_strongest_of_several_suppressions_is_told_once(engine: DuckdbEngine) -> None:
    two = [
        {"address_hash": f"{1:032x}", "channel": "email", "scope": scope, "reason": reason}
        for scope, reason in (("all", "hard_bounce"), ("marketing", "complaint"))
    ]
    rows = read(engine, plan_statement(policy(), newsletter(), "spring", 0), ready(1, suppressions=two))
    assert [row["excluded_by"] for row in rows] == ["suppressed_complaint"]


def test_consent_for_another_channel_or_purpose_is_none(engine: DuckdbEngine) -> None:
    tables = base(
        contacts=[person(1), person(2)],
        consents=[consent(1, channel="sms"), consent(2, purpose="partners")],
        scores=[score(1), score(2)],
    )
    rows = read(engine, plan_statement(policy(), newsletter(), "spring", 0), tables)
    assert {row["excluded_by"] for row in rows} == {"no_consent"}


@pytest.mark.parametrize(("channel", "reason"), [("sms", "no_address"), ("push", None)])
def test_text_messages_need_a_phone_and_notifications_only_our_own_id(
    engine: DuckdbEngine, channel: str, reason: str | None
) -> None:
    tables = ready(1, consents=[consent(1, channel=channel)])
    rows = read(engine, plan_statement(policy(), newsletter(channel=channel), "spring", 0), tables)
    assert [row["excluded_by"] for row in rows] == [reason]


def test_a_text_message_goes_to_the_phone(engine: DuckdbEngine) -> None:
    tables = ready(
        1,
        contacts=[person(1, phone="+33600000001", phone_hash="aa", phone_status="valid", email_status="invalid")],
        consents=[consent(1, channel="sms")],
    )
    rows = read(engine, plan_statement(policy(), newsletter(channel="sms", control="0%"), "spring", 0), tables)
    assert [row["excluded_by"] for row in rows] == [None]
