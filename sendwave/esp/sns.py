"""Amazon SNS messages, and Scaleway's of the same shape: taken out of their envelope, and believed.

docs.aws.amazon.com/sns: "Verifying the signatures of Amazon SNS messages". A valid signature says that some topic of
theirs sent it, anybody's: only the topic's name says that it is ours.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import httpx

from sendwave.errors import BadInput
from sendwave.esp import hooks, signatures
from sendwave.esp.base import Refusal, WebRequest

_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_TIMEOUT: Final = 10.0  # seconds
GIVEN: Final = (
    "PEM of the certificate messages are signed by, or of several; then none is fetched, and no other believed."
)
"""What the setting webhook_certificate is for."""


def is_envelope(document: Any) -> bool:
    """Whether this is a message of SNS rather than what is inside of one."""
    if not isinstance(document, dict):
        return False
    return hooks.text(document, "Type") in _SIGNED and isinstance(document.get("Message"), str)


def confirmation(body: bytes, allowed: str) -> str | None:
    """The URL a topic wants visited before it sends anything, where it matches the pattern `allowed`.

    Ask only once the request is believed: whoever can make us visit a URL can make us knock anywhere. Raises BadInput
    for a URL elsewhere.
    """
    told = hooks.read_json(body, of="SNS")
    if not is_envelope(told) or told["Type"] != "SubscriptionConfirmation":
        return None
    url = told.get("SubscribeURL")
    if not isinstance(url, str) or not re.fullmatch(allowed, url):
        raise BadInput("the subscription is to be confirmed at a URL that is not the sender's: it is not visited")
    return url


def open_envelope(document: Any, *, of: str) -> Any:
    """What is inside; the document itself when it has no envelope; [] for the questions about subscribing."""
    if not is_envelope(document):
        return document
    if document["Type"] != "Notification":
        return []
    return hooks.read_json(document["Message"].encode("utf-8", "surrogatepass"), of=of)


class Certificates:
    """Certificates by URL, fetched once. Safe for several threads."""

    def __init__(self, allowed: str, fetch: Callable[[str], bytes] | None = None, given: str | None = None) -> None:
        """`allowed` is a pattern of whole URLs: anybody can put up a certificate elsewhere. With `given`, the PEM of
        the certificate, none is fetched.
        """
        self._allowed, self._fetch = re.compile(allowed), fetch or _fetch
        if given:
            self._fetch = lambda url: given.encode()  # noqa: ARG005  # whatever its name, it is this one
        self._known: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, url: str) -> bytes | None:
        """The certificate, None where the URL is not theirs. Raises httpx.HTTPError when it cannot be fetched."""
        if not self._allowed.fullmatch(url):
            return None
        with self._lock:
            if url not in self._known:
                self._known[url] = self._fetch(url)
            return self._known[url]


def _fetch(url: str) -> bytes:
    reply = httpx.get(url, timeout=_TIMEOUT, follow_redirects=False)
    return reply.raise_for_status().content


def believe(request: WebRequest, now: datetime | None, settings: Any, certificates: Certificates) -> Refusal | None:
    """By what is set: the topic and its signature, user and password, or both."""
    topic, login = settings.webhook_topic, bool(settings.webhook_user or settings.webhook_password)
    if topic is None and (login or settings.webhook_token):
        return hooks.check_login(settings, request)
    return verify(
        request, now, certificates=certificates, topic=topic, tolerance=settings.webhook_tolerance
    ) or hooks.check_login(settings, request, signed=True)


def verify(
    request: WebRequest,
    now: datetime | None,
    *,
    certificates: Certificates,
    topic: str | None,
    tolerance: timedelta,
) -> Refusal | None:
    """Signature by the certificate of an allowed URL, age, and that the topic is ours."""
    try:
        told = json.loads(request.body)
    except (ValueError, RecursionError):
        told = None
    if topic is None and (bare := _unsigned(told)):
        return Refusal(bare, unset=True)
    if not is_envelope(told):
        return Refusal("this is no signed SNS message", status=400)
    url = told.get("SigningCertURL")
    try:
        certificate = certificates.get(url) if isinstance(url, str) else None
    except httpx.HTTPError as fault:
        return Refusal(f"the signing certificate cannot be fetched: {fault}", status=503, unset=True)
    if certificate is None:
        return Refusal("the signing certificate is not the sender's: its URL is elsewhere", status=403)
    signed = "".join(f"{name}\n{told[name]}\n" for name in _SIGNED[told["Type"]] if isinstance(told.get(name), str))
    given, version = str(told.get("Signature")), str(told.get("SignatureVersion"))
    if version not in {"1", "2"} or not signatures.certified(
        certificate, given, signed.encode("utf-8", "surrogatepass"), sha1=version == "1"
    ):
        return Refusal("the signature is missing, wrong or of a kind nobody knows", status=403)
    return _ours(told, now, topic, tolerance)


def _unsigned(told: Any) -> str | None:
    """What to say of a message that claims no signature; None of any other. With a topic set it is a forgery."""
    if not isinstance(told, dict):
        return None
    if not is_envelope(told):
        return "webhook_topic is not set, and a message without its envelope (raw delivery) is not signed"
    signed = "SigningCertURL" in told or "Signature" in told
    return None if signed else "webhook_topic is not set, and this message has no signature"


def _ours(told: dict[str, Any], now: datetime | None, topic: str | None, tolerance: timedelta) -> Refusal | None:
    when = hooks.read_instant(told.get("Timestamp"))
    if now is not None and when is None:
        return Refusal("the message has no instant")
    if when is not None and (wrong := hooks.judge_age(when.timestamp(), now, tolerance)):
        return wrong
    if topic is None:
        return Refusal("webhook_topic is not set, and anybody's topic is signed as well as ours", unset=True)
    if not hooks.same(str(told.get("TopicArn")), topic):
        return Refusal("the message is of somebody else's topic", status=403)
    return None
