"""Bounces in nobody's format, as servers of all ages and countries word them; and what only looks like one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sendwave.errors import BadInput
from sendwave.esp.reports import parse
from sendwave.rules.events import Event, EventType
from sendwave.rules.token import sign

KEY = b"0123456789abcdef" * 2
TOKEN = sign(KEY, 7, 42)
RECEIVED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
COPY = f"""\
Received: from relay.maisonlune.example by mx.shop.example; Mon, 2 Mar 2026 10:00:00 +0100
Message-ID: <{TOKEN}@maisonlune.example>
X-Sendwave-Token: {TOKEN}
From: Maison Lune <news@maisonlune.example>
To: anne@shop.example
Subject: spam virus quota: words of ours say nothing

This mailbox is full of 550 offers.
"""


def mail(
    body: str, *, sender: str = "MAILER-DAEMON@mx.shop.example", subject: str = "failure notice", extra: str = ""
) -> bytes:
    return (
        f"Return-Path: <>\nFrom: {sender}\nTo: bounces@maisonlune.example\nSubject: {subject}\n"
        f"Date: Mon, 2 Mar 2026 10:20:00 +0100\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: 8bit\n{extra}\n{body}"
    ).encode()


def read(body: bytes) -> list[Event]:
    return list(parse(body, token_key=KEY, received_at=RECEIVED))


def told(events: list[Event]) -> list[str]:
    return [f"{e.type} {e.permanence} {e.cause} {e.recipient}" for e in events]


ANNE = "anne@shop.example"
WORDED = {
    "qmail": (
        (f"Hi, qmail here.\nThis is a permanent error.\n\n<{ANNE}>:\nSorry, no mailbox here by that name. (#5.1.1)\n\n"
        f"--- Below this line is a copy of the message.\n\n{COPY}"),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "qmail, two of them": (
        (f"<{ANNE}>:\n192.0.2.9 does not like recipient.\nRemote host said: 550 5.1.1 no such user\n\n"
        f"<zoe@mail.example>:\nThe user's mailfolder is full. Call 480-624-2500.\n\n--- Enclosed is a copy\n\n{COPY}"),
        [f"bounce hard unknown_user {ANNE}", "bounce soft mailbox_full zoe@mail.example"],
    ),
    "Exim": (
        ("A message that you sent could not be delivered to one or more of its recipients.\n"
        f"The following address(es) failed:\n\n  {ANNE}\n    host mx.shop.example [192.0.2.9]\n"
        "    SMTP error from remote mail server after RCPT TO:<anne@shop.example>:\n"
        f"    550-5.7.1 Client host blocked using a blacklist\n    550 see the link\n\n"
        f"------ This is a copy of the message, including all the headers. ------\n\n{COPY}"),
        [f"bounce soft blocked_reputation {ANNE}"],
    ),
    "Exim, forwarded": (
        f"It failed for:\n\n  an undisclosed address\n    (generated from {ANNE})\n    Unrouteable address\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Sendmail": (
        ("The original message was received at Mon, 2 Mar 2026\nfrom relay.maisonlune.example [192.0.2.1]\n\n"
        f"   ----- The following addresses had permanent fatal errors -----\n<{ANNE}>\n\n"
        "   ----- Transcript of session follows -----\n... while talking to mx.shop.example.:\n"
        ">>> RCPT To:<anne@shop.example>\n<<< 552 5.2.2 Over quota\n554 5.0.0 Service unavailable\n"),
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "old Postfix": (
        f"This is the mail system.\n\n<{ANNE}>: Name service error for domain shop.example: Host not\n    found\n",
        [f"bounce hard bad_domain {ANNE}"],
    ),
    "old Exchange": (
        ("Your message\n\n  To:      news@maisonlune.example\n  Subject: Bonjour\n\n"
        f"did not reach the following recipient(s):\n\n{ANNE} on Mon, 2 Mar 2026 10:20\n"
        "    The recipient name is not recognized\n\tThe MTS-ID of the original message is: c=us;a= ;l=X\n"),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "an X.400 gateway": (
        ("did not reach the following recipient(s):\n\nc=FR;a= ;p=SHOP;o=Lune;dda:SMTP=anne@shop.example; on Mon\n"
        "    Unknown Recipient\n"),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Exchange 2007 and later, in words": (
        (f"Delivery has failed to these recipients or groups:\n\n{ANNE}<mailto:{ANNE}>\n"
        "The e-mail address you entered couldn't be found.\n\nDiagnostic information for administrators:\n\n"
        f"Generating server: mx.shop.example\n\n{ANNE}\n"
        "#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##\n"),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Domino": (
        (f"Your message\n\n  Subject: Bonjour\n\nwas not delivered to:\n\n  {ANNE}\n\nbecause:\n\n"
        f"  User anne ({ANNE}) not listed in Domino Directory\n"),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Gmail": (
        (f"Delivery to the following recipient failed permanently:\n\n     {ANNE}\n\n"
        "Technical details of permanent failure:\nThe error that the other server returned was: 550 550 5.7.1 Message "
        f"refused as spam (state 14).\n\n   ----- Original message -----\n\n{COPY}"),
        [f"bounce soft content {ANNE}"],
    ),
    "Gmail, about a full mailbox": (
        (
            f"Delivery to the following recipient failed permanently:\n\n     {ANNE}\n\n"
            "It was rejected by the server for the recipient domain shop.example by mx.shop.example. [192.0.2.9].\n\n"
            "The error that the other server returned was:\n452 4.2.2 The mailbox is over quota\n"
        ),
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "Office 365, in words": (
        (
            f"{ANNE}<mailto:{ANNE}>\nThe email address wasn't found at the destination domain.\n\n"
            "Original Message Details\nSender Address: news@maisonlune.example\nRecipient Address: anne@shop.example\n"
        ),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Portuguese": (
        f"Não foi possível entregar a mensagem a:\n\n<{ANNE}>\nUsuário inexistente\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Dutch": (
        f"Uw bericht kon niet worden afgeleverd bij:\n\n{ANNE}\n  gebruiker onbekend\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Swedish": (
        f"Meddelandet kunde inte levereras till:\n\n{ANNE}\n  okänd mottagare\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Polish": (
        f"Wiadomość nie została dostarczona do:\n\n{ANNE}\n  skrzynka odbiorcy jest pełna\n",
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "French, full": (
        f"Votre message n'a pas pu être distribué ; non distribué à :\n\n{ANNE}\n  boîte aux lettres pleine\n",
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "Yahoo": (
        (f"Message from yahoo.example.\nUnable to deliver message to the following address(es).\n\n<{ANNE}>:\n"
        f"This user doesn't have a yahoo.example account ({ANNE}) [-9]\n\n--- Original message follows.\n\n{COPY}"),
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "IMail": (f"Invalid final delivery userid: {ANNE}\n\nOriginal message follows.\n\n{COPY}",
              [f"bounce hard unknown_user {ANNE}"]),
    "MDaemon": (
        ("The following addresses did NOT receive a copy of your message:\n\n> anne@shop.example\n\n"
        "--- Transcript ---\n RCPT To:<anne@shop.example>\n 452 mailbox quota exceeded\n--- End Transcript ---\n"),
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "a gateway with labels": (
        f"Failed Recipient: {ANNE}\nReason: Remote host said: 550 unknown user <{ANNE}>\n\n-- The header follows --\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "French": (
        f"Votre message n'a pas pu être délivré à\n{ANNE}\n\nL'adresse de messagerie du destinataire n'existe pas.\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "German": (
        f"Ihre Nachricht konnte nicht zugestellt werden an:\n\n{ANNE}\n    Das Postfach des Empfängers ist voll.\n",
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "Japanese": (
        f"次のあて先へのメッセージは配信できませんでした。\n\n<{ANNE}>\nユーザーが見つかりません\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Russian": (
        f"Ваше сообщение не может быть доставлено:\n\n{ANNE}\n    пользователь не найден\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Spanish": (
        f"Su mensaje no pudo ser entregado.\n\n<{ANNE}>:\nEl buzón está lleno\n",
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "Spanish, by another server": (
        f"No se ha podido entregar su mensaje a:\n\n{ANNE}\n\nEl usuario no existe.\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "Italian": (
        f"Impossibile recapitare il messaggio a:\n\n<{ANNE}>\n\nLa casella del destinatario è piena\n",
        [f"bounce soft mailbox_full {ANNE}"],
    ),
    "Portuguese, by another server": (
        f"Sua mensagem não foi entregue a:\n\n{ANNE}\n\nUsuário inexistente\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "a reply quoted in brackets": (
        f"Недоставлено.\n\n<{ANNE}>: host mx[192.0.2.9] said: 550 5.7.1 No such user! (in reply to RCPT TO command)\n",
        [f"bounce hard unknown_user {ANNE}"],
    ),
    "waited in vain": (
        (f"I could not deliver this:\n\n<{ANNE}>:\nI wasn't able to establish an SMTP connection. (#4.4.1)\n"
        "I'm not going to try again; this message has been in the queue too long.\n"),
        [f"bounce soft expired {ANNE}"],
    ),
    "an old Sendmail": (
        (
            "   ----- Transcript of session -----\n421 shop.example (smtp)... Deferred: Connection timed out\n\n"
            f"   ----- Unsent message follows -----\n{COPY}"
        ),
        [f"bounce soft expired {ANNE}"],
    ),
    "says nothing but no": (f"Delivery failed.\n\n{ANNE}\n", [f"bounce unknown other {ANNE}"]),
    "names nobody": ("Your mail could not be delivered: user unknown.\n", ["bounce hard unknown_user None"]),
    "names nobody but returns the mail": (
        f"Your mail could not be delivered: user unknown.\n\n---- Original message ----\n{COPY}",
        [f"bounce hard unknown_user {ANNE}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDED)
def test_a_worded_bounce(name: str) -> None:
    body, expected = WORDED[name]
    events = read(mail(body))
    assert told(events) == expected
    if "X-Sendwave-Token" in body:
        assert {event.token for event in events} == {TOKEN}
        assert {event.message_id for event in events} == {f"<{TOKEN}@maisonlune.example>"}


@pytest.mark.parametrize(
    "body",
    [
        f"Your message has not yet been delivered to:\n\n  {ANNE}\n\nDelivery attempts will continue for some time.\n",
        f"THIS IS A WARNING MESSAGE ONLY.\n\nDelivery to the following recipient has been delayed:\n\n     {ANNE}\n",
        f"Delivery to {ANNE} has been postponed due to a full mailbox.\nWe will continue to try.\n",
        f"Ihre Nachricht wurde noch nicht zugestellt, weitere Versuche folgen.\n\n<{ANNE}>\n",
        f"Votre message n'a pas encore été remis, d'autres essais suivront.\n\n<{ANNE}>\n",
    ],
)
def test_a_delay_is_no_bounce(body: str) -> None:
    (event,) = read(mail(body, subject="Delivery Status Notification (Delay)"))
    assert (event.type, event.permanence, event.recipient) == (EventType.DEFERRED, "soft", ANNE)


@pytest.mark.parametrize(
    ("sender", "subject", "expected"),
    [
        ("Mail_Service@mx.example", "Returned mail: error during delivery", 1),
        ("System Administrator <it@mx.example>", "Undeliverable: Bonjour", 1),
        ("<>", "Mail Delivery Failure", 1),
        ("no-reply@mx.example", "=?utf-8?b?44Oh44O844Or44Ko44Op44O86YCa55+l?=", 1),  # "mail error notice" in Japanese
        ("Zoe <zoe@shop.example>", "Re: Undeliverable: Bonjour", 0),
        ("Zoe <zoe@shop.example>", "About your newsletter", 0),
    ],
)
def test_who_wrote_it(sender: str, subject: str, expected: int) -> None:
    body = mail(f"Message not delivered to {ANNE}: user unknown\n", sender=sender, subject=subject)
    assert len(read(body.replace(b"Return-Path: <>\n", b""))) == expected


def test_a_header_written_without_spaces_is_found() -> None:
    copy = COPY.replace(": ", ":")
    (event,) = read(mail(f"It could not be delivered to {ANNE}: user unknown\n\n{copy}"))
    assert (event.token, event.recipient) == (TOKEN, ANNE)


def test_lines_may_end_anyhow() -> None:
    body = mail(WORDED["qmail"][0])
    events = read(body)
    assert events == read(body.replace(b"\n", b"\r\n")) == read(body.replace(b"\n", b"\r"))
    assert events[0].recipient == ANNE


def test_a_page_of_html() -> None:
    page = (
        "<html><head><title>x</title><style>p {color: red}</style></head><body><p>Your message did not reach:<br>"
        f"<b>{ANNE}</b></p><p>The recipient&nbsp;name is not recognized</p></body></html>"
    )
    body = mail(page).replace(b"text/plain", b"text/html")
    assert told(read(body)) == [f"bounce hard unknown_user {ANNE}"]


def test_a_status_that_says_little_is_completed_by_the_words() -> None:
    body = mail("", extra="")
    head, _, _ = body.partition(b"Content-Type")
    parts = (
        'Content-Type: multipart/report; report-type=delivery-status; boundary="B"\n\n--B\n\n'
        f"<{ANNE}>: the user's mailbox is full\n\n--B\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.example\n\nFinal-Recipient: rfc822; {ANNE}\nAction: failed\nStatus: 5.0.0\n\n--B--\n"
    )
    assert told(read(head + parts.encode())) == [f"bounce soft mailbox_full {ANNE}"]


def test_a_report_wrapped_by_a_gateway() -> None:
    inner = (
        "From: postmaster@mx.example\nTo: bounces@maisonlune.example\nSubject: failed\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="B"\n\n'
        "--B\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n"
        f"Final-Recipient: rfc822; {ANNE}\nAction: failed\nStatus: 5.1.1\n\n--B--\n"
    )
    outer = (
        mail("")
        .decode()
        .replace("Content-Type: text/plain; charset=utf-8\n", "")
        .replace("Content-Transfer-Encoding: 8bit\n", "")
    )
    outer = (
        outer.strip()
        + f'\nContent-Type: multipart/mixed; boundary="A"\n\n--A\nContent-Type: message/rfc822\n\n{inner}\n--A--\n'
    )
    assert told(read(outer.encode())) == [f"bounce hard unknown_user {ANNE}"]


def test_the_mail_that_asks_to_be_left_alone() -> None:
    body = mail("please", sender="Anne <anne@shop.example>", subject=f"unsubscribe-{TOKEN}")
    (event,) = read(body.replace(b"Return-Path: <>\n", b""))
    assert (event.type, event.token, event.recipient) == (EventType.UNSUBSCRIBE, TOKEN, ANNE)
    forged = body.replace(TOKEN.encode(), sign(b"another key, not ours", 7, 42).encode())
    assert read(forged) == []


def test_a_second_opinion_costs_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_mail: object) -> None:
        raise IndexError("as some detectors do")

    monkeypatch.setattr("flufl.bounce.all_failures", fails)
    assert told(read(mail("Your mail could not be delivered: user unknown.\n"))) == ["bounce hard unknown_user None"]
    monkeypatch.setattr("flufl.bounce.all_failures", lambda _mail: (set(), {b"anne@shop.example", b"anne"}))
    assert told(read(mail("It could not be delivered: user unknown.\n"))) == [f"bounce hard unknown_user {ANNE}"]


def bomb(part: str, times: int) -> bytes:
    return mail("").partition(b"Content-Type")[0] + part.encode() * times


@pytest.mark.parametrize(
    "body",
    [
        mail("").partition(b"Content-Type")[0]
        + b"Content-Type: multipart/mixed; boundary=b\n\n"
        + b"--b\nContent-Type: text/plain\n\n550 5.1.1 user unknown\n" * 3_000,
        bomb("Content-Type: message/rfc822\n\n", 2_000),
        bomb("Content-Type: multipart/mixed; boundary=b\n\n--b\n", 2_000),
        mail("<" * 200_000).replace(b"text/plain", b"text/html"),
        mail("<style>" * 20_000).replace(b"text/plain", b"text/html"),
        mail("a@b.example " * 50_000 + "user unknown"),
        mail("a." * 20_000 + "@" + "b." * 20_000 + " user unknown"),
        mail("", extra="X-Failed-Recipients: " + "a@b.example," * 20_000 + "\n"),
        mail("user unknown", subject="=?utf-8?q?" * 20_000),
        mail("user unknown", sender="(" * 50_000),
        mail("user unknown").replace(b"charset=utf-8", b"charset=punycode"),
        mail("user unknown").replace(b"charset=utf-8", b"charset=zlib"),
        mail("user unknown").replace(b"8bit", b"base64"),
    ],
    ids=range(13),
)
def test_no_bomb_goes_off(body: bytes) -> None:
    try:
        assert all(isinstance(event, Event) for event in read(body))
    except BadInput as refused:
        assert "cannot be read" in str(refused)  # noqa: PT017  # it may be read as well


@pytest.mark.parametrize(
    "subject", ["unsubscribe", "Re: Unsubscribe", "=?utf-8?q?D=C3=A9sinscription?=", "Opt-out", "STOP"]
)
def test_so_does_one_without_a_token(subject: str) -> None:
    body = mail("", sender="Anne <anne@shop.example>", subject=subject, extra="Auto-Submitted: auto-replied\n")
    (event,) = read(body.replace(b"Return-Path: <>\n", b""))
    assert (event.type, event.token, event.recipient) == (EventType.UNSUBSCRIBE, None, ANNE)


@pytest.mark.parametrize(
    "subject",
    ["Message d'absence", "Congés", "Abwesenheitsnotiz: Bonjour", "Automatisch antwoord: Bonjour", "自動返信: Bonjour",
     "Fuera de la oficina", "Fuori sede: Bonjour", "Vacation reply", "Resposta automática: Bonjour"],
)  # fmt: skip
def test_a_holiday_is_no_bounce_in_any_language(subject: str) -> None:
    body = mail(
        "My mailbox is full, so no message can be delivered.\n", sender="Anne <anne@shop.example>", subject=subject
    )
    assert read(body) == []


@pytest.mark.parametrize("word", ["displayed", "processed"])
def test_a_receipt_is_no_bounce(word: str) -> None:
    body = (
        "From: Anne <anne@shop.example>\nReturn-Path: <>\nSubject: Read: Bonjour\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="B"\n\n--B\n\n'
        "Your message was displayed; could not be delivered to spam.\n\n--B\n"
        "Content-Type: message/disposition-notification\n\n"
        f"Final-Recipient: rfc822; {ANNE}\nDisposition: manual-action/MDN-sent-manually; {word}\n\n--B--\n"
    )
    assert read(body.encode()) == []
