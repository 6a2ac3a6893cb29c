"""Any gateway, as settings describe it: numbers, parts, a call for many or for one, answers, reports, STOP."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from http_esps import Reply, Server, serving
from ruamel.yaml import YAML

from sendwave import esp
from sendwave.errors import BadInput, Held, Permanent
from sendwave.esp.base import RawReport, Submission, WebRequest
from sendwave.rules.events import Cause, EventType, Permanence
from sendwave.simulator.base import KEY as API_KEY
from sendwave.simulator.base import SECRET

KEY = b"0123456789abcdef" * 2
ANNE, BRUNO = "+33612345678", "+33712345678"
Make = Callable[..., Any]
Batch = Callable[..., Submission]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving("http_sms") as running:
        yield running


@pytest.fixture
def sms(tmp_path: Path, server: Server) -> Iterator[Make]:
    made: list[Any] = []

    def make(text: str = "Bonjour {{ first_name }}, -20 %\n", **settings: Any) -> Any:
        (tmp_path / "content").mkdir(exist_ok=True)
        (tmp_path / "content" / "body.txt").write_text(text, encoding="utf-8")
        chosen = {**server.route(), "base_url": server.url, **settings}
        made.append(esp.make(chosen, route="main", home=tmp_path, token_key=KEY))
        return made[-1]

    yield make
    for adapter in made:
        adapter.close()


@pytest.fixture
def texts(batch: Batch) -> Batch:
    return lambda *numbers, **more: batch(*numbers, **{"sender": "LUNE", "subject": "", "unsubscribe": None, **more})


def test_a_call_names_everybody_with_their_own_text(sms: Make, server: Server, texts: Batch) -> None:
    submission = texts("+33 6 12 34 56 78", BRUNO, fields={"first_name": ["Anne", "Bruno"]})
    receipt = sms().submit(submission)
    assert (receipt.refused, receipt.deferred, receipt.unknown) == ([], [], [])
    tokens = submission.recipients.tokens
    assert [(one["to"], one["reference"], one["text"]) for one in server.taken] == [
        (ANNE, tokens[0], "Bonjour Anne, -20 %"), (BRUNO, tokens[1], "Bonjour Bruno, -20 %"),
    ]  # fmt: skip
    assert server.calls[0].document["from"] == "LUNE"
    assert server.calls[0].path == "/v1/messages"


def test_a_form_for_each_person(sms: Make, server: Server, texts: Batch) -> None:
    server.script = [Reply(200, b"OK"), Reply(422, b"bad number"), Reply(200, b"OK")]
    body = {"dest": "{to}", "msg": "{text}", "ref": "{token}", "n": "{parts}", "dcs": "{alphabet}"}
    settings = {"body": body, "format": "form", "batch_size": 1, "results": {}, "user": "us", "password": "pw"}
    submission = texts(ANNE, BRUNO, "+33612345679", fields={"first_name": ["Zoé & Lô", "B", "C"]})
    receipt = sms(**settings).submit(submission)
    assert [one.index for one in receipt.refused] == [1]
    assert len(server.calls) == 3
    told = {name: values[0] for name, values in parse_qs(server.calls[0].body.decode()).items()}
    assert told == {
        "dest": ANNE, "msg": "Bonjour Zoé & Lô, -20 %", "ref": submission.recipients.tokens[0], "n": "1", "dcs": "ucs2",
    }  # fmt: skip
    assert server.calls[0].headers["authorization"] == "Basic " + base64.b64encode(b"us:pw").decode()
    assert len({call.headers["idempotency-key"] for call in server.calls}) == 3


def test_who_has_no_number_and_whose_text_is_too_long(sms: Make, server: Server, texts: Batch) -> None:
    receipt = sms("{{ first_name }}", max_parts=2).submit(
        texts("0612345678", ANNE, BRUNO, fields={"first_name": ["A", "x" * 307, "B"]})
    )
    assert [(one.index, one.event.type, one.event.cause) for one in receipt.refused] == [
        (0, EventType.BOUNCE, Cause.UNKNOWN_USER), (1, EventType.FAIL, Cause.OTHER),
    ]  # fmt: skip
    assert "takes 3 parts (gsm7), the route sends 1 to 2" in receipt.refused[1].event.description
    assert [one["to"] for one in server.taken] == [BRUNO]


def test_curly_quotes_are_made_plain_unless_told_not_to(sms: Make, server: Server, texts: Batch) -> None:
    sms("L\u2019été").submit(texts(ANNE))
    sms("L\u2019été", simplify=False).submit(texts(ANNE, number=2))
    assert [one["text"] for one in server.taken] == ["L'été", "L\u2019été"]


def test_answers_person_by_person(sms: Make, server: Server, texts: Batch) -> None:
    told = [
        {"to": BRUNO, "status": "unknown_number", "error": "no such subscriber"},
        {"to": ANNE, "status": "throttled"},
        {"to": "+33612345679", "status": "blocked", "error": "by the operator"},
    ]
    server.script = [Reply(200, {"messages": told})]
    receipt = sms().submit(texts(ANNE, BRUNO, "+33612345679", "+33612345670"))
    assert [(one.index, one.event.permanence, one.event.cause) for one in receipt.refused] == [
        (1, Permanence.HARD, Cause.UNKNOWN_USER), (2, Permanence.UNKNOWN, Cause.OTHER),
    ]  # fmt: skip
    assert [one.index for one in receipt.deferred] == [0]
    assert list(receipt.unknown) == [3], "nothing is said of them"


@pytest.mark.parametrize("reply", [Reply(402, b"{}"), Reply(403, {"code": "no_credit"})])
def test_no_credit_holds_the_route(sms: Make, server: Server, texts: Batch, reply: Reply) -> None:
    server.script = [reply]
    with pytest.raises(Held):
        sms().submit(texts(ANNE))


def test_a_sender_must_be_one_of_text_messages(sms: Make, texts: Batch) -> None:
    with pytest.raises(Permanent, match="11 letters"):
        sms().submit(texts(ANNE, sender="Maison Lune <news@maisonlune.example>"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"body": {"to": "{phone}"}}, "{phone} stands for nothing"),
        ({"body": {"to": "{to}"}, "batch_size": 10}, "needs `each"),
        ({"format": "form"}, "a form names one person"),
        ({"events": {"words": {"DLR": "bounced"}}}, "'bounced' is no word for an event"),
        ({"events": {"words": {"DLR": "hard"}}}, "names no type of event"),
        ({"results": {"item": "x"}}, "routes.main.results.item"),
    ],
)
def test_settings_that_cannot_be_meant(sms: Make, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        sms(**settings)
    assert problem in str(caught.value)


def report(adapter: Any, now: datetime, *told: dict[str, Any]) -> list[Any]:
    return list(adapter.normalise(RawReport(json.dumps({"reports": list(told)}).encode()), now))


def test_reports_in_its_words(sms: Make, now: datetime) -> None:
    at = (now - timedelta(minutes=1)).isoformat()
    found = report(
        sms(), now,
        {"status": "DELIVRD", "reference": "t" * 40, "to": ANNE, "id": "7", "at": at},
        {"status": "EXPIRED", "reference": "u" * 40, "to": BRUNO, "id": "8", "at": at, "error": "absent subscriber"},
        {"status": "NOVELTY", "to": BRUNO},
    )  # fmt: skip
    assert [(e.type, e.permanence, e.cause, e.token, e.recipient) for e in found] == [
        (EventType.DELIVERED, Permanence.UNKNOWN, None, "t" * 40, ANNE),
        (EventType.BOUNCE, Permanence.SOFT, Cause.EXPIRED, "u" * 40, BRUNO),
        (EventType.UNKNOWN, Permanence.UNKNOWN, None, None, BRUNO),
    ]
    assert (found[0].event_id, found[0].event_at) == ("7-DELIVRD", now - timedelta(minutes=1))
    assert "NOVELTY" in found[2].description


@pytest.mark.parametrize(
    ("answer", "stops"),
    [("STOP", True), ("stop svp", True), ("Arrêt.", True), ("Merci, à bientôt", False), ("", False)],
)
def test_a_stop_answer_unsubscribes(sms: Make, now: datetime, answer: str, stops: bool) -> None:
    found = report(sms(), now, {"answer": answer, "to": ANNE, "id": "9"} if answer else {"status": "DELIVRD"})
    assert [(e.type, e.recipient) for e in found if e.type is not EventType.DELIVERED] == (
        [(EventType.UNSUBSCRIBE, ANNE)] if stops else []
    )


def test_reports_as_a_form(sms: Make, now: datetime) -> None:
    events = {"format": "form", "status": "dlr", "token": "ref", "words": {"1": "delivered"}}
    adapter = sms(events=events)
    assert adapter.answers.form
    [event] = adapter.normalise(RawReport(b"dlr=1&ref=" + b"a" * 40), now)
    assert (event.type, event.token) == (EventType.DELIVERED, "a" * 40)


def test_a_signature_with_its_instant(sms: Make, now: datetime) -> None:
    signature = {
        "header": "X-Sign", "secret": "s", "digest": "sha512", "encoding": "base64", "timestamp": "X-Time",
        "signed": "{timestamp}.{body}",
    }  # fmt: skip
    adapter, body, stamp = sms(signature=signature), b'{"reports":[]}', str(int(now.timestamp()))
    good = base64.b64encode(hmac.digest(b"s", f"{stamp}.".encode() + body, "sha512")).decode()
    asked = WebRequest(body, {"x-sign": good, "x-time": stamp})
    assert adapter.verify(asked, now) is None
    assert adapter.verify(asked, now + timedelta(days=2)) is not None, "an old one sent again"
    assert adapter.verify(WebRequest(body + b" ", asked.headers), now) is not None
    assert adapter.verify(WebRequest(body, {}), now) is not None


def test_the_route_of_the_guide_works_as_it_stands(sms: Make, server: Server, texts: Batch, now: datetime) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "sms.md").read_text("utf-8")
    written = YAML(typ="safe").load(guide.split("```yaml")[1].split("```")[0])["routes"]["texts"]
    written["signature"]["secret"], written["headers"]["X-Api-Key"] = SECRET, API_KEY
    adapter = sms(**dict.fromkeys(server.route().keys() - written.keys()), **written)
    receipt = adapter.submit(texts(ANNE, BRUNO))
    assert (receipt.refused, receipt.deferred, receipt.unknown) == ([], [], [])
    told = {"status": "UNDELIV", "reference": "a" * 40, "to": ANNE, "id": "1", "at": now.isoformat()}
    request = server.reported(told)
    assert adapter.verify(request, now) is None
    [event] = adapter.normalise(RawReport(request.body), now)
    assert (event.type, event.permanence, event.token) == (EventType.BOUNCE, Permanence.HARD, "a" * 40)
