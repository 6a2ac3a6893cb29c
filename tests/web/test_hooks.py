from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from http_esps import HOOK, KEYS, request_of
from web_side import BREVO, WebSide, brevo_event, mailgun_body

from sendwave import esp
from sendwave.clock import VirtualClock
from sendwave.errors import Busy, FullDisk
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.simulator import providers
from sendwave.web import hooks


def test_a_believed_request_is_durable_when_it_is_answered_and_counted_later(web_anywhere: WebSide) -> None:
    web = web_anywhere
    answer = web.mailgun(7)
    assert (answer.status_code, answer.json()["message"]) == (200, "stored")
    assert [route for route, _ in web.stored()] == ["main"]
    assert web.brevo(1, 2, 3, event="opened").status_code == 200
    web.digest()
    assert web.counts() == {"delivered": 1, "open": 3}


def test_secrets_of_the_connection_are_not_kept(web: WebSide) -> None:
    web.brevo(1)
    with web.workspace.db.read() as conn:
        headers = conn.exec_driver_sql("SELECT headers FROM inbox").scalar_one()
    assert "authorization" not in headers
    assert json.loads(headers)["content-type"] == "application/json"


FORGED = {
    "signature": "0" * 64,
    "nothing signed": None,
}


@pytest.mark.parametrize("signature", FORGED.values(), ids=FORGED)
def test_a_forged_request_is_refused_and_leaves_nothing(web: WebSide, signature: str | None) -> None:
    body = mailgun_body(web.now, web.token(1))
    body["signature"]["signature"] = signature
    answer = web.post("/hooks/main", body)
    assert (answer.status_code, web.stored()) == (401, [])
    assert "signature" in answer.json()["message"]


BAD: dict[str, tuple[Callable[[WebSide], Any], int, str]] = {
    "no such route": (lambda web: web.post("/hooks/nobody", {}), 404, "no route"),
    "a route without a webhook": (lambda web: web.post("/hooks/relay", {}), 404, "no route"),
    "wrong password": (lambda web: web.post("/hooks/brevo", {}, auth=("brevo", "guess")), 401, "password"),
    "no password": (lambda web: web.post("/hooks/postmark", {}), 401, "password"),
    "truncated, Brevo": (lambda web: web.post("/hooks/brevo", b'{"event": "deliv', auth=BREVO), 400, "no report"),
    "truncated, Mailgun stops at 406": (lambda web: web.post("/hooks/main", b'{"signature": {'), 406, "JSON"),
    "truncated, Postmark stops at 403": (
        lambda web: web.post("/hooks/postmark", b"{", auth=("pm", "secret")),
        403,
        "no report",
    ),
    "10,000 deep": (lambda web: web.post("/hooks/brevo", b"[" * 10_000 + b"]" * 10_000, auth=BREVO), 400, "no report"),
    "nothing at all": (lambda web: web.post("/hooks/brevo", b"", auth=BREVO), 400, "empty"),
    "a form": (
        lambda web: web.post("/hooks/brevo", b"a=b", headers={"content-type": "application/x-www-form-urlencoded"}),
        415,
        "JSON",
    ),
    "JSON where a form is due": (lambda web: web.post("/hooks/mandrill", b"[]"), 415, "forms"),
    "over the limit": (lambda web: web.post("/hooks/brevo", b" " * 1_000_001, auth=BREVO), 413, "longer"),
    "over the limit, length not told": (
        lambda web: web.client.post("/hooks/brevo", content=(b" " * 100_000 for _ in range(11)), auth=BREVO),
        413,
        "longer",
    ),
}


@pytest.mark.parametrize(("ask", "status", "words"), BAD.values(), ids=BAD)
def test_a_request_nobody_can_use_gets_a_clear_no(
    web: WebSide, ask: Callable[[WebSide], Any], status: int, words: str
) -> None:
    answer = ask(web)
    assert (answer.status_code, web.stored()) == (status, [])
    assert words in answer.json()["message"]


def test_what_is_signed_as_a_whole_is_not_read_at_the_door(tmp_path: Path, now: datetime) -> None:
    speaker = providers.find("sendgrid")(KEYS)
    request = request_of(speaker.wrap([{"event": "open"}], HOOK, now))
    signed = door(tmp_path, now, **speaker.route("http://127.0.0.1", HOOK))
    assert signed.examine(request) is None
    torn = signed.examine(replace(request, body=request.body[:-3]))
    assert (torn.status if torn else None) == 403  # no longer what they signed
    known = door(tmp_path, now, webhook_token="t")
    torn = known.examine(replace(request, body=request.body[:-3], headers={"authorization": "Bearer t"}))
    assert (torn.status if torn else None) == 400


def door(home: Path, now: datetime, **settings: Any) -> hooks.Door:
    adapter = esp.make({"esp": "sendgrid", **settings}, route="main", home=home, token_key=b"0" * 32)
    found = hooks.door_of("main", adapter, VirtualClock(now), hooks.Visitor())
    assert found is not None
    return found


def test_an_old_request_and_one_sent_again_are_refused(web: WebSide) -> None:
    body = mailgun_body(web.now, web.token(1))
    stale = mailgun_body(web.now - timedelta(hours=13), web.token(1))
    future = mailgun_body(web.now + timedelta(hours=13), web.token(1))
    assert [web.post("/hooks/main", told).status_code for told in (stale, future, body)] == [401, 401, 200]
    again = web.post("/hooks/main", body)
    assert (again.status_code, len(web.stored())) == (406, 1)
    assert "stored already" in again.json()["message"]


def test_without_a_secret_the_esp_is_asked_to_come_again(web: WebSide) -> None:
    """Nobody can tell who sent it, but that is ours to mend: Brevo repeats after 429 alone."""
    answer = web.post("/hooks/open", brevo_event(web.now, web.token(1)))
    assert (answer.status_code, answer.headers["retry-after"], web.stored()) == (429, "60", [])


@pytest.mark.parametrize("fault", [FullDisk("the disk is full"), Busy("locked"), ZeroDivisionError("boom")], ids=str)
def test_when_the_store_is_down_each_esp_gets_the_code_that_makes_it_repeat(
    web: WebSide, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def down(*_: object) -> None:
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(feedback, "receive_all", down)
        assert web.brevo(1).status_code == 429
        assert web.mailgun(1).status_code == 503
    assert (web.brevo(1).status_code, web.mailgun(1).status_code) == (200, 200)
    assert len(web.stored()) == 2


def test_a_fault_of_the_adapter_is_no_500(web: WebSide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks.Door, "examine", lambda *_: 1 / 0)
    assert web.brevo(1).status_code == 429


def test_one_report_nobody_can_store_does_not_keep_the_others_out(
    web: WebSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = feedback.receive_all

    def picky(db: Any, told: list[tuple[str, RawReport]], now: Any) -> int:
        if any(b"poison" in report.body for _, report in told):
            raise ValueError("cannot be written")
        return genuine(db, told, now)

    monkeypatch.setattr(feedback, "receive_all", picky)
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(web.post, "/hooks/brevo", {"event": e}, auth=BREVO) for e in ["x", "poison", *"abcdefgh"]]
        statuses = [one.result().status_code for one in asked]
    assert statuses == [200, 429, *[200] * 8]
    assert len(web.stored()) == 9


def test_requests_at_once_share_commits_and_none_is_lost(web_anywhere: WebSide) -> None:
    web, commits = web_anywhere, []
    genuine = web.server._committer._store
    web.server._committer._store = lambda told: (commits.append(len(told)), genuine(told))[1]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda position: web.brevo(position).status_code, range(100)))
    assert answers == [200] * 100
    assert (sum(commits), len(web.stored())) == (100, 100)
    web.digest()
    assert web.counts() == {"delivered": 100}


def test_a_sender_that_hangs_up_leaves_nothing(web: WebSide) -> None:
    with socket.create_connection(web.server.address) as line:
        line.sendall(b"POST /hooks/brevo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert web.brevo(1).status_code == 200
    assert len(web.stored()) == 1


def test_esps_that_look_whether_the_webhook_is_there(web: WebSide) -> None:
    assert web.client.head("/hooks/mandrill").status_code == 200
    assert web.client.get("/hooks/brevo").status_code == 200
    assert web.client.get("/hooks/nobody").status_code == 404
    assert web.client.put("/hooks/brevo").status_code == 405


def test_mandrill_signs_the_public_url(web: WebSide) -> None:
    told = [{"event": "send", "ts": int(web.now.timestamp()), "msg": {"metadata": {"sendwave_token": web.token(3)}}}]
    fields = {"mandrill_events": json.dumps(told)}
    signed = "https://mail.maisonlune.example/hooks/mandrill" + "".join(f"{k}{v}" for k, v in fields.items())
    signature = base64.b64encode(hmac.new(b"key-of-mandrill", signed.encode(), hashlib.sha1).digest()).decode()
    headers = {"content-type": "application/x-www-form-urlencoded", "x-mandrill-signature": signature}
    assert web.post("/hooks/mandrill", urlencode(fields).encode(), headers=headers).status_code == 200
    assert web.post("/hooks/mandrill", b"mandrill_events=[]", headers=headers).status_code == 403
    assert len(web.stored()) == 1


def test_health_says_what_waits(web: WebSide, monkeypatch: pytest.MonkeyPatch) -> None:
    assert web.client.get("/health").json()["reports_waiting"] == 0
    web.brevo(1)
    told = web.client.get("/health").json()
    assert (told["status"], told["reports_waiting"], told["oldest"]) == ("ok", 1, web.now.isoformat())
    assert told["webhooks"]["brevo"] == {"stored": 1}
    monkeypatch.setattr("sendwave.store.inbox.backlog", lambda _: 1 / 0)
    assert web.client.get("/health").status_code == 503
