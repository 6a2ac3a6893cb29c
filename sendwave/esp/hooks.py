"""What webhook ESPs share: believing a request, and reading a body nobody promised the shape of.

Signatures are made over the raw bytes. An adapter believes a request when everything that is set agrees: its own
scheme's key, a user and password, a bearer token. Where nothing is set nobody can tell, and it is refused.
"""

from __future__ import annotations

import base64
import binascii
import email
import hashlib
import hmac
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parseaddr
from functools import lru_cache
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl

import orjson
from pydantic import Field, SecretStr

from sendwave.errors import BadInput
from sendwave.esp.base import AdapterSettings, Refusal, WebRequest
from sendwave.rules.bounces import classify, take_apart
from sendwave.rules.events import Cause, Permanence
from sendwave.rules.units import Duration, parse_duration

_PASSING: Final = frozenset(  # the person still exists, and another day may do
    {Cause.BLOCKED_REPUTATION, Cause.CONTENT, Cause.POLICY, Cause.THROTTLED, Cause.MAILBOX_FULL}
)
_AUTHENTICATION: Final = re.compile(r"\b(?:spf|dkim|dmarc|arc|rdns|ptr)\b|authenti|\btls\b", re.IGNORECASE)
_LONGEST: Final = 2_000  # characters of a text that are kept; PostgreSQL indexes up to 2,704 bytes
_SECRETS: Final = (
    "signing_key", "webhook_signing_key", "webhook_key", "signing_secret", "webhook_signing_secret", "secret",
)  # fmt: skip
_FIELDS: Final = 1_000  # of a form that are read
_MILLISECONDS: Final = 1e11  # epoch numbers beyond it are milliseconds: as seconds it would be the year 5138


class WebhookSettings(AdapterSettings):
    """An ESP over HTTP that reports by webhook."""

    also_called: ClassVar[Mapping[str, Sequence[str]]] = {
        "webhook_secret": _SECRETS,
        "webhook_public_key": ("public_key", "verification_key", "webhook_verification_key", *_SECRETS),
        "webhook_user": ("webhook_username", "username", "basic_auth_user", "user"),
        "webhook_password": ("basic_auth_password", "password"),
        "webhook_token": ("bearer_token", "webhook_bearer_token", "token"),
        "webhook_topic": ("topic_arn", "webhook_topic_arn", "sns_topic_arn", "topic"),
        "webhook_url": ("url", "public_url"),
        "webhook_certificate": ("signing_certificate", "signing_cert", "certificate"),
        "webhook_tolerance": ("tolerance",),
    }

    api_key: SecretStr | None = Field(
        None, description="Key of the API; write `${NAME}` and set it in the environment."
    )
    timeout: Duration = Field(parse_duration("1m"), description="For each wait on an answer.")
    webhook_user: str | None = Field(
        None, description="User the ESP gives in the webhook's URL (basic authentication)."
    )
    webhook_password: SecretStr | None = Field(None, description="Password to it.")
    webhook_token: SecretStr | None = Field(None, description="Bearer token the ESP sends in Authorization.")


class ScheduledSettings(WebhookSettings):
    """One that can be asked to send later, and until then to give it back."""

    recall_window: Duration = Field(
        parse_duration("0s"),
        description="Mail is handed over to be sent so much later; a halt calls it back until then.",
    )

    def send_at(self, now: datetime) -> datetime | None:
        """When a batch of now is to be sent; None for at once."""
        return now + self.recall_window if self.recall_window else None


# ── Believing ────────────────────────────────────────────────────────────────────────────────────────────────────────
def secret(value: SecretStr | None) -> str | None:
    """The text of a secret that is set and not empty."""
    return (value.get_secret_value() or None) if value is not None else None


def check_login(settings: WebhookSettings, request: WebRequest, *, signed: bool = False) -> Refusal | None:
    """User and password, and the bearer token, of those that are set. `signed`: a signature was checked already."""
    password, token = secret(settings.webhook_password), secret(settings.webhook_token)
    if not (settings.webhook_user or password or token):
        return (
            None
            if signed
            else Refusal("no secret is set for this webhook, so nobody can tell who sent this", unset=True)
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token is not None and not (scheme.lower() == "bearer" and same(given.strip(), token)):
        return Refusal("the bearer token is missing or wrong")
    if settings.webhook_user or password:
        expected = f"{settings.webhook_user or ''}:{password or ''}"
        try:
            login = base64.b64decode(given.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
        except (ValueError, binascii.Error):
            login = ""
        if not same(login, expected):
            return Refusal("user or password of the webhook is missing or wrong")
    return None


def same(given: str, expected: str) -> bool:
    """Equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


def hmac_hex(key: str, body: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) in hexadecimal digits."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def check_age(stamp: Any, now: datetime | None, tolerance: timedelta) -> Refusal | None:
    """Whether a signed instant (epoch seconds) is within `tolerance` of now; not asked when `now` is None."""
    told = number(stamp)
    if told is None:
        return Refusal("the signature has no instant")
    return judge_age(told, now, tolerance)


def judge_age(told: float, now: datetime | None, tolerance: timedelta) -> Refusal | None:
    """As `check_age`, of epoch seconds."""
    late = now.timestamp() - told if now is not None else 0.0
    if late > tolerance.total_seconds():
        return Refusal("it was signed too long ago: an old request sent again?", old=True)
    if -late > tolerance.total_seconds():
        return Refusal("it was signed in the future")
    return None


# ── Reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def read_json(body: bytes, *, of: str) -> Any:
    """The JSON of a body; of JSON lines the list of them. Raises BadInput for what is none, however deep it is."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # stricter than some ESPs write it: NaN, half of a surrogate pair, a byte order mark
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as wrong:
        if (lines := _lines(body)) is not None:
            return lines
        raise BadInput(f"this is no report of {of}: {type(wrong).__name__}: {wrong}") from None


def _lines(body: bytes) -> list[Any] | None:
    """The documents of JSON lines, None where any line is none."""
    try:
        found = [orjson.loads(line) for line in body.split(b"\n") if line.strip()]
    except orjson.JSONDecodeError:
        return None
    return found if len(found) > 1 else None


def form_fields(body: bytes) -> dict[str, str]:
    """The fields of a form, urlencoded or multipart, files left out; {} for what is none."""
    if body.lstrip()[:2] == b"--":
        boundary = body.lstrip().split(b"\n", 1)[0].strip()[2:]
        head = b'Content-Type: multipart/form-data; boundary="' + boundary + b'"\n\n'
        parts = email.message_from_bytes(head + body).get_payload()
        told = [one for one in parts[:_FIELDS] if isinstance(one, Message)] if isinstance(parts, list) else []
        named = [(one.get_param("name", header="content-disposition"), one) for one in told]
        return {name: _field(one) for name, one in named if isinstance(name, str) and one.get_filename() is None}
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError:
        return {}


def _field(part: Message) -> str:
    found = part.get_payload(decode=True)
    return found.decode("utf-8", "replace").removesuffix("\r\n") if isinstance(found, bytes) else ""


def objects(document: Any, *, of: str) -> list[dict[str, Any]]:
    """One object, or a list of them. Raises BadInput for anything else; what else a list holds is left out."""
    if isinstance(document, dict):
        return [document]
    if isinstance(document, list) and (not document or any(isinstance(one, dict) for one in document)):
        return [one for one in document if isinstance(one, dict)]
    raise BadInput(f"this is no report of {of}: neither an object nor a list of objects")


def part(document: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """The object at that path, {} where there is none."""
    found: Any = document
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def rows(document: Any, name: str) -> list[dict[str, Any]]:
    """The objects in the list of that name, [] where there is none."""
    found = document.get(name) if isinstance(document, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def text(document: Mapping[str, Any], name: str, *others: str) -> str | None:
    """The first of these keys that holds a text or number, as text; None where none does."""
    value = document.get(name)
    if type(value) is str and value.isascii() and 0 < len(value) <= _LONGEST and "\0" not in value:
        return value  # nearly all of them
    return None if value is None and not others else _text(document, (name, *others))


def _text(document: Mapping[str, Any], names: Iterable[str]) -> str | None:
    for name in names:
        value = document.get(name)
        if value is None:
            continue
        if isinstance(value, str):
            if found := storable(value):
                return found
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            try:
                return str(value)
            except ValueError:  # more digits than Python writes
                continue
    return None


def storable(value: str) -> str:
    """A text as every database takes it: no NUL, no half of a surrogate pair, at most 2,000 characters."""
    value = value[:_LONGEST]
    if "\0" in value:
        value = value.replace("\0", "")
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def address(written: str | None) -> str | None:
    """The address of `Name <address>` or of itself."""
    found = parseaddr(written or "")[1]
    return storable(found if "@" in found else written or "") or None


def flag(value: Any) -> bool | None:
    """A boolean, also written as a number or text; None where nothing is said."""
    if value is None or isinstance(value, bool):
        return value
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(str(value).lower())


def number(value: Any) -> float | None:
    """A number, or a text that is one; None for anything else, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def instant(value: Any, received_at: datetime) -> datetime:
    """As `read_instant`; never later than `received_at`, which stands in for nonsense."""
    found = _second(value) if type(value) is int and 0 < value < _MILLISECONDS else read_instant(value)
    return received_at if found is None or found > received_at else found


def read_instant(value: Any) -> datetime | None:
    """Epoch seconds, milliseconds or an ISO 8601 text as UTC; None for anything else."""
    if type(value) is int and 0 < value < _MILLISECONDS:
        return _second(value)
    try:
        if (seconds := number(value)) is not None:
            return datetime.fromtimestamp(seconds / 1000 if seconds > _MILLISECONDS else seconds, UTC)
        if isinstance(value, str):
            found = datetime.fromisoformat(_iso(value))
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


@lru_cache(maxsize=50_000)
def _second(epoch: int) -> datetime:
    """Many events of a report are of the same second."""
    return datetime.fromtimestamp(epoch, UTC)


def _iso(written: str) -> str:
    """Python 3.11 reads ISO 8601 but not a fraction of other than three or six digits, nor ` UTC` at the end."""
    written = written.strip().removesuffix(" UTC")
    head, dot, rest = written.partition(".")
    if not dot:
        return written
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"


def meaning(
    reply: str | None,
    *,
    permanence: Permanence = Permanence.UNKNOWN,
    cause: Cause = Cause.OTHER,
    enhanced: str | None = None,
    sure: bool = False,
) -> tuple[Permanence, Cause, str | None]:
    """How lasting, why, and the RFC 3463 code: the ESP's words, and the reply of the mailbox provider it passes on.

    The ESP's permanence counts where it says one, but a block or a full mailbox is never hard: the person exists. The
    reply says why; the ESP's cause stands where the reply says nothing, or where it is `sure` of it.
    """
    told = take_apart(reply or "")
    code = enhanced if enhanced and enhanced[:1] in "245" and enhanced.count(".") == 2 else told.enhanced
    if code is not None and code.endswith(".0.0") and told.enhanced:
        code = told.enhanced
    later = "4.0.0" if permanence is Permanence.SOFT and told.code is None else None  # a "later" without its digits
    read, why = classify(told.code, code or later, told.text)
    if (
        why is Cause.OTHER
        or sure
        or (why is Cause.POLICY and cause is Cause.BLOCKED_REPUTATION and _bare(told.text, code))
    ):
        why = cause
    if permanence is Permanence.UNKNOWN:
        permanence = read
    elif permanence is Permanence.HARD and why in _PASSING:
        permanence = Permanence.SOFT
    return permanence, why, code


def _bare(text: str, code: str | None) -> bool:
    """Whether a refusal for policy names no rule about authentication: then a block is what it is."""
    return _AUTHENTICATION.search(text) is None and not (code or "").startswith(("5.7.2", "4.7.2"))


def described(words: Iterable[str | None]) -> str:
    """What the ESP says about it, the parts that are there."""
    return storable(": ".join(" ".join(word.split()) for word in words if word)[:500])
