"""One person's mail: headers, encodings, and nothing a field contains gets out of its place."""

from __future__ import annotations

import email
import re
from datetime import datetime
from email.header import decode_header, make_header
from email.message import Message as Mail
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.errors import Permanent
from sendwave.esp.base import Message
from sendwave.esp.content import Content
from sendwave.esp.mime import BadAddress, Letter, Letters

TOKEN = "01" * 20


def letters(
    folder: Path,
    now: datetime,
    *,
    text: str | None = "Bonjour {{ first_name }}",
    html: str | None = None,
    **changed: Any,
) -> Letters:
    folder.mkdir(exist_ok=True)
    for name, body in (("body.txt", text), ("body.html", html)):
        (folder / name).unlink(missing_ok=True)
        if body is not None:
            (folder / name).write_text(body, encoding="utf-8", newline="")
    chosen = {
        "campaign": "lettre-mars",
        "type": "newsletter",
        "sender": "Maison Lune <news@maisonlune.example>",
        "subject": "Les nouveautés",
        "unsubscribe": "https://maisonlune.example/u/{token}",
        "reply_to": "Élodie <aide@maisonlune.example>",
    }
    message = Message(**(chosen | changed))
    return Letters(
        message, Content(folder, message.subject), wave=2, now=now, bounce_domain="bounces.example",
        unsubscribe_mailbox="leave@maisonlune.example",
    )  # fmt: skip


def read(letter: Letter) -> Mail:
    assert letter.data.endswith(b"\r\n.\r\n")
    return email.message_from_bytes(re.sub(rb"(?m)^\.", b"", letter.data.removesuffix(b".\r\n")))


def header(mail: Mail, name: str) -> str:
    return str(make_header(decode_header(mail[name])))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "content"


def test_headers(folder: Path, now: datetime) -> None:
    letter = letters(folder, now).write("zoe@orange.example", TOKEN, {"first_name": "Zoé"})
    mail = read(letter)
    assert (letter.sender, letter.recipient) == (f"b-{TOKEN}@bounces.example", "zoe@orange.example")
    found = {name: header(mail, name) for name in mail if not name.startswith("Content")}
    assert found == {
        "From": "Maison Lune <news@maisonlune.example>",
        "Reply-To": "Élodie <aide@maisonlune.example>",
        "Date": "Mon, 02 Mar 2026 09:00:00 +0000",
        "MIME-Version": "1.0",
        "List-Id": "<newsletter.maisonlune.example>",
        "Precedence": "bulk",
        "Feedback-ID": "lettre-mars:newsletter:w2:maisonlune",
        "Subject": "Les nouveautés",
        "To": "zoe@orange.example",
        "Message-ID": f"<{TOKEN}@maisonlune.example>",
        "X-Sendwave-Token": TOKEN,
        "List-Unsubscribe": f"<https://maisonlune.example/u/{TOKEN}>, "
        f"<mailto:leave@maisonlune.example?subject=unsubscribe-{TOKEN}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def test_service_mail_is_no_list_mail(folder: Path, now: datetime) -> None:
    mail = read(letters(folder, now, unsubscribe=None).write("zoe@orange.example", TOKEN, {}))
    assert mail["List-Id"] is None
    assert mail["Precedence"] is None
    assert mail["List-Unsubscribe-Post"] is None


def test_both_bodies_make_an_alternative(folder: Path, now: datetime) -> None:
    made = letters(folder, now, text="Été {{ first_name }}\n", html="<p>{{ first_name }}</p>")
    mail = read(made.write("zoe@orange.example", TOKEN, {"first_name": "<Zoé & co>"}))
    assert mail.get_content_type() == "multipart/alternative"
    text, html = mail.get_payload()
    assert text.get_content_type() == "text/plain"
    assert text.get_payload(decode=True).decode() == "Été <Zoé & co>\r\n"
    assert html.get_payload(decode=True).decode() == "<p>&lt;Zoé &amp; co&gt;</p>\r\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain", "7bit"),
        ("été", "quoted-printable"),
        ("x" * 998, "7bit"),
        ("x" * 999, "quoted-printable"),
        ("nul \x00 byte", "quoted-printable"),
        ("\r\ntwo\rkinds\nof ends\r\n", "7bit"),
        (".leading\n..dots\n.\nend", "7bit"),
        ("é.\n.leading\n.\nend   \nFrom here", "quoted-printable"),
    ],
)
def test_bodies_survive_their_encoding(folder: Path, now: datetime, text: str, encoding: str) -> None:
    mail = read(letters(folder, now, text=text).write("zoe@orange.example", TOKEN, {}))
    assert mail["Content-Transfer-Encoding"] == encoding
    expected = re.sub("\r\n?", "\n", text)
    assert mail.get_payload(decode=True).decode().replace("\r\n", "\n").rstrip("\n") == expected.rstrip("\n")


@given(st.text(max_size=300))
def test_any_field_stays_in_the_body_and_the_subject(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    now = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
    made = letters(
        tmp_path_factory.getbasetemp() / "fuzz", now, subject="Bonjour {{ first_name }}!", text="A{{ first_name }}B"
    )
    letter = made.write("zoe@orange.example", TOKEN, {"first_name": value})
    mail = read(letter)
    assert len(mail.keys()) == 15
    assert mail["Subject"].count("\n") == mail["Subject"].count("\n ")
    assert header(mail, "X-Sendwave-Token") == TOKEN
    body = mail.get_payload(decode=True).decode()
    assert body.startswith("A")
    assert body.rstrip("\r\n").endswith("B")
    assert b"\r\n.\r\n" not in letter.data[:-3]
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", letter.data)
    assert max(map(len, letter.data.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ("Maison Lune <news@m.example>", "Maison Lune <news@m.example>"),
        ("Éléa, mode & co <news@m.example>", "Éléa, mode & co <news@m.example>"),
        ('"Éléa, mode" <news@m.example>', "Éléa, mode <news@m.example>"),
        ("news@m.example", "news@m.example"),
        ("A\r\nBcc: x@y.example <news@m.example>", '"A Bcc: x@y.example" <news@m.example>'),
        ("Maison Lune", None),
        ("Maison Lune <news>", None),
        ("Maison Lune <news@m.example>, Autre <b@m.example>", None),
    ],
)
def test_sender(folder: Path, now: datetime, sender: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(Permanent, match="is no address"):
            letters(folder, now, sender=sender)
        return
    assert header(read(letters(folder, now, sender=sender).write("z@o.example", TOKEN, {})), "From") == shown


@pytest.mark.parametrize(
    "address",
    ["", "zoe", "zoe@", "a@b@c", "zoe @o.example", "zoe@o.example\n", "<zoe@o.example>", "zoé@", "zoe@o.example,"],
)
def test_bad_addresses(folder: Path, now: datetime, address: str) -> None:
    with pytest.raises(BadAddress):
        letters(folder, now).write(address, TOKEN, {})


@pytest.mark.parametrize(
    ("address", "recipient", "international"),
    [
        ("zoe+news@o.example", "zoe+news@o.example", False),
        ("zoe@forêt.example", "zoe@xn--fort-ipa.example", False),
        ("zoé@o.example", "zoé@o.example", True),
    ],
)
def test_addresses(folder: Path, now: datetime, address: str, recipient: str, international: bool) -> None:
    letter = letters(folder, now).write(address, TOKEN, {})
    assert (letter.recipient, letter.international) == (recipient, international)
