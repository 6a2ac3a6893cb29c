"""Bounce and complaint mails: whom they are about and what they mean; and that no mail at all can break the reader."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.errors import BadInput
from sendwave.esp.reports import parse
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.token import sign

KEY = b"0123456789abcdef" * 2
TOKEN = sign(KEY, 7, 42)
FORGED = sign(b"another key, not ours", 7, 42)
RECEIVED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

RETURNED = f"""\
Return-Path: <b-{TOKEN}@bounces.example>
X-Sendwave-Token: {TOKEN}
Message-ID: <{TOKEN}@maisonlune.example>
To: anne@shop.example
Subject: Les nouveaut=?utf-8?b?w6lz?=
"""


def mail(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def dsn(
    recipients: str,
    *,
    to: str = f"b-{TOKEN}@bounces.example",
    returned: str = RETURNED,
    kind: str = "text/rfc822-headers",
    extra: str = "",
) -> bytes:
    return mail(
        f"""\
Return-Path: <>
Delivered-To: {to}
From: MAILER-DAEMON@relay.example (Mail Delivery System)
To: {to}
Subject: Undelivered Mail Returned to Sender
Date: Mon, 2 Mar 2026 10:20:00 +0100
Message-ID: <20260302.1@relay.example>
Auto-Submitted: auto-replied
{extra}MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="AAA"

--AAA
Content-Type: text/plain

I'm sorry.

--AAA
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example
Arrival-Date: Mon, 2 Mar 2026 10:00:00 +0100

{recipients}
--AAA
Content-Type: {kind}

{returned}
--AAA--
"""
    )


def block(action: str = "failed", status: str = "5.1.1", diagnostic: str = "smtp; 550 5.1.1 User unknown") -> str:
    return (
        "Final-Recipient: rfc822; anne@shop.example\n"
        f"Original-Recipient: rfc822;anne@shop.example\nAction: {action}\nStatus: {status}\n"
        f"Remote-MTA: dns; mx.shop.example\nDiagnostic-Code: {diagnostic}\n"
    )


def read(body: bytes, key: bytes | None = KEY) -> Sequence[Event]:
    return parse(body, token_key=key, received_at=RECEIVED)


def one(body: bytes) -> Event:
    (event,) = read(body)
    return event


def test_a_postfix_bounce() -> None:
    assert one(dsn(block())) == Event(
        EventType.BOUNCE,
        datetime(2026, 3, 2, 9, 20, tzinfo=UTC),
        Permanence.HARD,
        Cause.UNKNOWN_USER,
        token=TOKEN,
        recipient="anne@shop.example",
        message_id=f"<{TOKEN}@maisonlune.example>",
        event_id="<20260302.1@relay.example>",
        enhanced_code="5.1.1",
        description="550 5.1.1 User unknown",
    )


@pytest.mark.parametrize(
    ("found", "meaning"),
    [
        (block("failed", "5.2.2", "smtp; 552 5.2.2 Mailbox full"), "bounce soft mailbox_full 5.2.2"),
        (block("failed", "5.0.0", "smtp; 550 5.1.1 unknown"), "bounce hard unknown_user 5.1.1"),
        (block("failed", "5.7.1", "smtp; 554 5.7.1 blocked using spamhaus"), "bounce soft blocked_reputation 5.7.1"),
        (block("failed", "4.4.1", "X-Postfix; connect to mx: Connection timed out"), "bounce soft expired 4.4.1"),
        (block("failed", "4.4.7", "smtp; delivery time expired"), "bounce soft expired 4.4.7"),
        (block("delayed", "4.4.1", "X-Postfix; connect to mx: Connection timed out"), "deferred soft other 4.4.1"),
        (block("delayed", "4.7.0", "smtp; 421 4.7.0 [TSS04] deferred"), "deferred soft blocked_reputation 4.7.0"),
        (block("DELIVERED (to mailbox)", "2.0.0", "smtp; 250 ok"), "delivered unknown None 2.0.0"),
        (block("relayed", "2.1.9", ""), "unknown unknown None 2.1.9"),
        (block("exploded", "5.1.1", ""), "bounce hard unknown_user 5.1.1"),
        (block("exploded", "", ""), "unknown unknown None None"),
        (block("failure", "5.1.1", ""), "bounce hard unknown_user 5.1.1"),
        (block("expanded", "5.1.1", ""), "unknown unknown None 5.1.1"),
        (block("", "5.1.1", ""), "bounce hard unknown_user 5.1.1"),
        (block("", "4.2.2", ""), "deferred soft mailbox_full 4.2.2"),
        (block("failed", "", ""), "bounce unknown other None"),
        (block("failed", "", "550 no such user"), "bounce hard unknown_user None"),
        (block("failed", "5.1.1 (bad destination)", "smtp; 550 no"), "bounce hard unknown_user 5.1.1"),
    ],
)  # fmt: skip
def test_actions_and_codes(found: str, meaning: str) -> None:
    event = one(dsn(found))
    assert f"{event.type} {event.permanence} {event.cause} {event.enhanced_code}" == meaning
    assert event.description


def test_a_diagnostic_that_forgot_to_be_indented() -> None:
    found = block().replace(
        "\nRemote", "\nDiagnostic-Code: smtp; 550-5.1.1 one\n550-5.1.1 two: three\n550 5.1.1 end\nRemote"
    )
    found = "Arrival-Date: x\n" + found.partition("Diagnostic-Code: smtp; 550 ")[0]
    lines = found.splitlines()
    first = [line for line in lines if line.startswith(("Arrival", "Diagnostic", "550"))]
    event = one(dsn("\n".join(first + [line for line in lines if line not in first])))
    assert (event.type, event.recipient, event.cause) == (EventType.BOUNCE, "anne@shop.example", Cause.UNKNOWN_USER)
    assert event.description.endswith("550 5.1.1 end")


def test_a_report_about_an_address_beyond_ascii() -> None:
    two = block(status="5.6.7", diagnostic="smtp; 550 5.6.7 no SMTPUTF8") + "\n" + block(status="5.2.2", diagnostic="")
    body = dsn(two.replace("anne@shop.example", "élodie@shop.example", 2).replace("rfc822", "utf-8"))
    events = read(body.replace(b"message/delivery-status", b"message/global-delivery-status"))
    assert [(e.recipient, e.cause) for e in events] == [
        ("élodie@shop.example", Cause.UNKNOWN_USER),
        ("anne@shop.example", Cause.MAILBOX_FULL),
    ]


def test_what_the_mail_system_says_of_itself_explains_no_bounce() -> None:
    found = block(
        status="4.4.1", diagnostic="X-Postfix; connect to mx.shop.example[192.0.2.9]:25: Connection timed out"
    )
    said = b"This is the mail system at host relay.example. I'm sorry to have to inform you"
    (event,) = read(dsn(found).replace(b"I'm sorry.", said))
    assert (event.permanence, event.cause) == (Permanence.SOFT, Cause.EXPIRED)


def test_several_recipients_in_one_report() -> None:
    other = block("delayed", "4.2.2").replace("anne", "bruno")
    events = read(dsn(f"{block()}\n{other}"))
    assert [(e.recipient, e.type) for e in events] == [
        ("anne@shop.example", EventType.BOUNCE),
        ("bruno@shop.example", EventType.DEFERRED),
    ]


@pytest.mark.parametrize(
    ("to", "returned", "token"),
    [
        (f"b-{TOKEN}@bounces.example", "", TOKEN),
        (f"B-{TOKEN.upper()}@Bounces.Example", "", TOKEN),
        (f'"x" <b-{TOKEN}@bounces.example>', "", TOKEN),
        ("postmaster@maisonlune.example", RETURNED, TOKEN),
        ("postmaster@maisonlune.example", f"Return-Path: <b-{TOKEN}@b.example>\n", TOKEN),
        ("postmaster@maisonlune.example", f"Message-ID: <{TOKEN}@maisonlune.example>\n", TOKEN),
        ("postmaster@maisonlune.example", f"x-sendwave-token:  {TOKEN} \n", TOKEN),
        ("postmaster@maisonlune.example", "Subject: somebody else's\nMessage-ID: <1@x.example>\n", None),
    ],
)
def test_whom_it_is_about(to: str, returned: str, token: str | None) -> None:
    event = one(dsn(block(), to=to, returned=returned))
    assert event.token == token
    assert event.recipient == "anne@shop.example"


@pytest.mark.parametrize(
    "body",
    [
        dsn(block(), to=f"b-{FORGED}@bounces.example"),
        dsn(block(), to=f"b-{'0' * 40}@bounces.example"),
        dsn(block(), to="postmaster@maisonlune.example", returned=f"X-Sendwave-Token: {FORGED}\n"),
        dsn(block(), to="postmaster@maisonlune.example", returned="X-Sendwave-Token: short\n"),
    ],
)
def test_forgeries_are_ignored(body: bytes) -> None:
    assert read(body) == ()


def test_without_a_key_no_token_is_believed() -> None:
    (event,) = read(dsn(block()), key=None)
    assert (event.token, event.recipient) == (None, "anne@shop.example")


def test_the_whole_mail_returned() -> None:
    event = one(dsn(block(), to="x@maisonlune.example", kind="message/rfc822", returned=f"{RETURNED}\nBonjour\n"))
    assert event.token == TOKEN


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_a_status_part_encoded_against_the_rules(encoding: str) -> None:
    status = f"Reporting-MTA: dns; relay.example\n\n{block()}"
    coded = (base64.encodebytes if encoding == "base64" else quopri.encodestring)(status.encode()).decode()
    body = dsn("@@").replace(
        b"message/delivery-status", f"message/delivery-status\nContent-Transfer-Encoding: {encoding}".encode()
    )
    start, end = body.index(b"Reporting-MTA"), body.index(b"@@") + 2
    event = one(body[:start] + mail(coded) + body[end:])
    assert (event.type, event.enhanced_code, event.token) == (EventType.BOUNCE, "5.1.1", TOKEN)


ARF = f"""\
From: <fbl@provider.example>
To: fbl@maisonlune.example
Subject: FW: Les nouveautes
Date: Mon, 2 Mar 2026 09:10:00 +0000
Message-ID: <arf-1@provider.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="BBB"

--BBB
Content-Type: text/plain

This is an email abuse report.

--BBB
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <anne@provider.example>
Arrival-Date: Thu, 26 Feb 2026 09:00:00 +0000

--BBB
Content-Type: message/rfc822

{RETURNED}
Bonjour

--BBB--
"""


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("abuse", EventType.COMPLAINT),
        ("Fraud", EventType.COMPLAINT),
        ("opt-out", EventType.UNSUBSCRIBE),
        ("opt-out-list", EventType.UNSUBSCRIBE),
        ("not-spam", EventType.UNKNOWN),
        ("auth-failure", EventType.UNKNOWN),
        ("", EventType.UNKNOWN),
    ],
)
def test_feedback_reports(word: str, kind: EventType) -> None:
    event = one(mail(ARF.replace("Feedback-Type: abuse", f"Feedback-Type: {word}")))
    assert (event.type, event.token, event.recipient) == (kind, TOKEN, "anne@provider.example")
    assert event.event_at == datetime(2026, 3, 2, 9, 10, tzinfo=UTC)
    assert "SomeGenerator" in event.description


def test_a_redacted_feedback_report_is_known_by_its_token() -> None:
    event = one(
        mail(ARF.replace("Original-Rcpt-To: <anne@provider.example>\n", "").replace("To: anne@shop", "To: [redacted]"))
    )
    assert (event.type, event.token) == (EventType.COMPLAINT, TOKEN)


def test_who_blacks_everything_out_still_says_where_bounces_go() -> None:
    black = ARF.replace(f"{RETURNED}\n", "To: [redacted]\n\n").replace(
        "Version: 1\n", f"Version: 1\nOriginal-Mail-From: <b-{TOKEN}@bounces.example>\n"
    )
    assert [(e.type, e.token) for e in read(mail(black))] == [(EventType.COMPLAINT, TOKEN)]
    assert read(mail(black.replace(TOKEN, FORGED))) == ()


def test_a_complaint_about_several_recipients() -> None:
    several = ARF.replace(f"{RETURNED}\n", "Subject: x\n\n").replace(
        "Arrival-Date", "Original-Rcpt-To: <bruno@provider.example>\nArrival-Date"
    )
    assert [e.recipient for e in read(mail(several))] == ["anne@provider.example", "bruno@provider.example"]


def test_a_forged_complaint_is_ignored() -> None:
    assert read(mail(ARF.replace(TOKEN, FORGED))) == ()


def test_microsofts_junk_report() -> None:
    body = f"""\
From: staff@hotmail.com
To: jmrp@maisonlune.example
Subject: complaint about message from 192.0.2.25
Content-Type: multipart/mixed; boundary="CCC"

--CCC
Content-Type: message/rfc822

X-HmXmrOriginalRecipient: anne@hotmail.example
{RETURNED}
Bonjour

--CCC--
"""
    event = one(mail(body))
    assert (event.type, event.token, event.recipient) == (EventType.COMPLAINT, TOKEN, "anne@hotmail.example")


def plain(headers: str, body: str = "Bonjour", sender: str = "anne@shop.example") -> bytes:
    return mail(f"From: {sender}\nTo: b-{TOKEN}@bounces.example\n{headers}\n{body}\n")


@pytest.mark.parametrize(
    "body",
    [
        plain("Subject: Re: Les nouveautes\n"),
        plain("Subject: Absence du bureau\nAuto-Submitted: auto-replied (vacation)\n"),
        plain("Subject: Out of office: back on Monday\n"),
        plain("Subject: Réponse automatique\n"),
        plain("Subject: x\nX-Autoreply: yes\n"),
        plain("Subject: x\nPrecedence: auto_reply\n", sender="postmaster@shop.example"),
        plain("Subject: Automatic reply: hello\n", sender="postmaster@shop.example"),
    ],
)
def test_people_and_their_robots_are_no_events(body: bytes) -> None:
    assert read(body) == ()


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        ("Created automatically.\n\n  anne@shop.example\n    550 5.1.1 unknown user", "bounce hard unknown_user"),
        ("<anne@shop.example>:\n192.0.2.1 does not like us.\nIt said: 552 mailbox full", "bounce soft mailbox_full"),
        ("Your message could not be delivered. Sorry.", "bounce unknown other"),
        ("Something about Bonjour.", "unknown unknown None"),
    ],
)  # fmt: skip
def test_bounces_in_nobodys_format(body: str, meaning: str) -> None:
    event = one(plain("Subject: notice\n", body, sender="MAILER-DAEMON@old.example"))
    assert f"{event.type} {event.permanence} {event.cause}" == meaning
    assert event.token == TOKEN


def test_exims_failed_recipients_header() -> None:
    body = plain(
        "X-Failed-Recipients: anne@shop.example\n", "Unrouteable mail domain", sender="Mailer-Daemon@exim.example"
    )
    event = one(body)
    assert (event.recipient, event.cause) == ("anne@shop.example", Cause.BAD_DOMAIN)


def test_no_from_header_at_all() -> None:
    event = one(dsn(block()).replace(b"From: MAILER-DAEMON@relay.example (Mail Delivery System)\r\n", b""))
    assert event.type is EventType.BOUNCE


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Mon, 2 Mar 2026 10:20:00 +0100", datetime(2026, 3, 2, 9, 20, tzinfo=UTC)),
        ("Mon, 2 Mar 2026 09:20:00 -0000", datetime(2026, 3, 2, 9, 20, tzinfo=UTC)),
        ("Mon, 2 Mar 2037 09:20:00 +0000", RECEIVED),
        ("yesterday", RECEIVED),
        ("", RECEIVED),
        ("Mon, 99 Foo 2026 99:99:99 +9999", RECEIVED),
    ],
)
def test_dates(date: str, expected: datetime) -> None:
    body = dsn(block()).replace(b"Mon, 2 Mar 2026 10:20:00 +0100", date.encode())
    assert one(body).event_at == expected


def test_the_last_attempt_is_when_it_happened() -> None:
    event = one(dsn(block() + "Last-Attempt-Date: Mon, 2 Mar 2026 09:05:00 +0000\n"))
    assert event.event_at == datetime(2026, 3, 2, 9, 5, tzinfo=UTC)


def nested(depth: int) -> bytes:
    text = "Content-Type: text/plain\n\nBonjour\n"
    for level in range(depth):
        text = f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n{text}\n--b{level}--\n"
    return mail("From: MAILER-DAEMON@x.example\n" + text)


@pytest.mark.parametrize(
    "body",
    [
        nested(30),
        nested(600),
        dsn(block())[:400],
        dsn(block())[:900],
        dsn("Final-Recipient\nAction"),
        dsn(block()).replace(b"Content-Type: text/plain", b"Content-Type: text/plain; charset=klingon"),
        dsn(block()).replace(b"User unknown", b"\xff\xfe\x00 inconnu \x80"),
        dsn(block()).replace(b"MAILER-DAEMON@relay.example", b"=?bad?q?=FF=?= \xe9 <<>"),
        b"Content-Type: multipart/report; boundary=\n\n--",
        b"Subject: only a header",
        b"Content-Type: message/delivery-status\n\n\n\n\n",
        b"Content-Type: message/feedback-report\n\n",
        b"Content-Type: message/rfc822\n\n",
    ],
)
def test_broken_mails_are_read_or_refused(body: bytes) -> None:
    try:
        assert all(isinstance(event, Event) for event in read(body))
    except BadInput:
        return


@pytest.mark.parametrize("body", [b"", b"\n\n", b"\x00\xff", b"no colon here\n"])
def test_what_is_no_mail(body: bytes) -> None:
    with pytest.raises(BadInput, match="no mail"):
        read(body)


@given(st.data())
def test_no_mail_breaks_the_reader(data: st.DataObject) -> None:
    body = data.draw(
        st.sampled_from([dsn(block()), mail(ARF), plain("Subject: x\n", "550 5.1.1 x", "MAILER-DAEMON@x")])
    )
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 40)))
        body = body[:start] + data.draw(st.binary(max_size=20)) + body[end:]
    try:
        events = read(body)
    except BadInput:
        return
    assert all(event.token in {None, TOKEN} for event in events)
    assert all(event.event_at <= RECEIVED for event in events)
