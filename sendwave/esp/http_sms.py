"""Any gateway for text messages or push notifications over HTTP, described in the settings of its route.

What it is told, how its answer says who was taken, and what its webhook's words mean: docs/guides/sms.md has a worked
example. An address is an international number (sms) or the contact's id, which push services know people by (push).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import parse_qsl

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from sendwave.errors import BadInput, Permanent, Unknown
from sendwave.esp import gateway, hooks, http, words
from sendwave.esp.base import (
    AdapterSettings,
    Answers,
    Capabilities,
    Feed,
    PerRecipient,
    RawReport,
    Receipt,
    Refusal,
    WebRequest,
)
from sendwave.esp.http import Answer, Client
from sendwave.esp.mailing import Addressing, Mailing, Piece
from sendwave.esp.mime import BadAddress
from sendwave.esp.web import WebAdapter
from sendwave.rules.addresses import normalise_phone
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.messages import measure, simplify
from sendwave.rules.units import Duration, parse_duration

_STOP: Final = ("STOP", "ARRET", "ARRÊT", "STOPP", "UNSUBSCRIBE", "CANCEL", "END", "QUIT")
_DIGESTS: Final = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha512": hashlib.sha512}
_LATER: Final = (Permanence.SOFT, Cause.THROTTLED)


def _known_meaning(written: str) -> str:
    gateway.meaning(written)
    return written


Meaning = Annotated[str, AfterValidator(_known_meaning)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Results(_Part):
    """How an answer says what became of each person. Paths are keys with dots: `data.status`."""

    items: str | None = Field(None, description="Path of the list with an item for each person; none: all were taken.")
    by: str | None = Field(None, description="Path in an item of the {to} or {token} it is about; none: in our order.")
    status: str | None = Field(None, description="Path in an item of the word that says it.")
    accepted: tuple[str, ...] = Field((), description="Words for taken; with none, an item without `reason` is.")
    later: tuple[str, ...] = Field((), description="Words for not now. Any other word is a refusal.")
    gone: tuple[str, ...] = Field((), description="Words for a number that does not exist.")
    reason: str | None = Field(None, description="Path in an item of why.")
    error: str | None = Field(None, description="Path of the word for why a whole call was refused.")
    held: tuple[str, ...] = Field((), description="Such words for: no credit, account stopped. The route waits.")


class Events(_Part):
    """How its webhook reports, and what people answer."""

    format: Literal["json", "form"] = "json"
    items: str | None = Field(None, description="Path of the list of events; none: the body is one, or a list.")
    status: str = Field("status", description="Path in an event of its word.")
    words: Mapping[str, Meaning] = Field(
        default_factory=dict, description="From its words to ours: `bounce hard unknown_user`, `delivered`."
    )
    token: str | None = Field(None, description="Path of what was sent as {token}.")
    to: str | None = Field(None, description="Path of the number or id it is about.")
    id: str | None = Field(None, description="Path of the event's or message's id.")
    at: str | None = Field(None, description="Path of its instant: epoch seconds, milliseconds, or ISO 8601.")
    reason: str | None = Field(None, description="Path of the reason of a failure.")
    reply: str | None = Field(None, description="Path of a person's answer; an event that has one is an answer.")
    reply_from: str | None = Field(None, description="Path of the number it came from.")
    stop: tuple[str, ...] = Field(_STOP, description="First words of an answer that unsubscribe.")


class Signature(_Part):
    """How its webhook signs: an HMAC in a header."""

    header: str
    secret: SecretStr
    digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field("", description="What stands before it, for instance `sha256=`.")
    timestamp: str | None = Field(None, description="Header of the instant it signs too.")
    signed: str = Field("{body}", description="What is signed: {body}, {timestamp} and what stands between.")


class HttpSmsSettings(hooks.WebhookSettings):
    """A route by any gateway for text messages or push notifications."""

    esp: Literal["http_sms"]
    channel: Literal["sms", "push"] = Field("sms", description="Of the campaigns it sends.")
    url: str = Field("https://sms.example/messages", description="Where a call goes.")
    base_url: str | None = Field(None, description="Replaces scheme, host and port of `url`: for rehearsals.")
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, SecretStr] = Field(default_factory=dict, description="Of every call; write keys as `${NAME}`.")
    user: str | None = Field(None, description="User, where it asks for basic authentication.")
    password: SecretStr | None = None
    format: Literal["json", "form"] = "json"
    body: dict[str, Any] = Field(
        default_factory=lambda: {"to": "{to}", "text": "{text}", "reference": "{token}"},
        description="Of a call, with names in braces; `{each: …}` is a list with an item for each person.",
    )
    batch_size: int = Field(1, ge=1, le=10_000, description="People a call; more than 1 needs `each` in the body.")
    results: Results = Field(default_factory=lambda: Results.model_validate({}))
    events: Events = Field(default_factory=lambda: Events.model_validate({}))
    signature: Signature | None = None
    tolerance: Duration = Field(parse_duration("1d"), description="Age of a signed instant.")
    idempotency_header: str | None = Field(None, description="Header for our key, where repeating it is safe.")
    idempotency_life: Duration = Field(parse_duration("15m"), description="How long it knows the key.")
    simplify: bool = Field(True, description="Curly quotes and dashes as plain ones: they more than double a text.")
    max_parts: int = Field(3, ge=1, le=10, description="Longer texts are not sent: each part is paid for.")

    @model_validator(mode="after")
    def _fits(self) -> HttpSmsSettings:
        if wrong := gateway.unknown_names(self.body):
            raise ValueError(f"body: {{{wrong[0]}}} stands for nothing; there are: {', '.join(sorted(gateway.NAMES))}")
        if self.batch_size > 1 and not gateway.has_each(self.body):
            raise ValueError("batch_size: a call for several people needs `each: …` in the body, or take 1")
        if self.format == "form" and gateway.has_each(self.body):
            raise ValueError("format: a form names one person a call: leave `each` out of the body")
        return self


class Adapter(WebAdapter):
    """The `http_sms` ESP. Safe for several threads."""

    name: ClassVar[str] = "http_sms"
    extra: ClassVar[str] = "sms"
    Settings: ClassVar[type[AdapterSettings]] = HttpSmsSettings
    _settings: HttpSmsSettings

    def __init__(self, settings: HttpSmsSettings, *, home: Path, token_key: bytes) -> None:
        super().__init__(settings, home=home, token_key=token_key)
        self._words = {word: gateway.meaning(written) for word, written in settings.events.words.items()}
        self._each = gateway.has_each(settings.body)
        self._addressing = _BY_CHANNEL[settings.channel]
        self.answers = Answers(form=settings.events.format == "form")  # type: ignore[misc]  # theirs to choose

    @property
    def capabilities(self) -> Capabilities:
        keyed = self._settings.idempotency_header is not None and self._each
        life: timedelta | None = self._settings.idempotency_life if keyed else None
        size = self._settings.batch_size if self._each else 50
        delivers = any(kind is EventType.DELIVERED for kind, _, _ in self._words.values())
        return Capabilities(
            *(size, life), per_recipient=True, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=delivers,
            simplifies=self._settings.simplify and self._settings.channel == "sms",
        )  # fmt: skip

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _connect(self) -> Client:
        settings, password = self._settings, hooks.secret(self._settings.password) or ""
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        if key := hooks.secret(settings.api_key):
            headers.setdefault("Authorization", f"Bearer {key}")
        host = re.match(r"https?://[^/]+", settings.url)
        if host is None:
            raise Permanent(f"url: {settings.url!r} is no http or https URL")
        auth = (settings.user, password) if settings.user else None
        base = settings.base_url or host[0]
        return Client(base, headers=headers, auth=auth, timeout=settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        people, long = self._people(mailing)
        if not people:
            return Receipt(refused=long)
        if self._each:
            receipt = self._post(client, mailing, people)
        else:
            by_index = {piece.index: values for piece, values in people}
            some = replace(mailing, pieces=[piece for piece, _ in people])
            receipt = self._one_by_one(some, lambda piece: self._one(client, mailing, piece, by_index[piece.index]))
        return replace(receipt, refused=[*long, *receipt.refused])

    def _people(self, mailing: Mailing) -> tuple[list[tuple[Piece, dict[str, Any]]], list[PerRecipient]]:
        """Those whose text can be sent, each with the values of the names; and what is said of the others."""
        contacts, is_sms = mailing.submission.recipients.contact_ids, self._settings.channel == "sms"
        fit: list[tuple[Piece, dict[str, Any]]] = []
        long: list[PerRecipient] = []
        for piece in mailing.pieces:
            told = piece.rendered
            text = ((told.text if told else None) or "").strip()
            text = simplify(text) if self._settings.simplify and is_sms else text
            size = measure(text)
            if is_sms and not 1 <= size.parts <= self._settings.max_parts:
                most = self._settings.max_parts
                why = f"the text takes {size.parts} parts ({size.alphabet.value}), the route sends 1 to {most}"
                long.append(mailing.answer(piece.index, EventType.FAIL, why, (Permanence.UNKNOWN, Cause.OTHER)))
                continue
            values = {
                "to": piece.address, "text": text, "title": told.subject if told else "", "token": piece.token,
                "sender": mailing.sender[1], "campaign": mailing.tags[0], "contact_id": contacts[piece.index],
                "link": piece.link,
                "key": f"{mailing.submission.key}-{piece.index}", "alphabet": size.alphabet.value, "parts": size.parts,
            }  # fmt: skip
            fit.append((piece, values))
        return fit, long

    def _call(self, client: Client, document: Any, key: str, now: datetime) -> Answer:
        told = {self._settings.idempotency_header: key} if self._settings.idempotency_header else {}
        path = re.sub(r"^https?://[^/]+", "", self._settings.url)
        form = document if self._settings.format == "form" else None
        answer = client.post(path, None if form else document, form=form, headers=told, method=self._settings.method)
        if not 200 <= answer.status < 300:
            word = gateway.said(answer.document, self._settings.results.error)
            if answer.status == 402 or (word is not None and word in self._settings.results.held):
                http.pause(word or answer.text, answer, now)
            http.refuse(answer, now, what=hooks.described([word, answer.text]))
        return answer

    def _post(self, client: Client, mailing: Mailing, people: Sequence[tuple[Piece, dict[str, Any]]]) -> Receipt:
        values = [told for _, told in people]
        shared = {**values[0], **dict.fromkeys(("to", "text", "token", "contact_id", "link"), "")}
        shared["key"] = mailing.submission.key
        document = gateway.spread(self._settings.body, list(values), shared)
        answer = self._call(client, document, mailing.submission.key, mailing.submission.now)
        results = self._settings.results
        if results.items is None and results.status is None:
            return Receipt()
        rows = gateway.found(answer.document, results.items)
        rows = rows if isinstance(rows, list) else []
        if results.by is None and len(rows) != len(people):
            return Receipt(unknown=[piece.index for piece, _ in people])
        named = {gateway.said(row, results.by): row for row in rows} if results.by else {}
        told: list[PerRecipient] = []
        unknown: list[int] = []
        for place, (piece, value) in enumerate(people):
            row = (named.get(value["token"]) or named.get(value["to"])) if results.by else rows[place]
            if row is None:
                unknown.append(piece.index)
            elif (judged := self._judged(mailing, piece, row)) is not None:
                told.append(judged)
        late = [one for one in told if one.event.type is EventType.DEFERRED]
        return Receipt([one for one in told if one.event.type is not EventType.DEFERRED], late, unknown)

    def _one(self, client: Client, mailing: Mailing, piece: Piece, values: dict[str, Any]) -> PerRecipient | None:
        try:
            answer = self._call(
                client, gateway.filled(self._settings.body, values), values["key"], mailing.submission.now
            )
        except Permanent as fault:
            if "HTTP 400" in str(fault) or "HTTP 422" in str(fault):  # about this person's call, not the account
                return mailing.answer(piece.index, EventType.REJECT, str(fault), (Permanence.UNKNOWN, Cause.OTHER))
            raise
        if self._settings.results.status is None:
            return None
        row = gateway.found(answer.document, self._settings.results.items)
        row = row[0] if isinstance(row, list) and row else row
        if gateway.said(row, self._settings.results.status) is None:
            raise Unknown(f"the answer does not say what became of the message: {answer.text}")
        return self._judged(mailing, piece, row)

    def _judged(self, mailing: Mailing, piece: Piece, row: Any) -> PerRecipient | None:
        """None for a person who was taken."""
        results = self._settings.results
        word, reason = gateway.said(row, results.status) or "", gateway.said(row, results.reason)
        if word in results.accepted or (not results.accepted and reason is None):
            return None
        text = hooks.described([word, reason]) or "refused"
        if word in results.later:
            return mailing.answer(piece.index, EventType.DEFERRED, text, _LATER)
        gone = (Permanence.HARD, Cause.UNKNOWN_USER) if word in results.gone else (Permanence.UNKNOWN, Cause.OTHER)
        return mailing.answer(piece.index, EventType.REJECT, text, gone)

    # ── being told ───────────────────────────────────────────────────────────────────────────────────────────────
    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """An HMAC as the settings say, else user and password or a token."""
        signature = self._settings.signature
        if signature is None:
            return hooks.check_login(self._settings, request)
        stamp = request.headers.get(signature.timestamp.lower(), "") if signature.timestamp else ""
        before, _, after = signature.signed.replace("{timestamp}", stamp).partition("{body}")
        signed = before.encode() + request.body + after.encode()
        raw = hmac.new(signature.secret.get_secret_value().encode(), signed, _DIGESTS[signature.digest]).digest()
        expected = raw.hex() if signature.encoding == "hex" else base64.b64encode(raw).decode()
        given = request.headers.get(signature.header.lower(), "")
        if not hooks.same(given.removeprefix(signature.prefix), expected):
            return Refusal("the signature is missing or wrong")
        old = hooks.check_age(stamp, now, self._settings.tolerance) if signature.timestamp else None
        return old or hooks.check_login(self._settings, request, signed=True)

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """JSON, or a form with one event."""
        if self._settings.events.format == "form":
            document: Any = dict(parse_qsl(report.body.decode("utf-8", "replace"), keep_blank_values=True))
        else:
            document = hooks.read_json(report.body, of="the gateway")
        inner = gateway.found(document, self._settings.events.items)
        if inner is None:
            raise BadInput(f"this is no report of the gateway: there is nothing at {self._settings.events.items!r}")
        return [event for told in hooks.objects(inner, of="the gateway") for event in self._events(told, received_at)]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        paths = self._settings.events
        answer = gateway.said(told, paths.reply)
        if answer is not None:
            if self._stops(answer):
                sender = gateway.said(told, paths.reply_from or paths.to)
                yield words.event(
                    words.UNSUBSCRIBE,
                    received_at,
                    at=gateway.found(told, paths.at),
                    said=answer,
                    token=gateway.said(told, paths.token),
                    recipient=sender,
                    event_id=gateway.said(told, paths.id),
                )
            return
        said = gateway.said(told, paths.status)
        kind, permanence, cause = self._words.get(said or "", (EventType.UNKNOWN, Permanence.UNKNOWN, None))
        word = words.UNHEARD if kind is EventType.UNKNOWN else words.Word(kind, permanence, cause or Cause.OTHER)
        reason = gateway.said(told, paths.reason)
        yield words.event(
            word,
            received_at,
            at=gateway.found(told, paths.at),
            said=said,
            token=gateway.said(told, paths.token),
            recipient=gateway.said(told, paths.to),
            message_id=gateway.said(told, paths.id),
            event_id=f"{found}-{said}" if (found := gateway.said(told, paths.id)) else None,
            about=reason or said,
        )

    def _stops(self, answer: str) -> bool:
        first = re.split(r"[\s.,!]+", answer.strip(), maxsplit=1)[0].upper()
        return first in {word.upper() for word in self._settings.events.stop}


def _sender(written: str) -> tuple[str, str]:
    """A name of at most eleven letters and digits, a short code or a number (3GPP TS 23.040 §9.1.2.5)."""
    plain = "".join(written.split())
    if not (re.fullmatch(r"[A-Za-z0-9 _.&-]{1,11}", written) or re.fullmatch(r"\+?[0-9]{3,15}", plain)):
        raise Permanent(f"the sender {written!r} is none of a text message: at most 11 letters and digits, or a number")
    return "", written.strip()


def _number(written: str) -> str:
    try:
        return normalise_phone(written)
    except ValueError as wrong:
        raise BadAddress(f"no message can be sent to {written!r}: {wrong}") from None


def _known(written: str) -> str:
    if not written.strip():
        raise BadAddress("no notification can be sent to nobody: the contact has no id")
    return written


_BY_CHANNEL: Final = {"sms": Addressing(_sender, _number), "push": Addressing(lambda written: ("", written), _known)}
