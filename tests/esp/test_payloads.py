"""Each ESP's documented requests, and what we make of them: payloads/<esp>/*.json.

A file holds `body` (JSON, or text byte for byte), `headers` in lower case, `settings` of the route, and `events`: of
each event the attributes that matter. With `signed: true` it must be believed as it is, and no variant of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendwave import esp
from sendwave.errors import BadInput
from sendwave.esp.base import Feed, RawReport, WebRequest
from sendwave.rules.events import Event

FOLDER = Path(__file__).parent / "payloads"
SAMPLES = sorted(FOLDER.glob("*/*.json"))
SIGNED = [path for path in SAMPLES if json.loads(path.read_text("utf-8")).get("signed")]
KEY = b"0123456789abcdef" * 2
RECEIVED = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
HOOKED = [
    name
    for name in esp.names()
    if esp.make({"esp": name}, route="t", home=FOLDER, token_key=KEY).capabilities.feed is Feed.WEBHOOK
]


def made(name: str, **given: Any) -> Any:
    return esp.make({"esp": name, **given}, route="test", home=FOLDER, token_key=KEY)


def shown(event: Event, names: list[str]) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in names}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_documented_shapes_are_understood(path: Path) -> None:
    sample = json.loads(path.read_text("utf-8"))
    adapter = made(path.parent.name, **sample.get("settings", {}))
    body = sample["body"]
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    events = adapter.normalise(RawReport(raw, sample.get("headers", {})), RECEIVED)
    expected = sample["events"]
    assert [shown(event, list(told)) for event, told in zip(events, expected, strict=True)] == expected


@pytest.mark.parametrize("path", SIGNED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_signed_is_believed_and_no_variant_of_it(path: Path) -> None:
    sample = json.loads(path.read_text("utf-8"))
    adapter = made(path.parent.name, **sample["settings"])
    right = WebRequest(sample["body"].encode(), sample.get("headers", {}))
    assert adapter.verify(right, None) is None
    for place in range(0, len(right.body), 7):
        other = right.body[:place] + bytes([right.body[place] ^ 1]) + right.body[place + 1 :]
        assert adapter.verify(replace(right, body=other), None) is not None, other
    assert adapter.verify(replace(right, body=right.body + b" "), None) is not None
    assert adapter.verify(replace(right, body=right.body[:-1]), None) is not None


@pytest.mark.parametrize("name", HOOKED)
def test_every_webhook_has_samples(name: str) -> None:
    assert any(path.parent.name == name for path in SAMPLES)


@pytest.mark.parametrize("name", HOOKED)
def test_a_webhook_without_a_secret_believes_nobody(name: str) -> None:
    refusal = made(name).verify(WebRequest(b"{}"), RECEIVED)
    assert refusal is not None
    assert 400 <= refusal.status < 500


ODD: list[Any] = [None, True, 10**400, float("nan"), "\ud800\0" + "9" * 3_000, [], {"a": {}}, [[]]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a document anything stands."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path:
        return to
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], to)
    return copy


@pytest.mark.parametrize("name", HOOKED)
def test_whatever_stands_anywhere_raises_nothing_but_bad_input(name: str) -> None:
    for path in (path for path in SAMPLES if path.parent.name == name):
        sample = json.loads(path.read_text("utf-8"))
        adapter, body = made(name, **sample.get("settings", {})), sample["body"]
        for place in places(body) if not isinstance(body, str) else ():
            for odd in ODD:
                raw = json.dumps(changed(body, place, odd)).encode("utf-8", "surrogatepass")
                try:
                    events = adapter.normalise(RawReport(raw), RECEIVED)
                except BadInput:
                    continue
                assert all(event.event_at <= RECEIVED for event in events), (path.stem, place, odd)
                for text in (value for event in events for value in vars_of(event) if isinstance(value, str)):
                    assert "\0" not in text
                    assert len(text.encode()) <= 8_000, (path.stem, place, odd)


def vars_of(event: Event) -> list[Any]:
    return [getattr(event, field.name) for field in fields(event)]


PUBLIC = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7"
    "dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g=="
)
SECRETS: dict[str, dict[str, str]] = {
    "mailersend": {"webhook_secret": "s"},
    "mailgun": {"webhook_secret": "s"},
    "mandrill": {"webhook_secret": "s", "webhook_url": "https://maisonlune.example/hook"},
    "resend": {"webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    "scaleway": {"webhook_topic": "arn"},
    "sendgrid": {"webhook_public_key": PUBLIC},
    "ses": {"webhook_topic": "arn"},
}
HEADERS = (
    "authorization", "signature", "svix-id", "svix-timestamp", "svix-signature", "x-mandrill-signature",
    "x-postal-signature", "x-postal-signature-256", "x-twilio-email-event-webhook-signature",
    "x-twilio-email-event-webhook-timestamp",
)  # fmt: skip
BODIES = [b"", b"{}", b"[", b"\xff", b"a=%ff&event=x", b"[" * 5_000, *(
    json.dumps({"signature": {"timestamp": "1", "token": "a", "signature": "b", name: odd}}).encode()
    for name in ("timestamp", "token", "signature") for odd in ODD
), *(json.dumps({"Type": "Notification", "Message": "{}", "SigningCertURL": odd}).encode() for odd in ODD)]  # fmt: skip


@pytest.mark.parametrize("name", HOOKED)
@pytest.mark.parametrize(
    "value", ["", "x", "\udcff", "v1,é", "Basic é", "Basic //79", "Bearer \udcff", "9" * 400, "nan"]
)
def test_verifying_raises_nothing(name: str, value: str) -> None:
    login = {"webhook_user": "u", "webhook_password": "p"}
    for settings_ in (SECRETS.get(name, login), login, {"webhook_token": "t"}):
        adapter = made(name, **settings_)
        for body in BODIES:
            refusal = adapter.verify(WebRequest(body, dict.fromkeys(HEADERS, value)), RECEIVED)
            assert refusal is not None
            assert 400 <= refusal.status < 600


WORDS = sorted({word for path in SAMPLES for word in json.dumps(json.loads(path.read_text())["body"]).split('"')[1::2]})
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(WORDS))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), inner)
    ),
    max_leaves=25,
)


@pytest.mark.parametrize("name", HOOKED)
@settings(max_examples=25)
@given(document=DOCUMENTS)
def test_arbitrary_json_raises_nothing_but_bad_input(name: str, document: Any) -> None:
    adapter = made(name)
    try:
        events = adapter.normalise(RawReport(json.dumps(document).encode()), RECEIVED)
    except BadInput:
        return
    for event in events:
        assert isinstance(event, Event)
        assert event.event_at <= RECEIVED


def mutated(value: Any, data: st.DataObject) -> Any:
    """The sample with some of its values replaced by anything."""
    if data.draw(st.integers(0, 5)) == 0:
        return data.draw(SCALARS)
    if isinstance(value, dict):
        return {key: mutated(inner, data) for key, inner in value.items()}
    if isinstance(value, list):
        return [mutated(inner, data) for inner in value]
    return value


@pytest.mark.parametrize("name", HOOKED)
@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_sample_raises_nothing_but_bad_input(name: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([path for path in SAMPLES if path.parent.name == name]))
    sample = json.loads(path.read_text("utf-8"))
    body = sample["body"]
    if isinstance(body, str):
        raw = body[: data.draw(st.integers(0, len(body)))].encode()
    else:
        raw = json.dumps(mutated(body, data)).encode()
    try:
        events = made(name, **sample.get("settings", {})).normalise(RawReport(raw), RECEIVED)
    except BadInput:
        return
    assert all(isinstance(event, Event) and event.event_at <= RECEIVED for event in events)


@pytest.mark.parametrize("name", HOOKED)
@pytest.mark.parametrize("body", [b"[" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000, b"", b"null", b"\xff\xfe"])
def test_what_is_no_report_is_bad_input(name: str, body: bytes) -> None:
    with pytest.raises(BadInput):
        made(name).normalise(RawReport(body), RECEIVED)
