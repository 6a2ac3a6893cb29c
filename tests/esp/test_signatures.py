"""Webhooks signed by public key or HMAC: the genuine are believed; changed, stale and foreign ones are not."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from http_esps import HOOK, KEYS

from sendwave import esp
from sendwave.esp import sns
from sendwave.esp.base import WebRequest
from sendwave.esp.hooks import hmac_hex
from sendwave.simulator.base import Act, Mail, Post
from sendwave.simulator.providers import find

NOW = datetime.fromisoformat("2026-03-02T09:00:00+00:00")
KEY = b"0123456789abcdef" * 2
CERTIFICATE_URL = "https://messaging.s3.fr-par.scw.cloud/cert.pem"
TOPIC = "arn:scw:sns:fr-par:project:events"


@cache
def curve() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def modulus() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def successor() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def public(key: Any) -> str:
    spelt = serialization.PublicFormat.SubjectPublicKeyInfo
    return b64encode(key.public_key().public_bytes(serialization.Encoding.DER, spelt)).decode()


def made(name: str, **settings: Any) -> Any:
    return esp.make({"esp": name, **settings}, route="test", home=Path(), token_key=KEY)


def sendgrid(body: bytes, at: datetime) -> tuple[Any, WebRequest]:
    stamp = str(int(at.timestamp()))
    given = b64encode(curve().sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    head = "x-twilio-email-event-webhook-"
    return made("sendgrid", webhook_public_key=public(curve())), WebRequest(
        body, {f"{head}signature": given, f"{head}timestamp": stamp}
    )


def postal(body: bytes, _: datetime) -> tuple[Any, WebRequest]:
    given = b64encode(modulus().sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()
    return made("postal", webhook_public_key=public(modulus())), WebRequest(body, {"x-postal-signature-256": given})


def mailersend(body: bytes, _: datetime) -> tuple[Any, WebRequest]:
    return made("mailersend", webhook_secret="s"), WebRequest(body, {"signature": hmac_hex("s", body)})


def resend(body: bytes, at: datetime) -> tuple[Any, WebRequest]:
    return signed_by("resend", find("resend").signed(body, "msg_1", str(int(at.timestamp()))))


def mandrill(body: bytes, at: datetime) -> tuple[Any, WebRequest]:
    return signed_by("mandrill", find("mandrill").signed(body, HOOK))


def signed_by(name: str, post: Post) -> tuple[Any, WebRequest]:
    settings = find(name)(KEYS).route("http://127.0.0.1", HOOK)
    return made(name, **settings), WebRequest(post.body, {n.lower(): v for n, v in post.headers.items()})


def test_keys_are_taken_as_people_copy_them() -> None:
    body = b"{}"
    _, request = postal(body, NOW)
    record = f"v=DKIM1; t=s; h=sha256; p={public(modulus())};"
    assert made("postal", public_key=record).verify(request, NOW) is None
    _, request = resend(body, NOW)
    secret = find("resend")(KEYS).route("http://127.0.0.1", HOOK)["webhook_secret"]
    assert made("resend", signing_secret=f" {secret.rstrip('=')}\n").verify(request, NOW) is None


SCHEMES = [sendgrid, postal, mailersend, resend, mandrill]
Scheme = Callable[[bytes, datetime], tuple[Any, WebRequest]]
BODY = b'mandrill_events=[{"event":"bounce"}]\r\n'


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_raw_bytes_are_signed(scheme: Scheme) -> None:
    adapter, request = scheme(BODY, NOW)
    assert adapter.verify(request, NOW) is None
    for changed in (BODY.strip(), BODY.replace(b"bounce", b"opened"), b"", b"\xff"):
        refusal = adapter.verify(replace(request, body=changed), NOW)
        assert refusal is not None
        assert not refusal.unset


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("given", ["", "x", "é" * 20, "AAAA", "v1,AAAA", "=" * 9])
def test_nonsense_is_no_signature(scheme: Scheme, given: str) -> None:
    adapter, request = scheme(BODY, NOW)
    headers = {name: given if "signature" in name else value for name, value in request.headers.items()}
    assert adapter.verify(replace(request, headers=headers), NOW) is not None


@pytest.mark.parametrize("scheme", [sendgrid, resend])
@pytest.mark.parametrize("age", [timedelta(days=30), -timedelta(days=30)])
def test_an_old_request_is_refused_and_one_from_the_future(scheme: Scheme, age: timedelta) -> None:
    adapter, request = scheme(BODY, NOW - age)
    refusal = adapter.verify(request, NOW)
    assert refusal is not None
    assert refusal.old is (age > timedelta())
    assert ("long ago" if refusal.old else "in the future") in refusal.reason
    assert adapter.verify(request, None) is None  # its age is judged only when it is asked for


def test_mailgun_signs_inside_the_body() -> None:
    mailgun = find("mailgun")(KEYS)
    adapter = made("mailgun", **mailgun.route("http://127.0.0.1", HOOK))
    told = mailgun.tell(Act(Mail("anne@orange.example", id="1"), "hard_bounce", NOW, "1-0"))
    genuine = json.loads(mailgun.wrap([told], HOOK, NOW).body)
    assert adapter.verify(WebRequest(json.dumps(genuine).encode()), NOW) is None
    stale = adapter.verify(WebRequest(json.dumps(genuine).encode()), NOW + timedelta(days=2))
    assert stale is not None
    genuine["signature"]["token"] = "another"
    assert adapter.verify(WebRequest(json.dumps(genuine).encode()), NOW) is not None


@pytest.mark.parametrize("header", ["", "Basic", "Basic !!", "Basic dXM6cHg=", "Bearer dXM6cHc=", "Basic w6k="])
def test_a_wrong_login_is_refused(header: str) -> None:
    adapter = made("postmark", webhook_user="us", webhook_password="pw")
    assert adapter.verify(WebRequest(b"{}", {"authorization": "Basic dXM6cHc="}), NOW) is None
    assert adapter.verify(WebRequest(b"{}", {"authorization": header}), NOW) is not None


def test_a_bearer_token() -> None:
    adapter = made("brevo", webhook_token="t0ken")
    assert adapter.verify(WebRequest(b"{}", {"authorization": "Bearer t0ken"}), NOW) is None
    assert adapter.verify(WebRequest(b"{}", {"authorization": "Bearer token"}), NOW) is not None


@cache
def certificate(key: Callable[[], rsa.RSAPrivateKey] = modulus) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.example")])
    began = datetime(2026, 1, 1, tzinfo=UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key().public_key())
    built = built.serial_number(1).not_valid_before(began).not_valid_after(began + timedelta(days=365))
    return built.sign(key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def notification(**changed: str) -> dict[str, str]:
    told = {"Type": "Notification", "MessageId": "1", "TopicArn": TOPIC, "Message": "{}", "SignatureVersion": "2"}
    told |= {"Timestamp": "2026-03-02T08:59:00.000Z", "SigningCertURL": CERTIFICATE_URL} | changed
    names = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
    signed = "".join(f"{name}\n{told[name]}\n" for name in names if name in told).encode()
    algorithm = hashes.SHA256() if told["SignatureVersion"] == "2" else hashes.SHA1()
    return told | {"Signature": b64encode(modulus().sign(signed, padding.PKCS1v15(), algorithm)).decode()}


def topic_of(adapter: Any, told: dict[str, str], now: datetime | None = NOW) -> Any:
    adapter.certificates = sns.Certificates(r"https://messaging\.s3\.fr-par\.scw\.cloud/\S+", lambda url: certificate())
    return adapter.verify(WebRequest(json.dumps(told).encode()), now)


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_sns_message_of_our_topic_is_believed(version: str) -> None:
    assert topic_of(made("scaleway", webhook_topic=TOPIC), notification(SignatureVersion=version)) is None


def test_an_sns_message_is_refused_when_anything_is_wrong() -> None:
    ours = made("scaleway", webhook_topic=TOPIC)
    genuine = notification()
    forged = [
        genuine | {"Message": '{"type": "email_spam"}'},
        genuine | {"SigningCertURL": "https://evil.example/cert.pem"},
        genuine | {"SigningCertURL": "https://messaging.s3.fr-par.scw.cloud.evil.example/cert.pem"},
        genuine | {"SignatureVersion": "3"},
        genuine | {"Signature": "AAAA"},
        notification(TopicArn="arn:scw:sns:fr-par:somebody:else"),
        notification(Timestamp="2026-02-01T00:00:00Z"),
        {"type": "email_delivered"},
    ]
    for told in forged:
        refusal = topic_of(ours, told)
        assert refusal is not None, told
        assert not refusal.unset


def test_without_a_topic_of_ours_any_topic_could_speak() -> None:
    refusal = topic_of(made("scaleway"), notification())
    assert refusal is not None
    assert refusal.unset


def test_a_certificate_out_of_reach_is_no_verdict() -> None:
    def fetch(url: str) -> bytes:
        raise httpx.ConnectError("no route")

    adapter = made("scaleway", webhook_topic=TOPIC)
    adapter.certificates = sns.Certificates(r"https://messaging\S+", fetch)
    refusal = adapter.verify(WebRequest(json.dumps(notification()).encode()), NOW)
    assert refusal is not None
    assert (refusal.status, refusal.unset) == (503, True)


def test_a_message_that_claims_no_signature_is_no_verdict_until_a_topic_is_set() -> None:
    bare = WebRequest(b'{"eventType": "Delivery", "mail": {}}')
    trimmed = WebRequest(json.dumps({"Type": "Notification", "Message": "{}"}).encode())
    for request in (bare, trimmed):
        refusal = made("ses").verify(request, NOW)
        assert refusal is not None
        assert refusal.unset
        refusal = made("ses", webhook_topic="arn").verify(request, NOW)
        assert refusal is not None
        assert not refusal.unset


def test_a_certificate_that_is_given_is_the_only_one() -> None:
    pem = certificate().decode()
    adapter = made("scaleway", webhook_topic=TOPIC, signing_cert=pem)
    genuine = notification()
    assert adapter.verify(WebRequest(json.dumps(genuine).encode()), NOW) is None
    assert adapter.verify(WebRequest(json.dumps(genuine | {"Message": "{ }"}).encode()), NOW) is not None


def test_of_two_certificates_either_will_do() -> None:
    old, new = certificate().decode(), certificate(successor).decode()
    genuine = WebRequest(json.dumps(notification()).encode())
    for given in (f"{old}\n{new}", f"{new}{old}"):
        assert made("ses", webhook_topic=TOPIC, webhook_certificate=given).verify(as_amazon(genuine), NOW) is None
    refusal = made("ses", webhook_topic=TOPIC, webhook_certificate=new).verify(as_amazon(genuine), NOW)
    assert refusal is not None
    assert refusal.status == 403


def as_amazon(request: WebRequest) -> WebRequest:
    url = b"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-12ab.pem"  # not among what is signed
    return replace(request, body=request.body.replace(CERTIFICATE_URL.encode(), url))


def test_a_topic_may_also_be_known_by_user_and_password() -> None:
    login = {"authorization": "Basic " + b64encode(b"u:p").decode()}
    adapter = made("ses", webhook_user="u", webhook_password="p")
    assert adapter.verify(WebRequest(b"{}", login), NOW) is None
    assert adapter.verify(WebRequest(b"{}"), NOW) is not None
