"""Salesforce against an org on loopback: pages, increments, opt-outs, limits, sessions, records it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from salesforce_org import EXPIRED, LIMIT, Org

from sendwave.errors import Permanent, Transient
from sendwave.store import exchanges


@pytest.fixture
def org() -> Iterator[Org]:
    with Org() as running:
        yield running


@pytest.fixture
def opened(counter: Any, org: Org) -> Iterator[Any]:
    adapter = counter.open("salesforce", **settings(org))
    yield adapter
    adapter.close()


def settings(org: Org, **changes: Any) -> dict[str, Any]:
    return {
        "url": org.url,
        "client_id": "app",
        "client_secret": "s3cret",
        "page": 2,
        "poll": 0.001,
        "timeout": 5,
    } | changes


def record(number: int, stamp: str = "2026-03-01T08:00:00.000Z", **changes: str) -> dict[str, str]:
    return {
        "Id": f"003{number:05d}",
        "Email": f"p{number}@shop.example.com",
        "MobilePhone": "",
        "Owner.Email": "anna@shop.example.com",
        "HasOptedOutOfEmail": "false",
        "IsDeleted": "false",
        "SystemModstamp": stamp,
        **changes,
    }


def cursor(counter: Any) -> str:
    with counter.desk.db.read() as connection:
        return exchanges.get(connection, "main").cursor


def consents(counter: Any) -> list[tuple[Any, ...]]:
    ids = dict(counter.desk.rows("ids", "contact", "contact_id"))
    return [
        (ids[who], channel, status)
        for who, channel, status in counter.desk.rows("consents", "contact", "channel", "status")
    ]


def test_contacts_come_page_by_page(counter: Any, org: Org, opened: Any) -> None:
    org.contacts = [record(n) for n in range(5)]
    report = counter.pull(opened)
    assert [(d.kind, d.landed, d.problem) for d in report.deliveries] == [("contacts", 5, "")]
    assert counter.desk.rows("contacts", "contact_id", "email", "owner")[0] == (
        "00300000", "p0@shop.example.com", "anna@shop.example.com"
    )  # fmt: skip
    assert sum(asked.endswith("/results") for asked in org.requests) == 3
    assert org.logins == 1
    assert not (counter.home / "state/salesforce").exists() or not any((counter.home / "state/salesforce").iterdir())


def test_the_next_pull_asks_for_what_changed_since_less_an_overlap(counter: Any, org: Org, opened: Any) -> None:
    org.contacts = [record(1), record(2, "2026-03-01T09:30:00.000Z")]
    counter.pull(opened)
    assert org.queries[0].endswith("WHERE IsDeleted = false")
    assert cursor(counter) == "2026-03-01T09:30:00+00:00"
    org.contacts += [record(3, "2026-03-01T09:25:00.000Z")]  # saved before, visible after
    report = counter.pull(opened)
    assert org.queries[1].endswith("WHERE SystemModstamp >= 2026-03-01T09:20:00.000Z")
    assert report.deliveries[0].landed == 2
    assert len(counter.desk.rows("contacts", "contact_id")) == 3
    assert cursor(counter) == "2026-03-01T09:30:00+00:00"


def test_nothing_new_moves_nothing(counter: Any, org: Org, opened: Any) -> None:
    assert counter.pull(opened).deliveries == ()
    assert cursor(counter) == ""


def test_opting_out_and_deletion_withdraw_and_opting_in_again_grants_nothing(
    counter: Any, org: Org, opened: Any
) -> None:
    org.contacts = [record(n) for n in (1, 2, 3)]
    counter.pull(opened)
    assert consents(counter) == []
    later = "2026-03-01T12:00:00.000Z"
    org.contacts[0] |= {"HasOptedOutOfEmail": "true", "SystemModstamp": later}
    org.contacts[1] |= {"IsDeleted": "true", "SystemModstamp": later}
    report = counter.pull(opened)
    assert [d.kind for d in report.deliveries] == ["contacts", "consents"]
    assert sorted(consents(counter)) == [("00300001", "email", "withdrawn"), ("00300002", "email", "withdrawn")]
    org.contacts[0] |= {"HasOptedOutOfEmail": "false", "SystemModstamp": "2026-03-01T13:00:00.000Z"}
    counter.pull(opened)
    assert ("00300001", "email", "withdrawn") in consents(counter)


def test_who_was_deleted_before_the_first_pull_is_nobody(counter: Any, org: Org, opened: Any) -> None:
    org.contacts = [record(1), record(2, IsDeleted="true")]
    counter.pull(opened)
    assert counter.desk.rows("contacts", "contact_id") == ["00300001"]


def test_fields_are_mapped_as_told(counter: Any, org: Org) -> None:
    fields = {
        "contact_id": "External__c", "email": "Email", "attr:city": "MailingCity",
        "consent:sms:marketing": "SMS_Optin__c", "language": "Language__c",
    }  # fmt: skip
    opened = counter.open("salesforce", **settings(org, fields=fields, where="Account.Type = 'Customer'"))
    extra = {"External__c": "K-1", "MailingCity": "Lyon, 3e", "SMS_Optin__c": "true", "Language__c": "fr_FR"}
    org.contacts = [record(1, **extra)]
    counter.pull(opened)
    assert counter.desk.rows("contacts", "contact_id", "attr_city", "language") == [("K-1", "Lyon, 3e", "fr-fr")]
    assert consents(counter) == [("K-1", "sms", "granted")]
    assert "WHERE (Account.Type = 'Customer') AND" in org.queries[0]
    opened.close()


def test_an_expired_session_is_renewed_once_wherever_it_ends(counter: Any, org: Org, opened: Any) -> None:
    org.contacts = [record(n) for n in range(5)]
    for place in ("POST .*/jobs/query", r"GET .*/jobs/query/\d+$", "GET .*/results"):
        org.faults = [(place, EXPIRED)]
        org.logins = 0
        assert counter.pull(opened).deliveries[0].landed == 5
        assert org.logins >= 1
    assert len(counter.desk.rows("contacts", "contact_id")) == 5


def test_a_session_that_ends_between_two_pulls_is_renewed(counter: Any, org: Org, opened: Any) -> None:
    org.contacts = [record(1)]
    counter.pull(opened)
    org.expire()
    assert counter.pull(opened).deliveries[0].landed == 1
    assert org.logins == 2


def test_a_session_that_never_holds_is_no_loop(counter: Any, org: Org, opened: Any) -> None:
    org.faults = [("/jobs/query", EXPIRED), ("/jobs/query", EXPIRED)]
    with pytest.raises(Permanent, match="does not accept the session"):
        counter.pull(opened)


def error(code: str, message: str = "…") -> list[dict[str, str]]:
    return [{"message": message, "errorCode": code}]


@pytest.mark.parametrize(
    ("place", "answer", "meant"),
    [
        ("/jobs/query", LIMIT, Transient("REQUEST_LIMIT_EXCEEDED", 3600)),
        ("/results", (503, error("SERVER_UNAVAILABLE")), Transient("SERVER_UNAVAILABLE")),
        ("/jobs/query", (500, "oops"), Transient("oops")),
        ("/jobs/query", (400, error("INVALID_FIELD", "No such column 'X'")), Permanent("No such column 'X'")),
        ("/jobs/query", (403, error("API_DISABLED_FOR_ORG")), Permanent("API_DISABLED_FOR_ORG")),
        ("/oauth2/token", (503, ""), Transient("answered the login with 503")),
        ("/oauth2/token", (400, {"error": "invalid_grant"}), Permanent("refused the login: invalid_grant")),
    ],
)
def test_faults_in_our_words(  # noqa: PLR0917  # what a table of tests hands over
    counter: Any, org: Org, opened: Any, place: str, answer: Any, meant: Exception
) -> None:
    org.contacts = [record(1)]
    org.faults = [(place, answer)]
    with pytest.raises(type(meant), match=str(meant)) as raised:
        counter.pull(opened)
    assert getattr(raised.value, "retry_after", None) == getattr(meant, "retry_after", None)
    assert "s3cret" not in str(raised.value)
    assert cursor(counter) == ""
    assert counter.pull(opened).clean  # and the next time all is well


def test_a_query_job_that_fails(counter: Any, org: Org, opened: Any) -> None:
    org.job_error = "InvalidBatch : query too complicated"
    with pytest.raises(Permanent, match="query too complicated"):
        counter.pull(opened)


def test_an_org_that_is_not_there(counter: Any) -> None:
    opened = counter.open("salesforce", url="http://127.0.0.1:9", client_id="a", client_secret="b", timeout=1)
    with pytest.raises(Transient, match="could not be reached"):
        counter.pull(opened)
    opened.close()


def people(counter: Any, org: Org, opened: Any, count: int) -> None:
    org.contacts = [record(n) for n in range(1, count + 1)]
    counter.pull(opened)


def pushed(org: Org) -> list[dict[str, tuple[str, str]]]:
    return [
        {row["Id"]: (row["Engagement_Score__c"], row["Engagement_Tier__c"]) for row in rows} for rows in org.upserts
    ]


def test_a_push_gives_scores_and_then_only_changes(counter: Any, org: Org, opened: Any) -> None:
    people(counter, org, opened, 3)
    counter.score({"00300001": 60, "00300002": 30, "00300003": 4})
    assert counter.push(opened).taken == 3
    counter.now += timedelta(days=1)
    counter.score({"00300001": 60, "00300002": 50})  # 3 lost their score
    assert counter.push(opened).taken == 2
    assert counter.push(opened).offered == 0  # nothing new: no job at all
    assert pushed(org) == [
        {"00300001": ("60.0", "hot"), "00300002": ("30.0", "warm"), "00300003": ("4.0", "cold")},
        {"00300002": ("50.0", "hot"), "00300003": ("#N/A", "#N/A")},
    ]


def test_records_salesforce_refuses_are_named_and_offered_again(counter: Any, org: Org, opened: Any) -> None:
    people(counter, org, opened, 4)
    counter.score({f"0030000{n}": 60 + n for n in range(1, 5)})
    org.refuse = {"00300002": "ENTITY_IS_DELETED:entity is deleted:--"}
    org.unprocessed = {"00300003"}
    report = counter.push(opened)
    assert (report.offered, report.taken, report.refused) == (4, 2, 2)
    assert dict(report.refusals) == {"00300002": "ENTITY_IS_DELETED:entity is deleted:--", "00300003": "not processed"}
    assert report.report is not None
    assert "00300002,ENTITY_IS_DELETED" in report.report.read_text()
    org.refuse, org.unprocessed = {}, set()
    assert counter.push(opened).taken == 2
    assert set(pushed(org)[1]) == {"00300002", "00300003"}
    assert counter.push(opened).offered == 0


def test_a_push_that_fails_as_a_whole_is_repeated_as_a_whole(counter: Any, org: Org, opened: Any) -> None:
    people(counter, org, opened, 2)
    counter.score({"00300001": 60, "00300002": 61})
    org.faults = [("PUT .*/batches", (503, [{"message": "busy", "errorCode": "SERVER_UNAVAILABLE"}]))]
    with pytest.raises(Transient, match="SERVER_UNAVAILABLE"):
        counter.push(opened)
    assert any("PATCH" in asked for asked in org.requests)  # the job it opened is aborted
    assert counter.push(opened).taken == 2


def test_a_session_that_expires_during_a_push(counter: Any, org: Org, opened: Any) -> None:
    people(counter, org, opened, 2)
    counter.score({"00300001": 60, "00300002": 61})
    org.expire()
    assert counter.push(opened).taken == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://example.my.salesforce.com"},
        {"url": "example.my.salesforce.com"},
        {"fields": {"email": "Email"}},
        {"fields": {"contact_id": "Id FROM Account"}},
        {"opted_out": {"HasOptedOutOfEmail": ["letter:marketing"]}},
        {"version": "latest"},
        {"page": 0},
        {"secret": "x"},
    ],
)
def test_settings_are_checked(counter: Any, wrong: dict[str, Any]) -> None:
    good = {"url": "https://example.my.salesforce.com", "client_id": "a", "client_secret": "b"}
    with pytest.raises(ValidationError):
        counter.open("salesforce", **good | wrong)


def test_the_secret_is_never_shown(opened: Any) -> None:
    assert "s3cret" not in repr(opened.settings)
