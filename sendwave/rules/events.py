"""What came back, in our words: normalised delivery events and their causes.

Soft bounce, block and deferral stay apart; an ESP's own suppression is no fresh bounce; a word nobody knows becomes
`unknown` and is counted, never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Event:
    """One thing an ESP, relay or mailbox provider reported about one message and recipient."""

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
