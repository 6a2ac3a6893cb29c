"""The simulator on the network: truth, levers, limits, retries of webhooks, mail, the command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_esps import KEYS, Server, adapter_of, report, request_of, serving, write_content
from ports import free_port

from sendwave import esp
from sendwave.errors import BadInput, Busy, NotFound, Transient
from sendwave.esp.base import Message, Recipients, Submission
from sendwave.rules.signals import Tally, tally_of
from sendwave.rules.token import sign
from sendwave.simulator.mail import Postman
from sendwave.simulator.rehearsal import Rehearsal
from sendwave.simulator.scenario import Scenario

KEY = b"0123456789abcdef" * 2


def submission(*addresses: str, server: Server | None = None, number: int = 1, now: Any = None) -> Submission:
    tokens = [sign(KEY, number, position) for position in range(len(addresses))]
    fields = {"first_name": ["Zoé"] * len(addresses)}
    people = Recipients(addresses, tokens, addresses, ["hot"] * len(addresses), fields)
    message = Message("lettre", "newsletter", "Maison Lune <news@maisonlune.example>", "Bonjour", "content")
    return Submission(number, f"k{number}", 1, 1, "orange", message, people, now or (server and server.clock.now()))  # type: ignore[arg-type]


def ask(server: Any, path: str, body: Any = None) -> httpx.Response:
    if body is None:
        return httpx.get(server.url + path)
    return httpx.post(server.url + path, content=body if isinstance(body, str) else json.dumps(body))


def test_the_truth_is_served_with_tokens(tmp_path: Path) -> None:
    with serving("sendgrid") as server:
        adapter = adapter_of(server, tmp_path, KEY)
        batch = submission("anne@orange.example", "bruno@gmail.example", server=server)
        adapter.submit(batch)
        adapter.submit(batch)
        server.posts()
        short, full = ask(server, "/_truth").json(), ask(server, "/_truth?people=1").json()
        adapter.close()
    assert "people" not in short
    assert (short["written_to"], short["more_than_once"], short["calls"]) == (2, 2, {"taken": 2})
    assert short["told"] == {"accepted": 2, "hard_bounce": 1, "delivered": 1, "open": 1, "click": 1}
    people = {person["token"]: person for person in full["people"]}
    assert list(people) == list(batch.recipients.tokens)
    assert people[batch.recipients.tokens[0]]["happened"] == ["accepted", "hard_bounce"]
    assert people[batch.recipients.tokens[1]]["text"].startswith("Bonjour Zoé")


def test_levers(tmp_path: Path) -> None:
    with serving("postmark") as server:
        adapter = adapter_of(server, tmp_path, KEY)
        assert ask(server, "/_settings").json()["esp"] == "postmark"
        assert ask(server, "/_control/scenario", "script: [{match: '*', outcome: refused}]").status_code == 200
        assert len(adapter.submit(submission("a@b.example", server=server)).refused) == 1
        assert ask(server, "/_control/scenario", "healthy").json() == {"scenario": "healthy"}
        assert list(adapter.submit(submission("a@b.example", server=server)).refused) == []
        assert ask(server, "/_control/hurry", "").json()["hurried"] >= 1
        assert ask(server, "/_control/outage", {"how": "paused", "lasts": "5m"}).json()["seconds"] == 300
        with pytest.raises(Transient):
            adapter.submit(submission("a@b.example", server=server))
        server.clock.sleep(301)
        adapter.submit(submission("a@b.example", server=server))
        for path, body in (("/_control/scenario", "like: nothing"), ("/_control/outage", {"how": "x", "lasts": "1h"})):
            answer = ask(server, path, body)
            assert answer.status_code == 400
            assert answer.json()["error"]
        assert ask(server, "/_elsewhere").status_code == 404
        adapter.close()


def test_after_an_outage_it_comes_back_once_its_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("postmark") as server:
        tried, listen = threading.Event(), server._listen

        def trying() -> None:
            try:
                listen()
            finally:
                tried.set()

        monkeypatch.setattr(server, "_listen", trying)
        ask(server, "/_control/outage", {"how": "refused", "lasts": "5m"})
        until(lambda: server._http is None)
        with socket.create_server(("127.0.0.1", server._port)):
            server.clock.sleep(301)
            assert tried.wait(10)
        until(lambda: server._http is not None)
        assert ask(server, "/_settings").json()["esp"] == "postmark"


def test_more_calls_than_the_limit_are_answered_429(tmp_path: Path) -> None:
    with serving("resend", calls={"limit": {"calls": 2, "per": "10s"}}) as server:
        adapter = adapter_of(server, tmp_path, KEY)
        for number in (1, 2):
            adapter.submit(submission("a@b.example", server=server, number=number))
        server.clock.sleep(4)
        with pytest.raises(Transient) as caught:
            adapter.submit(submission("a@b.example", server=server, number=3))
        assert caught.value.retry_after == 6
        server.clock.sleep(7)
        adapter.submit(submission("a@b.example", server=server, number=4))
        adapter.close()
    assert server.service.truth.calls == {"taken": 3, "answered 429": 1}


def test_a_malformed_request_gets_an_answer_whatever_it_holds() -> None:
    with serving("sendgrid") as server:
        for body in ([], {"personalizations": [3]}, {"personalizations": "x", "from": 7}, "}{"):
            text = body if isinstance(body, str) else json.dumps(body)
            answer = httpx.post(
                f"{server.url}/v3/mail/send", content=text, headers={"Authorization": "Bearer rehearsal-key"}
            )
            assert answer.status_code == 400


class Answers(BaseHTTPRequestHandler):
    """A webhook that answers as told and remembers."""

    statuses: list[int]
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.statuses.pop(0) if self.statuses else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def webhook(*statuses: int) -> Iterator[tuple[str, list[bytes]]]:
    kind = type("Told", (Answers,), {"statuses": list(statuses), "bodies": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", kind.bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def test_webhooks_are_posted_by_themselves_and_again_when_not_taken(tmp_path: Path) -> None:
    script = Scenario.model_validate({"script": [{"match": "*", "outcome": "hard_bounce"}]})
    with webhook(503, 503) as (url, bodies), Rehearsal("postmark", script, webhook=url, speed=100_000) as running:
        write_content(tmp_path)
        adapter = esp.make(running.route, route="main", home=tmp_path, token_key=KEY)
        adapter.submit(submission("a@b.example", now=running.clock.now()))
        truth = running.service.truth
        until(lambda: truth.posts["stored"] == 1)
        adapter.close()
    assert truth.posts == {"answered 503": 2, "stored": 1}
    assert len(bodies) == 3
    assert {json.loads(body)["Type"] for body in bodies} == {"HardBounce"}


@pytest.mark.parametrize(
    ("provider", "status", "again"),
    [
        ("brevo", 500, False),
        ("brevo", 429, True),
        ("mailgun", 406, False),
        ("postmark", 403, False),
        ("sendgrid", 500, True),
    ],
)
def test_answers_that_make_a_provider_forget(tmp_path: Path, provider: str, status: int, again: bool) -> None:
    with serving(provider) as server:
        adapter = adapter_of(server, tmp_path, KEY)
        adapter.submit(submission("anne@orange.example", server=server))
        server.clock.sleep(90 * 86_400)
        for parcel in server.service.posting.due(server.clock.now()):
            server.service.posting.answered(parcel, status, server.clock.now())
        assert bool(server.service.truth.given_up) != again
        assert bool(server.service.posting.waiting()) == again
        adapter.close()


def test_a_relay_returns_genuine_reports_by_mail(tmp_path: Path) -> None:
    words = ["refused", "later", "hard_bounce", "soft_bounce", "blocked", "deferred", "complaint", "unsubscribe"]
    script = {"script": [{"match": f"{word}.*", "outcome": word} for word in words]}
    write_content(tmp_path)
    port = free_port()
    with Rehearsal("smtp", Scenario.model_validate(script), speed=1e6) as running:
        route = {**running.route, "bounces": {"maildir": "mail", "listen": f"lmtp://127.0.0.1:{port}"}}
        adapter: Any = esp.make(route, route="main", home=tmp_path, token_key=KEY)
        list(adapter.poll(running.clock.now()))  # its listener starts
        deliver = Postman(f"lmtp://127.0.0.1:{port}")
        batch = submission(
            *[f"{word}.1@orange.example" for word in words], "anne@gmail.example", now=running.clock.now()
        )
        receipt = adapter.submit(batch)
        assert [one.index for one in receipt.refused] == [0]
        assert [one.index for one in receipt.deferred] == [1]
        later = running.clock.now() + timedelta(days=1)
        for parcel in running.service.posting.due(later):
            assert parcel.post is not None
            assert deliver(parcel.post) == 200
            assert deliver(running.service.provider.forged(parcel.post)) in {200, 550}
        found: dict[str, set[Tally]] = {}
        for report in adapter.poll(later):
            for event in adapter.normalise(report, later):
                word = words[batch.recipients.tokens.index(event.token)]
                found.setdefault(word, set()).add(tally_of(event))
        adapter.close()
    assert found == {
        "hard_bounce": {Tally.HARD_BOUNCE}, "soft_bounce": {Tally.SOFT_BOUNCE}, "blocked": {Tally.BLOCK},
        "deferred": {Tally.DEFERRAL}, "complaint": {Tally.COMPLAINT}, "unsubscribe": {Tally.UNSUBSCRIBE},
    }  # fmt: skip
    assert len(running.service.truth.people()) == 9


def test_a_gateway_for_text_messages(tmp_path: Path) -> None:
    script = [{"match": f"+3360000000{n}", "outcome": word} for n, word in enumerate(SMS)]
    (tmp_path / "content").mkdir()
    (tmp_path / "content/body.txt").write_text("Bonjour {{ first_name }}, -20 %")
    with Server("http_sms", script=script) as server:
        adapter: Any = esp.make(server.route(), route="main", home=tmp_path, token_key=KEY)
        mailed = submission(*[one["match"] for one in script], server=server)
        batch = replace(mailed, message=replace(mailed.message, sender="MaisonLune"))
        receipt = adapter.submit(batch)
        assert [SMS[one.index] for one in receipt.refused] == ["refused"]
        assert [SMS[one.index] for one in receipt.deferred] == ["later"]
        assert server.service.truth.people()[0].text == "Bonjour Zoé, -20 %"
        found: dict[str, set[Tally]] = {}
        for post in server.posts():
            assert adapter.verify(request_of(post), server.clock.now()) is None
            assert adapter.verify(request_of(server.service.provider.forged(post)), server.clock.now()) is not None
            for event in adapter.normalise(report(request_of(post)), server.clock.now()):
                found.setdefault(SMS[batch.recipients.tokens.index(event.token)], set()).add(tally_of(event))
        adapter.close()
    assert found["hard_bounce"] == {Tally.HARD_BOUNCE}
    assert found["blocked"] == {Tally.BLOCK}
    assert found["deferred"] == {Tally.DEFERRAL, Tally.DELIVERED}
    assert Tally.UNSUBSCRIBE in found["unsubscribe"]


SMS = ["hard_bounce", "soft_bounce", "blocked", "deferred", "unsubscribe", "refused", "later"]


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Did you mean 'sendgrid'"):
        Rehearsal("sendgird")
    with pytest.raises(BadInput, match="lmtp://"):
        Rehearsal("smtp", webhook="http://127.0.0.1:8484/hooks/main")
    with serving("brevo") as server, pytest.raises(Busy, match="cannot listen"):
        Rehearsal("brevo", port=server._port)


def test_the_command_prints_the_route_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "sendwave", "esp-simulator", "--provider", "mailjet", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        lines = ""
        while not lines.endswith("\n}\n"):
            lines += process.stdout.readline()
        told = json.loads(lines)
        truth = httpx.get(told["url"] + "/_truth").json()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert told["route"]["esp"] == truth["provider"] == "mailjet"


def test_the_keys_of_two_starts_agree() -> None:
    from sendwave.simulator.keys import Keys

    assert Keys().public(Keys().curve) == KEYS.public(KEYS.curve)
