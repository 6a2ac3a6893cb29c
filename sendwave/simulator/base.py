"""What the simulator's provider files have in common: requests, mails, what is told of them, and the wire."""

from __future__ import annotations

import base64
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs

from sendwave.simulator.keys import Keys

ACCEPTED: Final = "accepted"
"""The ESP took it: `processed`, `request`, `injection` … where the provider tells so."""

REFUSED: Final = "refused"
"""On the ESP's own suppression list: said at hand-over where it answers person by person, else by an event."""

LATER: Final = "later"
"""Put off at hand-over; only where the provider can say so person by person."""

UNANSWERED: Final = "unanswered"
"""Taken, and no answer: what the caller sees is a time-out."""

KEY: Final = "rehearsal-key"
SECRET: Final = "rehearsal-secret"
USER: Final = "sendwave"
PASSWORD: Final = "rehearsal-password"

_TOKEN: Final = re.compile(r"\b[0-9a-f]{40}\b")
_ADDRESS: Final = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+\.[^@\s<>,;\"]+")


@dataclass(frozen=True)
class Request:
    """What a caller sent. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    query: str = ""

    @cached_property
    def document(self) -> Any:
        """The JSON of the body, None where there is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @cached_property
    def form(self) -> dict[str, list[str]]:
        """The fields of a urlencoded body."""
        return parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)

    def basic(self) -> tuple[str, str]:
        """User and password of basic authentication, empty without."""
        scheme, _, given = self.headers.get("authorization", "").partition(" ")
        try:
            user, _, password = base64.b64decode(given).decode().partition(":")
        except ValueError:
            return "", ""
        return (user, password) if scheme.lower() == "basic" else ("", "")


@dataclass(frozen=True)
class Reply:
    """What is answered. `body` is bytes, text, or a document to be written as JSON."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """The body as it travels."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False)).encode()


class Wrong(Exception):
    """The request is not what the provider documents; `reply` is how it says so."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.body)
        self.reply = reply


@dataclass(frozen=True)
class Mail:
    """One message to one person as it would arrive, the provider's substitutions made."""

    address: str
    subject: str = ""
    text: str = ""
    html: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    echo: Mapping[str, Any] = field(default_factory=dict)  # what the provider gives back in events
    tags: Sequence[str] = ()
    sender: str = ""
    template: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # given to a template of the provider's
    id: str = ""  # the provider's, given by the service

    @cached_property
    def token(self) -> str:
        """The caller's mark for this person: 40 hexadecimal digits among what comes back in events, "" without."""
        found = _TOKEN.search(json.dumps(self.echo))
        return found[0] if found else ""

    @property
    def link(self) -> str:
        """The one-click unsubscribe link, "" where List-Unsubscribe-Post (RFC 8058) is not beside it."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("list-unsubscribe-post") != "List-Unsubscribe=One-Click":
            return ""
        found = re.search(r"<(https?://[^>]+)>", headers.get("list-unsubscribe", ""))
        return found[1] if found else ""


@dataclass(frozen=True)
class Act:
    """Something that happened to a mail. `kind` is a word of the simulated worlds, or one of the words above."""

    mail: Mail
    kind: str
    at: datetime
    id: str

    @property
    def seconds(self) -> int:
        """When, as epoch seconds."""
        return int(self.at.timestamp())

    @property
    def iso(self) -> str:
        """When, as ISO 8601 with milliseconds and Z."""
        return self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Post:
    """One webhook request to be made."""

    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


REPLIES: Final[Mapping[str, tuple[int, str, str]]] = {
    "hard_bounce": (550, "5.1.1", "The email account that you tried to reach does not exist"),
    "soft_bounce": (552, "5.2.2", "The recipient's mailbox is full"),
    "blocked": (554, "5.7.1", "Message rejected due to the reputation of your IP address"),
    "deferred": (421, "4.7.0", "Too many connections, try again later"),
}
"""What the mailbox provider said: reply code, enhanced code (RFC 3463), text."""

AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PROXY: Final = "Mozilla/5.0"
LINK: Final = "https://shop.example/offer"


def reply_text(kind: str) -> str:
    """The reply as one line: `550 5.1.1 …`."""
    code, enhanced, text = REPLIES[kind]
    return f"{code} {enhanced} {text}"


def is_address(value: Any) -> bool:
    """Whether a provider would take this as an address."""
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


class Provider(ABC):
    """One ESP's way of speaking. Nothing here keeps state: `service` does."""

    name: ClassVar[str]
    limit: ClassVar[int]
    """Most recipients a call may have."""

    bodies: ClassVar[int] = 1
    """Most events one webhook body holds; 1 where each comes alone."""

    at_hand_over: ClassVar[frozenset[str]] = frozenset()
    """Which of REFUSED and LATER its answer can say person by person."""

    retries: ClassVar[tuple[float, ...]] = ()
    """Seconds before each further try of a webhook that was not taken."""

    stops: ClassVar[frozenset[int]] = frozenset()
    """Answers of a webhook after which it never tries again."""

    key_life: ClassVar[timedelta | None] = None
    """How long a call's idempotency key is remembered."""

    def __init__(self, keys: Keys) -> None:
        """`keys` sign its webhooks."""
        self.keys = keys

    @abstractmethod
    def read(self, request: Request) -> list[Mail]:
        """The mails of a call. Raises Wrong with the provider's own answer to what it does not take."""

    @abstractmethod
    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        """The answer to a call it takes. `verdicts` has REFUSED, LATER or "" for each mail."""

    @abstractmethod
    def tell(self, act: Act) -> dict[str, Any] | None:
        """An event in its words; None for what it never tells."""

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        """A webhook request with these events, signed at `now`. Each alone, with a login."""
        del url, now
        body = json.dumps(told[0] if self.bodies == 1 else list(told), ensure_ascii=False).encode()
        return Post(body, headers={"Authorization": login()})

    def forged(self, post: Post) -> Post:
        """The same request as somebody else would send it: whatever proves its sender is wrong."""
        headers = {
            n: "Basic Zm9yZ2VkOmZvcmdlZA==" if n == "Authorization" else value for n, value in post.headers.items()
        }
        return Post(post.body, post.content_type, {n: _spoilt(n, value) for n, value in headers.items()})

    def key_of(self, request: Request) -> str | None:
        """The call's idempotency key, None where it has none."""
        del request
        return None

    def clash(self) -> Reply | None:
        """The answer to another call under a key already used; None: the first answer again."""
        return None

    def busy(self, wait: float | None) -> Reply:
        """429, with Retry-After in seconds where `wait` is given."""
        return Reply(429, {"message": "Too many requests"}, retry_after(wait))

    @abstractmethod
    def stopped(self) -> Reply:
        """Its answer when the account is paused or its quota used up."""

    def tries_again(self, status: int | None, kinds: frozenset[str], attempt: int) -> bool:
        """Whether a webhook answered `status` (None: no answer) comes again. `kinds` are those of its events."""
        del kinds, attempt
        return status not in self.stops

    @abstractmethod
    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        """The settings of a route of sendwave.yaml that leads here. `hook` is where events are posted."""


def login() -> str:
    """The Authorization header of a webhook whose URL holds user and password."""
    return "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def webhook_login() -> dict[str, str]:
    """The settings that believe `login`."""
    return {"webhook_user": USER, "webhook_password": PASSWORD}


def retry_after(wait: float | None) -> dict[str, str]:
    """The Retry-After header (RFC 9110 §10.2.3), whole seconds and at least one; none for None."""
    return {} if wait is None else {"Retry-After": str(max(1, round(wait)))}


def _spoilt(name: str, value: str) -> str:
    return "A" * len(value) if "signature" in name.lower() else value


def needs(condition: object, reply: Reply) -> None:
    """Raise Wrong with `reply` unless the condition holds."""
    if not condition:
        raise Wrong(reply)
