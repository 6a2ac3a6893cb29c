"""KumoMTA: HTTP injection, and its log records posted by a log hook.

docs.kumomta.com: "Injecting via HTTP" (/api/inject/v1), "Log Records", "log_hooks".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from sendwave.errors import Permanent
from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, Recall, Receipt
from sendwave.esp.http import Client
from sendwave.esp.mailing import ONE_CLICK, TOKEN, Mailing, Piece
from sendwave.esp.mime import TOKEN_HEADER
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.units import Duration, parse_duration

_WORDS: Final = {
    "Reception": words.ACCEPTED,
    "Delivery": words.DELIVERED,
    "TransientFailure": words.DEFERRED,
    "Bounce": words.UNCLEAR,
    "OOB": words.UNCLEAR,
    "Expiration": Word(EventType.BOUNCE, Permanence.SOFT, Cause.EXPIRED),
    "AdminBounce": words.FAIL,
    "Rejection": words.REJECTED,
    "Feedback": words.COMPLAINT,
}
_FEEDBACK: Final = {  # feedback_type, RFC 5965 §7.3: those that complain or want no more
    "Feedback": words.COMPLAINT,
    "abuse": words.COMPLAINT,
    "fraud": words.COMPLAINT,
    "opt-out": words.UNSUBSCRIBE,
    "opt-out-list": words.UNSUBSCRIBE,
}
_BOUNCE_FOR: Final = "5m"  # also what is injected so much later, by a call that was under way
_NO_EVENTS: Final = frozenset({"AdminRebind", "DeferredInjectionRebind", "Delayed"})
_CLASSES: Final = {  # assets/bounce_classifier/iana.toml
    "InvalidRecipient": Cause.UNKNOWN_USER,
    "InactiveMailbox": Cause.UNKNOWN_USER,
    "BadDomain": Cause.BAD_DOMAIN,
    "QuotaIssues": Cause.MAILBOX_FULL,
    "SpamBlock": Cause.BLOCKED_REPUTATION,
    "SpamContent": Cause.CONTENT,
    "ContentRelated": Cause.CONTENT,
    "VirusDetected": Cause.CONTENT,
    "PolicyRelated": Cause.POLICY,
    "AuthenticationFailed": Cause.POLICY,
    "RelayDenied": Cause.POLICY,
    "TooManyConnections": Cause.THROTTLED,
}


class KumomtaSettings(hooks.WebhookSettings):
    """A route by one's own KumoMTA."""

    esp: Literal["kumomta"]
    base_url: str = Field("http://127.0.0.1:8000", description="Of its HTTP listener.")
    user: str | None = Field(None, description="User of the HTTP listener, where it asks for one.")
    password: SecretStr | None = None
    bounce_domain: str | None = Field(
        None, description="Domain of the envelope sender; the sender's own when left out."
    )
    tenant: str | None = Field(None, description="Given as the header X-Tenant, for shaping.")
    batch_size: int = Field(1000, ge=1, le=10_000)
    queued_for: Duration = Field(parse_duration("1d"), description="How long mail may wait there; a halt bounces it.")
    timeout: Duration = Field(parse_duration("5m"), description="Back-pressure makes it wait instead of failing.")


class Adapter(WebAdapter):
    """The `kumomta` ESP. Safe for several threads."""

    name: ClassVar[str] = "kumomta"
    Settings: ClassVar[type[AdapterSettings]] = KumomtaSettings
    _settings: KumomtaSettings

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._settings.batch_size,
            recall=Recall.QUEUE,
            per_recipient=True,
            feed=Feed.WEBHOOK,
            concurrent=True,
            reports_delivery=True,
        )

    def _connect(self) -> Client:
        user, password = self._settings.user, hooks.secret(self._settings.password) or ""
        auth = (user, password) if user else None
        return Client(self._settings.base_url, headers={}, auth=auth, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        if mailing.template:
            raise Permanent("kumomta has no templates of its own: give the campaign `content`")
        answer = client.post("/api/inject/v1", self._document(mailing))
        if not 200 <= answer.status < 300:
            http.refuse(answer, mailing.submission.now)
        told = hooks.part({"answer": answer.document}, "answer")
        failed = told.get("failed_recipients")
        names = {one.lower() for one in failed if isinstance(one, str)} if isinstance(failed, list) else set()
        errors = told.get("errors")
        why = hooks.described(e for e in errors if isinstance(e, str)) if isinstance(errors, list) else ""
        meaning = (Permanence.UNKNOWN, Cause.OTHER)
        lost = [piece for piece in mailing.pieces if piece.address.lower() in names]
        refused = [mailing.answer(p.index, EventType.REJECT, why or "not injected", meaning) for p in lost]
        until = mailing.submission.now + self._settings.queued_for
        return Receipt(refused, ref=_campaign(mailing), recall_until=until)

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        """See RecallingAdapter: what waits in the queue is bounced; an AdminBounce record tells of each person."""
        for campaign in dict.fromkeys(refs):
            order = {"campaign": campaign, "reason": "stopped by sendwave", "duration": _BOUNCE_FOR}
            answer = self._connected().post("/api/admin/bounce/v1", order)
            if not 200 <= answer.status < 300:
                http.refuse(answer, now)
        return [False] * len(refs)

    def _document(self, mailing: Mailing) -> dict[str, Any]:
        name, address = mailing.sender
        first = mailing.pieces[0]
        headers = {TOKEN_HEADER: "{{ sw_token }}", "X-Campaign": _campaign(mailing)}
        if self._settings.tenant:
            headers["X-Tenant"] = self._settings.tenant
        if first.link:
            headers |= {"List-Unsubscribe": "<{{ sw_link }}>", "List-Unsubscribe-Post": ONE_CLICK}
        content: dict[str, Any] = {
            "from": {"email": address, "name": name} if name else {"email": address},
            "headers": headers,
        }
        if mailing.reply_to:
            content["reply_to"] = {"email": mailing.reply_to[1]}
        # minijinja, told that what we give is no text to escape
        shared, values = mailing.shared(lambda name: f"{{{{ {name} | safe }}}}", "{{", "{%", "{#")
        content |= {"subject" if part == "subject" else f"{part}_body": text for part, text in shared.items()}
        domain = self._settings.bounce_domain or address.rpartition("@")[2]
        return {
            "envelope_sender": f"bounces@{domain}",
            "content": content,
            "recipients": [_recipient(piece, row) for piece, row in zip(mailing.pieces, values, strict=True)],
        }

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        said = told.get("type")
        if isinstance(said, str) and said in _NO_EVENTS:
            return
        word, response = words.look_up(_WORDS, said), hooks.part(told, "response")
        cause = _CLASSES.get(hooks.text(told, "bounce_classification") or "")
        if word.kind in {EventType.BOUNCE, EventType.DEFERRED} and cause and word.cause is Cause.OTHER:
            word = Word(word.kind, word.permanence, cause)
        report, meta = hooks.part(told, "feedback_report"), hooks.part(told, "meta")
        if word is words.COMPLAINT:
            said = hooks.text(report, "feedback_type") or said
            word = words.look_up(_FEEDBACK, said)
        code, content = hooks.text(response, "code"), hooks.text(response, "content")
        yield words.event(
            word,
            received_at,
            at=told.get("event_time") or told.get("timestamp"),
            said=said,
            token=_token(told, meta),
            recipient=_recipient_of(told, report),
            message_id=hooks.text(told, "id"),
            event_id="-".join(filter(None, (hooks.text(told, n) for n in ("id", "type", "num_attempts", "timestamp")))),
            reply=f"{code} {content}" if code and content else content,
            enhanced=_enhanced(hooks.part(response, "enhanced_code")),
        )


def _campaign(mailing: Mailing) -> str:
    """Campaign, wave and lane: what can be stopped for itself. KumoMTA takes it from the header X-Campaign."""
    lane = "".join(c if c.isalnum() else "-" for c in mailing.submission.provider)
    return f"{'-'.join(mailing.tags)}-{lane}"


def _recipient(piece: Piece, values: dict[str, str]) -> dict[str, Any]:
    given = {"sw_token": piece.token, "sw_link": piece.link, **values}
    return {"email": piece.address, "substitutions": given, "metadata": {TOKEN: piece.token}}


def _token(told: dict[str, Any], meta: dict[str, Any]) -> str | None:
    """In the meta the log hook was told to list, or the header of ours it was told to."""
    headers = hooks.part(told, "headers")
    return hooks.text(meta, TOKEN) or hooks.text(hooks.part(meta, "extra"), TOKEN) or hooks.text(headers, TOKEN_HEADER)


def _recipient_of(told: dict[str, Any], report: dict[str, Any]) -> str | None:
    for found in (report.get("original_rcpt_to"), told.get("recipient")):
        first = found[0] if isinstance(found, list) and found else found
        if isinstance(first, str) and first:
            return hooks.storable(first)
    return None


def _enhanced(code: dict[str, Any]) -> str | None:
    parts = [hooks.text(code, name) for name in ("class", "subject", "detail")]
    return ".".join(part for part in parts if part) if all(parts) else None
