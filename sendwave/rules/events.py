"""What came back, in our words: normalised delivery events and their causes.

Soft bounce, block and deferral stay apart; an ESP's own suppression is no fresh bounce; a word nobody knows becomes
`unknown` and is counted, never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import orjson

from sendwave.errors import BadInput

CONTENT_TYPE: Final = "application/vnd.sendwave.events+json"
"""Media type of a report in our own words: what dispatch learnt at hand-over, stored like any ESP's report."""


class EventType(StrEnum):
    """What happened to one message for one recipient."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    BOUNCE = "bounce"
    REJECT = "reject"  # refused by the ESP itself, its suppression list included
    COMPLAINT = "complaint"
    OPEN = "open"
    CLICK = "click"
    UNSUBSCRIBE = "unsubscribe"
    RESUBSCRIBE = "resubscribe"
    FAIL = "fail"  # the ESP could not build or send it
    UNKNOWN = "unknown"


class Permanence(StrEnum):
    """Whether trying again could help."""

    HARD = "hard"
    SOFT = "soft"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """Why, in one of ten words."""

    UNKNOWN_USER = "unknown_user"
    BAD_DOMAIN = "bad_domain"
    MAILBOX_FULL = "mailbox_full"
    BLOCKED_REPUTATION = "blocked_reputation"
    CONTENT = "content"
    POLICY = "policy"
    THROTTLED = "throttled"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    OTHER = "other"


@dataclass(slots=True, unsafe_hash=True)
class Event:
    """One thing an ESP, relay or mailbox provider reported about one message and recipient.

    Nobody changes one; it is not frozen because freezing costs three times the making, for millions of them.
    """

    type: EventType
    event_at: datetime  # when the provider says it happened
    permanence: Permanence = Permanence.UNKNOWN
    cause: Cause | None = None
    token: str | None = None  # ours, signed; None where the provider lost it
    recipient: str | None = None
    message_id: str | None = None
    event_id: str | None = None
    machine_open: bool | None = None
    enhanced_code: str | None = None  # RFC 3463, for instance 5.1.1
    description: str = ""
    url: str | None = None


_NAMES: Final = tuple(field.name for field in fields(Event))
_TYPES: Final = {word.value: word for word in EventType}
_PERMANENCES: Final = {word.value: word for word in Permanence}
_UNKNOWN: Final = Permanence.UNKNOWN
_CAUSES: Final = {word.value: word for word in Cause}


def encode_events(events: Iterable[Event]) -> bytes:
    """Events as the body of a report of our own (`CONTENT_TYPE`): a JSON list, instants as ISO 8601."""
    return json.dumps([_document(event) for event in events], ensure_ascii=False).encode("utf-8", "replace")


def decode_events(body: bytes) -> list[Event]:
    """The events of such a body. Raises BadInput for anything else."""
    try:
        return [_event(document) for document in orjson.loads(body)]
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        raise BadInput(f"this is no list of sendwave events: {fault}") from fault


def _document(event: Event) -> dict[str, Any]:
    told = {name: getattr(event, name) for name in _NAMES}
    return {name: v for name, v in told.items() if v is not None and v != ""} | {"event_at": event.event_at.isoformat()}


def _event(document: dict[str, Any]) -> Event:
    event_at = datetime.fromisoformat(document["event_at"])
    if event_at.tzinfo is None:
        raise ValueError("event_at has no time zone")
    told = document.get
    permanence, cause = told("permanence"), told("cause")
    return Event(
        _TYPES[document["type"]],
        event_at,
        _UNKNOWN if permanence is None else _PERMANENCES[permanence],
        None if cause is None else _CAUSES[cause],
        told("token"),
        told("recipient"),
        told("message_id"),
        told("event_id"),
        told("machine_open"),
        told("enhanced_code"),
        told("description", ""),
        told("url"),
    )
