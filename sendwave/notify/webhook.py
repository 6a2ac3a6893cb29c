"""Alerts as JSON to a URL: a CRM's task, a chat's incoming hook, anything that takes a POST.

Signed as the Standard Webhooks specification says (`webhook-id`, `webhook-timestamp`, `webhook-signature`:
`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`) where a secret is set, so that the receiver can verify and
de-duplicate with any of its libraries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Annotated, ClassVar, Final

import httpx
from pydantic import AfterValidator, Field, SecretStr

from sendwave.errors import Permanent, Transient
from sendwave.notify.base import ChannelSettings, Notice

_LATER: Final = frozenset({408, 425, 429})


def _http(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as fault:
        raise ValueError(f"is no URL: {fault}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("must begin with https:// (or http:// inside your own network)")
    return url


def _secret(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        _key(value.get_secret_value())
    return value


def _key(secret: str) -> bytes:
    """The key behind `whsec_…` (base64). Raises ValueError for anything else."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the secret is base64, whsec_ in front or not (Standard Webhooks)") from None


class WebhookSettings(ChannelSettings):
    """Where to, and with what."""

    url: Annotated[str, AfterValidator(_http)] = Field(repr=False)  # incoming hooks carry their secret in the URL
    secret: Annotated[SecretStr, AfterValidator(_secret)] = SecretStr("")
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    text_only: bool = Field(default=False, description="Only {text: …}, as chats' incoming hooks want it.")
    timeout: float = Field(default=10.0, gt=0, le=120, description="Seconds.")


class Adapter:
    """One POST per notice."""

    name: ClassVar[str] = "webhook"
    Settings: ClassVar[type[ChannelSettings]] = WebhookSettings

    def __init__(self, settings: WebhookSettings) -> None:
        """Nothing is sent yet."""
        self.settings = settings
        self._client = httpx.Client(timeout=settings.timeout, follow_redirects=False)

    def send(self, notice: Notice) -> None:
        """POST it. A 2xx is a delivery; 408, 425, 429, 5xx and a line that breaks may go again; the rest may not."""
        body = json.dumps(self._document(notice), ensure_ascii=False, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", "idempotency-key": notice.key, **self._signature(notice, body)}
        try:
            answer = self._client.post(self.settings.url, content=body, headers=headers | self.settings.headers)
        except httpx.HTTPError as fault:
            raise Transient(f"the webhook could not be reached: {type(fault).__name__}") from fault
        if answer.is_success:
            return
        said = f"the webhook answered {answer.status_code}"
        if answer.status_code in _LATER or answer.status_code >= 500:
            raise Transient(said, _seconds(answer.headers.get("retry-after")))
        raise Permanent(said)

    def _document(self, notice: Notice) -> object:
        if self.settings.text_only:
            return {"text": "\n".join([notice.title, notice.text, *notice.lines])}
        return notice.document()

    def _signature(self, notice: Notice, body: bytes) -> dict[str, str]:
        stamp = "0" if notice.now is None else str(int(notice.now.timestamp()))
        headers = {"webhook-id": notice.key, "webhook-timestamp": stamp}
        if secret := self.settings.secret.get_secret_value():
            signed = f"{notice.key}.{stamp}.".encode() + body
            digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
            headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return headers

    def close(self) -> None:
        """Close the connections kept alive."""
        self._client.close()


def _seconds(value: str | None) -> float | None:
    return float(value) if value is not None and value.isdecimal() else None
