"""A local server that speaks the requests of ESPs over HTTP, and the events they would send us.

`SPOKEN` has one entry per ESP: who a request names, what the ESP answers, and how it reports a bounce. Addresses that
begin with `gone.`, `later.` or `silent.` are refused, put off or left without an answer where the ESP says so person
by person.
"""

from __future__ import annotations

import hmac
import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, parse_qsl, urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from sendwave import esp
from sendwave.esp.base import RawReport, WebRequest
from sendwave.esp.hooks import hmac_hex

Person = tuple[str, str, str]
"""Address, token as it travels, one-click link as it travels ("" where it cannot)."""


@dataclass(frozen=True)
class Call:
    """A request the ESP got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What it answers; `hang` seconds late."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0


@dataclass(frozen=True)
class Spoken:
    """How one ESP speaks."""

    people: Callable[[Call], list[Person]]
    answer: Callable[[list[str]], Reply]
    bounce: Callable[[str, str, datetime], Any]
    settings: dict[str, Any] = field(
        default_factory=lambda: {"api_key": "key", "webhook_user": "us", "webhook_password": "pw"}
    )
    sign: Callable[[bytes, datetime], dict[str, str]] = lambda body, now: {"authorization": "Basic dXM6cHc="}
    per_recipient: bool = False  # refuses, puts off, person by person
    refuses: bool = False  # refuses person by person, but puts nobody off
    one_by_one: bool = False  # a call per person
    token: bool = True  # our token comes back


class Server:
    """On loopback. `script` answers come before the ESP's own, one call each."""

    def __init__(self, spoken: Spoken) -> None:
        self.calls: list[Call] = []
        self.people: list[Person] = []
        self.script: list[Reply] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm: ClassVar = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                reply = outer.take(call, spoken)
                if reply is None:
                    self.close_connection = True
                    return
                if reply.hang:
                    outer.released.wait(reply.hang)
                raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(raw)), **reply.headers}.items():
                    self.send_header(name, value)
                with suppress(OSError):  # the caller did not wait for it
                    self.end_headers()
                    self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                pass

        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def take(self, call: Call, spoken: Spoken) -> Reply | None:
        self.calls.append(call)
        if self.script:
            return self.script.pop(0)
        found = spoken.people(call)
        addresses = [address for address, _, _ in found]
        not_taken = ("gone.", "later.") if spoken.per_recipient else ("gone.",) if spoken.refuses else ("-",)
        self.people += [one for one in found if not one[0].startswith(not_taken)]
        if spoken.one_by_one and addresses[0].startswith("silent."):
            return None
        return spoken.answer(addresses)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def serving(name: str) -> Iterator[Server]:
    server = Server(SPOKEN[name])
    try:
        yield server
    finally:
        server.close()


# ── each ESP ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _link(headers: dict[str, str]) -> str:
    assert headers.get("List-Unsubscribe-Post") == "List-Unsubscribe=One-Click"
    return headers["List-Unsubscribe"].strip("<>")


def _sendgrid_people(call: Call) -> list[Person]:
    return [
        (one["to"][0]["email"], one["custom_args"]["sendwave_token"], _link(one["headers"]))
        for one in call.json["personalizations"]
    ]


def _sendgrid_bounce(token: str, address: str, at: datetime) -> Any:
    told = {
        "event": "bounce",
        "type": "bounce",
        "email": address,
        "timestamp": int(at.timestamp()),
        "sg_event_id": "e1",
        "sendwave_token": token,
        "reason": "550 5.1.1 User unknown",
        "status": "5.1.1",
    }
    return [told]


def _brevo_people(call: Call) -> list[Person]:
    assert call.json["headers"]["idempotencyKey"]
    return [
        (one["to"][0]["email"], one["headers"]["X-Mailin-custom"], _link(one["headers"]))
        for one in call.json["messageVersions"]
    ]


def _brevo_bounce(token: str, address: str, at: datetime) -> Any:
    return {
        "event": "hard_bounce", "email": address, "ts_epoch": int(at.timestamp() * 1000), "message-id": "<1@brevo>",
        "X-Mailin-custom": token, "reason": "550 5.1.1 User unknown", "id": 1,
    }  # fmt: skip


def _mailjet_answer(addresses: list[str]) -> Reply:
    def one(address: str) -> dict[str, Any]:
        if address.startswith("gone."):
            error = {
                "ErrorCode": "mj-0013",
                "StatusCode": 400,
                "ErrorMessage": "no such address",
                "ErrorRelatedTo": ["To[0].Email"],
            }
            return {"Status": "error", "Errors": [error]}
        if address.startswith("later."):
            return {"Status": "error", "Errors": [{"ErrorCode": "mj-0009", "StatusCode": 429, "ErrorMessage": "later"}]}
        return {"Status": "success", "To": [{"Email": address, "MessageID": 1}]}

    return Reply(200, {"Messages": [one(address) for address in addresses]})


def _mailjet_bounce(token: str, address: str, at: datetime) -> Any:
    told = {"event": "bounce", "time": int(at.timestamp()), "MessageID": 1, "email": address, "CustomID": token}
    return [told | {"hard_bounce": True, "error": "user unknown", "blocked": False}]


def _mailgun_people(call: Call) -> list[Person]:
    form = parse_qs(call.body.decode())
    assert form["v:sendwave_token"] == ["%recipient.token%"]
    assert form["h:List-Unsubscribe"] == ["<%recipient.link%>"]
    variables = json.loads(form["recipient-variables"][0])
    return [(address, variables[address]["token"], variables[address]["link"]) for address in form["to"]]


def _mailgun_bounce(token: str, address: str, at: datetime) -> Any:
    stamp = str(int(at.timestamp()))
    signature = {"timestamp": stamp, "token": "t", "signature": hmac_hex("secret", f"{stamp}t".encode())}
    data = {"event": "failed", "severity": "permanent", "reason": "bounce", "timestamp": at.timestamp(), "id": "e1"}
    data |= {"recipient": address, "user-variables": {"sendwave_token": token}}
    return {"signature": signature, "event-data": data | {"delivery-status": {"code": 550, "message": "User unknown"}}}


def _postmark_people(call: Call) -> list[Person]:
    def link(one: Any) -> str:
        return _link({header["Name"]: header["Value"] for header in one["Headers"]})

    return [(one["To"], one["Metadata"]["sendwave_token"], link(one)) for one in call.json]


def _postmark_answer(addresses: list[str]) -> Reply:
    codes = {"gone.": (406, "inactive recipient"), "later.": (429, "too many")}
    told = [next((v for k, v in codes.items() if address.startswith(k)), (0, "OK")) for address in addresses]
    return Reply(200, [{"ErrorCode": code, "Message": text} for code, text in told])


def _postmark_bounce(token: str, address: str, at: datetime) -> Any:
    told = {"RecordType": "Bounce", "Type": "HardBounce", "Email": address, "BouncedAt": at.isoformat(), "ID": 42}
    return told | {"Metadata": {"sendwave_token": token}, "Details": "smtp;550 5.1.1 User unknown"}


def _mailjet_people(call: Call) -> list[Person]:
    return [(one["To"][0]["Email"], one["CustomID"], _link(one["Headers"])) for one in call.json["Messages"]]


def _sparkpost_people(call: Call) -> list[Person]:
    content = call.json["content"]
    assert content["headers"]["List-Unsubscribe"] == "<{{{sw_link}}}>"
    return [
        (one["address"]["email"], one["metadata"]["sendwave_token"], one["substitution_data"]["sw_link"])
        for one in call.json["recipients"]
    ]


def _sparkpost_bounce(token: str, address: str, at: datetime) -> Any:
    told = {"type": "bounce", "bounce_class": "10", "timestamp": str(int(at.timestamp())), "event_id": "1"}
    told |= {"rcpt_to": address, "raw_reason": "550 5.1.1 User unknown"}
    return [{"msys": {"message_event": {**told, "rcpt_meta": {"sendwave_token": token}}}}]


def _mandrill_people(call: Call) -> list[Person]:
    message = call.json["message"]
    tokens = {one["rcpt"]: one["values"]["sendwave_token"] for one in message["recipient_metadata"]}
    return [(one["email"], tokens[one["email"]], "") for one in message["to"]]


def _mandrill_answer(addresses: list[str]) -> Reply:
    told = [
        {"email": one, "status": "rejected", "reject_reason": "hard-bounce"}
        if one.startswith("gone.")
        else {"email": one, "status": "queued", "_id": "1"}
        for one in addresses
    ]
    return Reply(200, told[::-1])


def _mandrill_bounce(token: str, address: str, at: datetime) -> Any:
    message = {"_id": "1", "email": address, "metadata": {"sendwave_token": token}, "diag": "550 5.1.1 unknown user"}
    told = [{"event": "hard_bounce", "ts": int(at.timestamp()), "_id": "1", "msg": message}]
    return urlencode({"mandrill_events": json.dumps(told)}).encode()


def _mandrill_sign(body: bytes, now: datetime) -> dict[str, str]:
    signed = "https://hooks.example/mandrill" + "".join(n + v for n, v in sorted(parse_qsl(body.decode())))
    return {"x-mandrill-signature": b64encode(hmac.digest(b"secret", signed.encode(), "sha1")).decode()}


def _resend_people(call: Call) -> list[Person]:
    assert call.headers["idempotency-key"]
    return [(one["to"][0], one["tags"][0]["value"], _link(one["headers"])) for one in call.json]


def _resend_bounce(token: str, address: str, at: datetime) -> Any:
    data = {"email_id": "1", "to": [address], "tags": {"sendwave_token": token}}
    bounce = {"type": "Permanent", "subType": "General", "message": "550 5.1.1 User unknown"}
    return {"type": "email.bounced", "created_at": at.isoformat(), "data": data | {"bounce": bounce}}


def _resend_sign(body: bytes, now: datetime) -> dict[str, str]:
    stamp = str(int(now.timestamp()))
    given = b64encode(hmac.digest(b"secret", f"msg_1.{stamp}.".encode() + body, "sha256")).decode()
    return {"svix-id": "msg_1", "svix-timestamp": stamp, "svix-signature": f"v1,AAAA v1,{given}"}


def _mailersend_people(call: Call) -> list[Person]:
    return [(one["to"][0]["email"], one["tags"][0], one["list_unsubscribe"].strip("<>")) for one in call.json]


def _mailersend_bounce(token: str, address: str, at: datetime) -> Any:
    data = {"type": "hard_bounced", "id": "1", "created_at": at.isoformat(), "morph": {"reason": "550 5.1.1 unknown"}}
    inner = {"message": {"id": "m"}, "recipient": {"email": address}, "tags": [token]}
    return {"type": "activity.hard_bounced", "data": {**data, "email": inner}}


def _scaleway_people(call: Call) -> list[Person]:
    headers = {one["key"]: one["value"] for one in call.json["additional_headers"]}
    return [(call.json["to"][0]["email"], headers["X-Sendwave-Token"], _link(headers))]


def _scaleway_answer(addresses: list[str]) -> Reply:
    if addresses[0].startswith("gone."):
        return Reply(400, {"type": "invalid_arguments", "message": "no such address"})
    if addresses[0].startswith("later."):
        return Reply(429, {"message": "later"})
    return Reply(200, {"emails": [{"id": "1"}]})


def _scaleway_bounce(token: str, address: str, at: datetime) -> Any:
    told = {"type": "email_dropped", "id": "1", "created_at": at.isoformat(), "email_to": address}
    told |= {"email_response_code": 550, "email_response_message": "5.1.1 User unknown"}
    return {**told, "email_headers": [{"key": "X-Sendwave-Token", "value": token}]}


def _postal_people(call: Call) -> list[Person]:
    return [(call.json["to"][0], call.json["tag"], _link(call.json["headers"]))]


def _postal_answer(addresses: list[str]) -> Reply:
    if addresses[0].startswith("gone."):
        return Reply(200, {"status": "error", "data": {"code": "ValidationError", "message": "no such address"}})
    if addresses[0].startswith("later."):
        return Reply(429, {})
    return Reply(200, {"status": "success", "data": {"messages": {}}})


def _postal_bounce(token: str, address: str, at: datetime) -> Any:
    message = {"to": address, "tag": token, "direction": "outgoing", "message_id": "1@postal"}
    payload = {"status": "HardFail", "output": "550 5.1.1 User unknown", "message": message}
    return {"event": "MessageDeliveryFailed", "timestamp": at.timestamp(), "uuid": "1", "payload": payload}


def _kumomta_people(call: Call) -> list[Person]:
    assert call.json["content"]["headers"]["X-Sendwave-Token"] == "{{ sw_token }}"
    return [
        (one["email"], one["substitutions"]["sw_token"], one["substitutions"]["sw_link"])
        for one in call.json["recipients"]
    ]


def _kumomta_answer(addresses: list[str]) -> Reply:
    failed = [one for one in addresses if one.startswith("gone.")]
    told = {"success_count": len(addresses) - len(failed), "fail_count": len(failed), "failed_recipients": failed}
    return Reply(200, told | {"errors": ["no such address"] if failed else []})


def _kumomta_bounce(token: str, address: str, at: datetime) -> Any:
    code = {"class": 5, "subject": 1, "detail": 1}
    told = {"type": "Bounce", "id": "1", "recipient": address, "timestamp": int(at.timestamp()), "num_attempts": 0}
    return {
        **told,
        "response": {"code": 550, "enhanced_code": code, "content": "unknown"},
        "meta": {"sendwave_token": token},
    }


def _ses_people(call: Call) -> list[Person]:
    return [
        (
            one["Destination"]["ToAddresses"][0],
            one["ReplacementTags"][0]["Value"],
            _link({header["Name"]: header["Value"] for header in one["ReplacementHeaders"]}),
        )
        for one in call.json["BulkEmailEntries"]
    ]


def _ses_answer(addresses: list[str]) -> Reply:
    codes = {"gone.": "MESSAGE_REJECTED", "later.": "ACCOUNT_THROTTLED"}
    told = [next((v for k, v in codes.items() if address.startswith(k)), "SUCCESS") for address in addresses]
    return Reply(200, {"BulkEmailEntryResults": [{"Status": status, "MessageId": "1"} for status in told]})


def _ses_bounce(token: str, address: str, at: datetime) -> Any:
    bounce = {"bounceType": "Permanent", "bounceSubType": "General", "timestamp": at.isoformat(), "feedbackId": "1"}
    bounce["bouncedRecipients"] = [{"emailAddress": address, "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 no"}]
    told = {"eventType": "Bounce", "bounce": bounce, "mail": {"messageId": "1", "tags": {"sendwave_token": [token]}}}
    return sns_notification(json.dumps(told), at)


SNS_TOPIC = "arn:aws:sns:eu-west-1:123456789012:events"


@cache
def sns_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def sns_certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.example")])
    began = datetime(2026, 1, 1, tzinfo=UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(sns_key().public_key())
    built = built.serial_number(1).not_valid_before(began).not_valid_after(began + timedelta(days=365))
    return built.sign(sns_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def sns_notification(message: str, at: datetime) -> dict[str, str]:
    told = {
        "Message": message,
        "MessageId": "1",
        "Timestamp": at.isoformat(),
        "TopicArn": SNS_TOPIC,
        "Type": "Notification",
    }
    signed = "".join(f"{name}\n{value}\n" for name, value in told.items()).encode()
    url = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
    given = b64encode(sns_key().sign(signed, padding.PKCS1v15(), hashes.SHA256())).decode()
    return told | {"SignatureVersion": "2", "SigningCertURL": url, "Signature": given}


LOGIN = {"webhook_user": "us", "webhook_password": "pw"}

SPOKEN: dict[str, Spoken] = {
    "sendgrid": Spoken(_sendgrid_people, lambda _: Reply(202, b"", {"X-Message-Id": "m1"}), _sendgrid_bounce),
    "brevo": Spoken(_brevo_people, lambda _: Reply(201, {"messageIds": ["<1@brevo>"]}), _brevo_bounce),
    "mailjet": Spoken(
        _mailjet_people,
        _mailjet_answer,
        _mailjet_bounce,
        settings={"api_key": "key", "api_secret": "secret", **LOGIN},
        per_recipient=True,
    ),
    "mailgun": Spoken(
        _mailgun_people,
        lambda _: Reply(200, {"id": "<1@mg>", "message": "Queued. Thank you."}),
        _mailgun_bounce,
        settings={"api_key": "key", "webhook_secret": "secret"},
        sign=lambda body, now: {},
    ),
    "postmark": Spoken(_postmark_people, _postmark_answer, _postmark_bounce, per_recipient=True),
    "sparkpost": Spoken(_sparkpost_people, lambda _: Reply(200, {"results": {"id": "1"}}), _sparkpost_bounce),
    "mandrill": Spoken(
        _mandrill_people,
        _mandrill_answer,
        _mandrill_bounce,
        settings={"api_key": "k", "webhook_secret": "secret", "webhook_url": "https://hooks.example/mandrill"},
        sign=_mandrill_sign,
        refuses=True,
    ),
    "resend": Spoken(
        _resend_people,
        lambda _: Reply(200, {"data": [{"id": "1"}]}),
        _resend_bounce,
        settings={"api_key": "key", "webhook_secret": "whsec_c2VjcmV0"},
        sign=_resend_sign,
    ),
    "mailersend": Spoken(
        _mailersend_people,
        lambda _: Reply(202, {"bulk_email_id": "1"}),
        _mailersend_bounce,
        settings={"api_key": "key", "webhook_secret": "secret"},
        sign=lambda body, now: {"signature": hmac_hex("secret", body)},
    ),
    "scaleway": Spoken(
        _scaleway_people,
        _scaleway_answer,
        _scaleway_bounce,
        settings={"api_key": "key", "project_id": "p", **LOGIN},
        per_recipient=True,
        one_by_one=True,
    ),
    "postal": Spoken(_postal_people, _postal_answer, _postal_bounce, per_recipient=True, one_by_one=True),
    "ses": Spoken(
        _ses_people,
        _ses_answer,
        _ses_bounce,
        settings={"access_key": "key", "secret_key": "secret", "webhook_topic": SNS_TOPIC},
        sign=lambda body, now: {},
        per_recipient=True,
    ),
    "kumomta": Spoken(_kumomta_people, _kumomta_answer, _kumomta_bounce, settings=LOGIN, refuses=True),
}


# ── for the conformance suite ────────────────────────────────────────────────────────────────────────────────────────
CONTENT = {
    "body.txt": "Bonjour {{ first_name }}\n{{ unsubscribe_url }}\n",
    "body.html": "<p>Bonjour {{ first_name }}</p>\n",
}


class World:
    """One adapter, and what truly happened."""

    def __init__(self, name: str, home: Path, token_key: bytes, server: Server) -> None:
        self.spoken, self._server = SPOKEN[name], server
        write_content(home)
        settings = {"esp": name, **self.spoken.settings, "base_url": server.url}
        self.adapter: Any = esp.make(settings, route="test", home=home, token_key=token_key)
        if name == "ses":
            self.adapter.certificates._fetch = lambda url: sns_certificate()
        told = self.spoken
        self.addresses = {
            "accepted": ["anne@orange.example", "bruno@gmail.example"],
            "refused": ["gone.1@orange.example"] if told.per_recipient or told.refuses else [],
            "deferred": ["later.1@orange.example"] if told.per_recipient else [],
            "unknown": [],
        }

    def written_to(self) -> list[str]:
        return [address for address, _, _ in self._server.people]

    def requests(self, tokens: list[str], now: datetime) -> list[WebRequest]:
        """What the ESP posts to our webhook."""
        return [request(self.spoken, self.spoken.bounce(token, "anne@orange.example", now), now) for token in tokens]


def request(spoken: Spoken, told: Any, now: datetime) -> WebRequest:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return WebRequest(body, spoken.sign(body, now), content_type="application/json")


def report(found: WebRequest) -> RawReport:
    return RawReport(found.body, {"content-type": found.content_type, **found.headers})


def write_content(home: Path) -> None:
    (home / "content").mkdir(parents=True, exist_ok=True)
    for file, text in CONTENT.items():
        (home / "content" / file).write_text(text, encoding="utf-8")


def conforming(name: str) -> tuple[Any, Any]:
    """`world` and `away` for tests/conformance/esp_worlds/<name>.py."""

    @contextmanager
    def world(home: Path, token_key: bytes) -> Iterator[World]:
        with serving(name) as server:
            made = World(name, home, token_key, server)
            try:
                yield made
            finally:
                made.adapter.close()

    @contextmanager
    def away(home: Path, token_key: bytes, now: datetime) -> Iterator[Any]:
        write_content(home)
        with serving(name) as server:
            url = server.url
        settings = {"esp": name, **SPOKEN[name].settings, "base_url": url}
        yield esp.make(settings, route="test", home=home, token_key=token_key)

    return world, away
