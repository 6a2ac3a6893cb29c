"""From an ESP's word for what happened to ours: one table per adapter, and what is built from an entry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sendwave.esp import hooks
from sendwave.rules.events import Cause, Event, EventType, Permanence

_FAILURES: Final = frozenset({EventType.BOUNCE, EventType.DEFERRED, EventType.REJECT, EventType.FAIL})


class Word(NamedTuple):
    """What one of their words means. The mailbox provider's reply may say more of permanence and cause."""

    kind: EventType
    permanence: Permanence = Permanence.UNKNOWN
    cause: Cause = Cause.OTHER
    machine: bool | None = None  # an open by a machine, or surely not; None where the word leaves it open
    sure: bool = False  # their own classes say why; the reply only gives the code


ACCEPTED: Final = Word(EventType.ACCEPTED)
DELIVERED: Final = Word(EventType.DELIVERED)
DEFERRED: Final = Word(EventType.DEFERRED, Permanence.SOFT)
HARD: Final = Word(EventType.BOUNCE, Permanence.HARD)
SOFT: Final = Word(EventType.BOUNCE, Permanence.SOFT)
UNCLEAR: Final = Word(EventType.BOUNCE)
BLOCKED: Final = Word(EventType.BOUNCE, Permanence.SOFT, Cause.BLOCKED_REPUTATION)
NO_SUCH: Final = Word(EventType.BOUNCE, Permanence.HARD, Cause.UNKNOWN_USER)
SUPPRESSED: Final = Word(EventType.REJECT, Permanence.UNKNOWN, Cause.SUPPRESSED)
REJECTED: Final = Word(EventType.REJECT)
COMPLAINT: Final = Word(EventType.COMPLAINT)
OPEN: Final = Word(EventType.OPEN)
CLICK: Final = Word(EventType.CLICK)
UNSUBSCRIBE: Final = Word(EventType.UNSUBSCRIBE)
RESUBSCRIBE: Final = Word(EventType.RESUBSCRIBE)
FAIL: Final = Word(EventType.FAIL)
UNHEARD: Final = Word(EventType.UNKNOWN)


def look_up(table: Mapping[str, Word], word: Any) -> Word:
    """The word's meaning; UNHEARD for what is not in the table, whatever it is."""
    return table.get(word, UNHEARD) if isinstance(word, str) else UNHEARD


def event(
    word: Word,
    received_at: datetime,
    *,
    at: Any,
    said: Any = "",
    token: str | None = None,
    recipient: str | None = None,
    message_id: str | None = None,
    event_id: str | None = None,
    machine: bool | None = None,
    reply: str | None = None,
    about: str | None = None,
    enhanced: str | None = None,
    url: str | None = None,
) -> Event:
    """The event. `said` is their word, `reply` the mailbox provider's answer, `about` what else they say of it."""
    permanence, cause, code, description = word.permanence, None, None, ""
    if word.kind in _FAILURES:
        permanence, cause, code = _why(word, reply, about, enhanced)
        description = hooks.described([about, reply if reply != about else None])
    elif word is UNHEARD:
        description = (
            f"a word nobody told us: {hooks.storable(said)[:100]}" if isinstance(said, str) else "no word at all"
        )
    return Event(
        word.kind,
        hooks.instant(at, received_at),
        permanence,
        cause,
        token,
        recipient,
        message_id,
        event_id,
        (word.machine if machine is None else machine) if word.kind is EventType.OPEN else None,
        code,
        description,
        url,
    )


def _why(
    word: Word, reply: str | None, about: str | None, enhanced: str | None
) -> tuple[Permanence, Cause, str | None]:
    if word.cause is Cause.SUPPRESSED:
        return word.permanence, word.cause, None
    told = reply or about
    return hooks.meaning(told, permanence=word.permanence, cause=word.cause, enhanced=enhanced, sure=word.sure)
