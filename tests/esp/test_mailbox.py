"""The Maildir feed and the listener that fills it."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from sendwave import esp
from sendwave.errors import BadInput, Busy
from sendwave.esp import mailbox
from sendwave.esp.base import EspAdapter
from sendwave.rules.events import EventType
from sendwave.rules.token import sign

KEY = b"0123456789abcdef" * 2
TOKEN = sign(KEY, 3, 1)
BOUNCE = b"From: MAILER-DAEMON@x.example\r\nSubject: failure\r\n\r\n<anne@shop.example>: 550 5.1.1 User unknown\r\n"
Make = Callable[..., EspAdapter]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Make]:
    """Makes smtp adapters that read bounces from a Maildir."""
    made: list[EspAdapter] = []

    def make(**bounces: Any) -> EspAdapter:
        settings = {"esp": "smtp", "bounce_domain": "bounces.example", "bounces": {"maildir": "mail", **bounces}}
        made.append(esp.make(settings, route="main", home=tmp_path, token_key=KEY))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_maildir_is_made(feed: Make, tmp_path: Path, now: datetime) -> None:
    assert list(feed().poll(now)) == []
    assert names(tmp_path / "mail") == ["cur", "new", "tmp"]


def test_mails_of_any_mail_server_are_read_and_kept(feed: Make, tmp_path: Path, now: datetime) -> None:
    adapter = feed()
    list(adapter.poll(now))
    for name in ("1772442000.M1P2.host", "1772442001.M1P2.host:2,"):
        (tmp_path / "mail" / "new" / name).write_bytes(BOUNCE)
    reports = list(adapter.poll(now))
    assert [report.body for report in reports] == [BOUNCE, BOUNCE]
    adapter.acknowledge(reports[:1])
    assert [report.ref for report in adapter.poll(now)] == ["1772442001.M1P2.host:2,"]
    adapter.acknowledge(reports)
    assert names(tmp_path / "mail" / "cur") == ["1772442000.M1P2.host:2,S", "1772442001.M1P2.host:2,S"]
    assert (tmp_path / "mail" / "cur" / "1772442000.M1P2.host:2,S").read_bytes() == BOUNCE


def test_a_mail_that_somebody_else_took_is_passed_over(feed: Make, tmp_path: Path, now: datetime) -> None:
    adapter = feed()
    list(adapter.poll(now))
    for name in ("a", "b"):
        (tmp_path / "mail" / "new" / name).write_bytes(BOUNCE)
    waiting = iter(adapter.poll(now))
    first = next(waiting)
    (tmp_path / "mail" / "new" / "b").unlink()
    assert (first.ref, list(waiting)) == ("a", [])


def test_the_same_mail_twice_is_one(tmp_path: Path) -> None:
    for part in ("tmp", "new"):
        (tmp_path / part).mkdir()
    assert mailbox.deliver(tmp_path, BOUNCE) == mailbox.deliver(tmp_path, BOUNCE)
    assert len(names(tmp_path / "new")) == 1
    assert names(tmp_path / "tmp") == []


@pytest.mark.parametrize("client", [smtplib.SMTP, smtplib.LMTP])
def test_the_listener_stores_before_it_answers(
    feed: Make, tmp_path: Path, now: datetime, port: int, client: type[smtplib.SMTP]
) -> None:
    scheme = client.__name__.lower()
    adapter = feed(listen=f"{scheme}://127.0.0.1:{port}", accept=["fbl@maisonlune.example"])
    assert list(adapter.poll(now)) == []
    with client("127.0.0.1", port) as session:
        refused = session.sendmail("", [f"b-{TOKEN}@bounces.example", "somebody@bounces.example"], BOUNCE)
        assert list(refused) == ["somebody@bounces.example"]
        assert len(names(tmp_path / "mail" / "new")) == 1
    (report,) = adapter.poll(now)
    assert report.body.startswith(f"Return-Path: <>\r\nDelivered-To: b-{TOKEN}@bounces.example\r\n".encode())
    (event,) = adapter.normalise(report, now)
    assert (event.type, event.token) == (EventType.BOUNCE, TOKEN)


def test_lmtp_answers_for_each_recipient(feed: Make, now: datetime, port: int) -> None:
    list(feed(listen=f"lmtp://127.0.0.1:{port}", accept=["fbl@maisonlune.example"]).poll(now))
    with socket.create_connection(("127.0.0.1", port)) as line, line.makefile("rw", newline="") as talk:
        commands = ["LHLO us.example", "MAIL FROM:<>", f"RCPT TO:<b-{TOKEN}@bounces.example>",
                    "RCPT TO:<FBL@maisonlune.example>", "DATA", "Subject: x\r\n\r\nx\r\n.", "QUIT"]  # fmt: skip
        for command in commands:
            talk.write(f"{command}\r\n")
            talk.flush()
        codes = [reply[:3] for reply in talk if reply[3] == " "]
    assert codes == ["220", "250", "250", "250", "250", "354", "250", "250", "221"]


def test_a_mail_that_cannot_be_stored_stays_with_its_sender(
    feed: Make, tmp_path: Path, now: datetime, port: int
) -> None:
    list(feed(listen=f"smtp://127.0.0.1:{port}").poll(now))
    (tmp_path / "mail" / "tmp").rmdir()
    with smtplib.SMTP("127.0.0.1", port) as session, pytest.raises(smtplib.SMTPDataError) as caught:
        session.sendmail("", [f"b-{TOKEN}@bounces.example"], BOUNCE)
    assert caught.value.smtp_code == 451


def test_a_taken_port_is_busy(feed: Make, now: datetime) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Busy, match="cannot listen for bounces"):
        list(feed(listen=f"smtp://127.0.0.1:{taken.getsockname()[1]}").poll(now))


@pytest.mark.parametrize("listen", ["127.0.0.1:25", "http://x:1", "lmtp://127.0.0.1", "lmtp:///tmp/socket"])
def test_where_to_listen_is_checked(feed: Make, listen: str) -> None:
    with pytest.raises(BadInput, match=r"routes.main.bounces.listen|lmtp://HOST:PORT"):
        feed(listen=listen)


def test_an_adapter_without_mailbox_has_no_reports(tmp_path: Path, now: datetime) -> None:
    adapter = esp.make({"esp": "smtp"}, route="main", home=tmp_path, token_key=KEY)
    assert list(adapter.poll(now)) == []
    adapter.acknowledge([])
