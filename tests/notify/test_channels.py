"""Channels on real sockets of this machine: what leaves, and what each answer means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pydantic import ValidationError
from smtp_server import Server
from structlog.testing import capture_logs

from sendwave import notify
from sendwave.errors import BadInput, NotFound, Permanent, Transient
from sendwave.notify.base import Notice

SECRET = base64.b64encode(b"k" * 24).decode()
CONTACTS = ({"contact_id": "C-1", "score": 60.0, "before": None, "tier": "hot", "owner": "anna"},)


@pytest.fixture
def notice(now: datetime) -> Notice:
    return Notice("sendwave-alert-7", "hot", "Hot: C-1", "the score rose to 50 or more", "anna", CONTACTS, now)


class Hook(ThreadingHTTPServer):
    """Keeps what it is given and answers as told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status, self.headers = 200, {}
        self.taken: list[tuple[dict[str, str], bytes]] = []

    status: int
    headers: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        hook.taken.append(({key.lower(): value for key, value in self.headers.items()}, body))
        self.send_response(hook.status)
        for key, value in hook.headers.items():
            self.send_header(key, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def relay() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.stop()


def channel(by: str, **settings: Any) -> Any:
    kind = notify.find(by)
    return kind(kind.Settings.model_validate({"by": by, **settings}))


def test_channels_are_found_by_name() -> None:
    assert notify.names() == ["apprise", "email", "log", "webhook"]
    with pytest.raises(NotFound, match=r"nothing notifies by 'pigeon'; there are: apprise, email, log, webhook"):
        notify.find("pigeon")
    with pytest.raises(NotFound):
        notify.find("base")
    with pytest.raises(NotFound):
        notify.find("../log")


def test_a_webhook_gets_the_notice_signed_and_keyed(hook: Hook, notice: Notice) -> None:
    sender = channel("webhook", url=hook.url, secret=f"whsec_{SECRET}", headers={"x-team": "sales"})
    sender.send(notice)
    sender.close()
    ((headers, body),) = hook.taken
    assert json.loads(body) == {
        "id": "sendwave-alert-7", "rule": "hot", "title": "Hot: C-1", "text": "the score rose to 50 or more",
        "owner": "anna", "contacts": [dict(CONTACTS[0])],
    }  # fmt: skip
    assert headers["idempotency-key"] == headers["webhook-id"] == "sendwave-alert-7"
    assert headers["x-team"] == "sales"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(b"k" * 24, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


def test_a_chat_gets_text(hook: Hook, notice: Notice) -> None:
    sender = channel("webhook", url=hook.url, text_only=True)
    sender.send(notice)
    sender.close()
    said = json.loads(hook.taken[0][1])
    assert said == {"text": "Hot: C-1\nthe score rose to 50 or more\nC-1: no score → 60 (hot)"}
    assert "webhook-signature" not in hook.taken[0][0]


@pytest.mark.parametrize(
    ("status", "headers", "meant"),
    [
        (204, {}, None),
        (429, {"retry-after": "120"}, (Transient, 120.0)),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, (Transient, None)),
        (503, {}, (Transient, None)),
        (408, {}, (Transient, None)),
        (400, {}, (Permanent, None)),
        (404, {}, (Permanent, None)),
        (302, {"location": "http://127.0.0.1:1/"}, (Permanent, None)),  # secrets do not follow redirections
    ],
)
def test_what_a_webhooks_answer_means(
    hook: Hook, notice: Notice, status: int, headers: dict[str, str], meant: tuple[type[Exception], float | None] | None
) -> None:
    hook.status, hook.headers = status, headers
    sender = channel("webhook", url=hook.url)
    if meant is None:
        sender.send(notice)
    else:
        with pytest.raises(meant[0], match=f"answered {status}") as raised:
            sender.send(notice)
        assert getattr(raised.value, "retry_after", None) == meant[1]
    sender.close()


def test_nobody_listening_may_listen_later(notice: Notice) -> None:
    sender = channel("webhook", url="http://127.0.0.1:9/hook", timeout=1)
    with pytest.raises(Transient, match="could not be reached"):
        sender.send(notice)
    sender.close()


@pytest.mark.parametrize(
    "wrong", [{"url": "ftp://x"}, {"url": "hook"}, {"url": "http://h", "secret": "???"}, {"url": "http://h", "to": 1}]
)
def test_settings_of_a_webhook_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        channel("webhook", **wrong)


def test_a_url_with_its_secret_is_never_shown() -> None:
    sender = channel("webhook", url="https://chat.example/T000/secret", secret=SECRET)
    assert "T000" not in repr(sender.settings)
    assert SECRET not in repr(sender.settings)
    sender.close()


MAIL: dict[str, Any] = {"tls": "none", "sender": "alerts@shop.example", "to": "team@shop.example"}


@pytest.mark.parametrize(
    ("owner", "to"),
    [
        ("anna@shop.example", "anna@shop.example"),
        ("Anna@Shop.example", "anna@shop.example"),
        ("0051x00000A", "bert@shop.example"),  # an id the settings translate
        ("Anna Smith", "team@shop.example"),
        ("", "team@shop.example"),
        ("a@b\nBcc: x@y.example", "team@shop.example"),
    ],
)
def test_a_mail_goes_to_the_owner_or_the_default(notice: Notice, owner: str, to: str) -> None:
    sender = channel("email", host="127.0.0.1", **MAIL, owners={"0051x00000A": "bert@shop.example"})
    assert sender.recipient(owner) == to


def test_a_mail_is_the_same_at_every_attempt(notice: Notice) -> None:
    sender = channel("email", host="127.0.0.1", **MAIL)
    mail = sender.mail(notice)
    assert mail["Message-ID"] == "<sendwave-alert-7@shop.example>"
    assert mail["Subject"] == "Hot: C-1"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "C-1: no score → 60 (hot)" in mail.get_content()
    assert mail.as_bytes() == sender.mail(notice).as_bytes()


@pytest.mark.parametrize(
    ("word", "fault"),
    [("anna", None), ("gone", Permanent), ("busy", Transient), ("spam", Permanent), ("later", Transient)],
)
def test_what_a_relays_answer_means(relay: Server, notice: Notice, word: str, fault: type[Exception] | None) -> None:
    sender = channel("email", **MAIL | relay.where | {"to": f"{word}.1@shop.example"})
    unowned = replace(notice, owner="")
    if fault is None:
        sender.send(unowned)
        assert relay.handler.taken[0].mail["Subject"] == "Hot: C-1"
    else:
        with pytest.raises(fault, match="the relay answered"):
            sender.send(unowned)


def test_a_relay_that_is_down_or_speaks_no_tls(relay: Server, notice: Notice) -> None:
    with pytest.raises(Transient, match="could not be reached"):
        channel("email", host="127.0.0.1", port=9, **MAIL, timeout=1).send(notice)
    with pytest.raises(Transient, match="could not be reached"):
        channel("email", **MAIL | relay.where | {"tls": "starttls"}).send(notice)


def test_the_log_names_contacts_by_id_alone(notice: Notice) -> None:
    with capture_logs() as lines:
        notify.find("log")().send(notice)
    assert lines == [
        {
            "event": "score_alert", "log_level": "warning", "where": "alerts", "rule": "hot", "title": "Hot: C-1",
            "text": "the score rose to 50 or more", "owner": "anna", "contacts": ["C-1"],
        }
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # Apprise looks for it on old Pythons
def test_apprise_reaches_what_its_urls_name(hook: Hook, notice: Notice) -> None:
    host = hook.url.removeprefix("http://")
    sender = channel("apprise", urls=[f"json://{host}"])
    sender.send(notice)
    said = json.loads(hook.taken[0][1])
    assert (said["title"], "C-1: no score → 60" in said["message"]) == ("Hot: C-1", True)
    hook.status = 500
    with pytest.raises(Transient):
        sender.send(notice)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_apprise_refuses_a_url_without_showing_it() -> None:
    with pytest.raises(BadInput, match=r"urls\[1\]") as wrong:
        channel("apprise", urls=["json://127.0.0.1", "nothing://secret"])
    assert "secret:" not in str(wrong.value)
    assert "nothing://" not in str(wrong.value)
