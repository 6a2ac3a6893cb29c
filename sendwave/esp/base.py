"""What every ESP adapter promises. A new ESP is one file beside this one (docs/adding/esp.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, model_validator

from sendwave.errors import Held
from sendwave.rules.events import Event


class AdapterSettings(BaseModel):
    """Base of an adapter's settings (a route in sendwave.yaml); unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    esp: str

    also_called: ClassVar[Mapping[str, Sequence[str]]] = {}
    """What people and the ESPs' own pages call a setting, by its name here; taken for it where there is no other."""

    @model_validator(mode="before")
    @classmethod
    def _by_our_names(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        ours = {
            other: name
            for name, others in cls.also_called.items()
            for other in others
            if name in cls.model_fields and other not in cls.model_fields and name not in given
        }
        return {ours.get(key, key): value for key, value in given.items()}


class Recall(StrEnum):
    """Whether accepted mail can still be stopped."""

    NONE = "none"
    SCHEDULED = "scheduled"
    QUEUE = "queue"


class Feed(StrEnum):
    """How events come back."""

    WEBHOOK = "webhook"
    POLL = "poll"
    MAILBOX = "mailbox"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an ESP can do; dispatch and the docs read it."""

    batch_size: int
    idempotency: timedelta | None = None  # life of an idempotency key, None where there is none
    recall: Recall = Recall.NONE
    per_recipient: bool = False
    feed: Feed = Feed.WEBHOOK
    concurrent: bool = False  # one instance serves several threads at once
    simplifies: bool = False  # text messages leave with plain quotes and dashes, which take less room
    reports_delivery: bool = False  # an event comes for delivered mail too, so its absence means something


@dataclass(frozen=True, slots=True)
class Recipients:
    """Columns, all of one length: position i of each belongs to one person."""

    addresses: Sequence[str]
    tokens: Sequence[str]
    contact_ids: Sequence[str]
    tiers: Sequence[str]
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # merge fields of the content

    def __len__(self) -> int:
        return len(self.addresses)


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: the same for all recipients of a campaign, merge fields apart."""

    campaign: str
    type: str
    sender: str  # From header, RFC 5322
    subject: str  # Jinja text
    content: str | None = None  # folder of templates (body.html, body.txt), relative to the workspace
    reply_to: str | None = None
    unsubscribe: str | None = None  # URL with {token}; gives the List-Unsubscribe pair (RFC 8058)
    provider_template: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """One batch, handed over once."""

    batch_id: int
    key: str  # idempotency key, for the ESPs that have one
    campaign_id: int
    wave: int
    provider: str
    message: Message
    recipients: Recipients
    now: datetime


@dataclass(frozen=True, slots=True)
class PerRecipient:
    """One recipient the ESP did not simply accept."""

    index: int
    event: Event  # REJECT, BOUNCE or FAIL (no message could be built) for a refusal, DEFERRED for "later"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch. Every recipient not listed here was accepted."""

    refused: Sequence[PerRecipient] = ()  # final: will not be written to in this campaign
    deferred: Sequence[PerRecipient] = ()  # certainly not accepted; may go again later
    unknown: Sequence[int] = ()  # handed over without an answer; never repeated blindly
    message_ids: Sequence[str] | None = None
    held: Held | None = None  # it took these, and takes no more for now
    ref: str = ""  # what the ESP calls the batch, where it can still be called back
    recall_until: datetime | None = None  # the last instant at which asking helps


@dataclass(frozen=True, slots=True)
class RawReport:
    """Something an ESP told us, as it came. Stored before it is acknowledged."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    ref: str = ""  # what `acknowledge` needs to let the source forget it (file name, receipt handle)


class EspAdapter(Protocol):
    """Both directions of one ESP. Instances are used by one thread at a time unless stated otherwise."""

    name: ClassVar[str]
    Settings: ClassVar[type[AdapterSettings]]

    @property
    def capabilities(self) -> Capabilities:
        """What this ESP can do with these settings."""
        ...

    def submit(self, submission: Submission) -> Receipt:
        """Hand one batch over, once.

        Raises:
            Transient: nothing was handed over; may go later (`retry_after` seconds when the ESP said so).
            Permanent: nothing was handed over and it never will be as it is.
            Unknown: the request left and no answer came.

        """
        ...

    def poll(self, now: datetime) -> Iterable[RawReport]:
        """Reports waiting at a polled source or mailbox, none for webhook ESPs; unacknowledged ones are given again."""
        ...

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        """The reports are durable here: the source may forget them."""
        ...

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """The events in a report. Words it does not know become `EventType.UNKNOWN`; never raises for bad content
        it can still count, raises BadInput for a report that is no report at all.
        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...


class RecallingAdapter(EspAdapter, Protocol):
    """An ESP that can still stop what it accepted: `capabilities.recall` is not NONE."""

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        """Ask for batches back, by the `ref` of their receipts. True: surely nobody of that one is written to.

        False: it was asked, and events will tell of each person. Asking twice does no harm.

        Raises:
            HandOverError: it could not be asked, and may be again.

        """
        ...


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request at a webhook, as it came: signatures are made over the raw bytes of `body`."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    method: str = "POST"
    path: str = "/"
    query: str = ""  # without the question mark
    content_type: str = ""
    url: str = ""  # as the ESP knows it, where that is known: some sign it too


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not believed, and the HTTP status that says so."""

    reason: str
    status: int = 401
    unset: bool = False  # it cannot be judged: no secret is set, or a certificate cannot be fetched
    old: bool = False  # everything else about it is right: it is only signed too long ago


@dataclass(frozen=True, slots=True)
class Answers:
    """HTTP statuses that make this ESP do the right thing about a delivery of events."""

    stored: int = 200
    store_down: int = 503  # it must come again
    not_ours: int = 400  # it must not come again: no report of theirs
    repeated: int = 409  # the very same signed request was stored before
    form: bool = False  # whether bodies are forms; else JSON
    fetches: bool = False  # whether believing a request may take a visit to the ESP, for a certificate


class WebhookAdapter(EspAdapter, Protocol):
    """An ESP that sends its events to us. Store the request's body and headers as a RawReport once it is believed."""

    answers: ClassVar[Answers]

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """None when it comes from the ESP, with `now` also that it is no old one again. Never raises."""
        ...

    def seals(self, request: WebRequest) -> bool:
        """Whether a believed request is signed over every byte of its body: then nobody looks whether it is whole."""
        ...

    def nonce(self, request: WebRequest) -> str | None:
        """What a believed request carries only once, signed; None where the ESP signs nothing of the kind."""
        ...

    def confirmation(self, request: WebRequest) -> str | None:
        """The URL a believed request wants visited before it sends events; None for all others."""
        ...
