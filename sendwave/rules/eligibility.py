"""May we write to them: a reachable address, no suppression, a known consent. One ordered tuple of reasons.

Asked of everybody by the plan, again of a wave's people by release, and for one person by explain. The order is the
order in which a reason is reported. Every reason excludes unless it is known to pass: `NOT opted_out` would let an
unknown consent through, `consent = 'granted'` does not.
"""

from __future__ import annotations

from typing import Any, Final

from sendwave.rules.columns import (
    CONSENTS,
    CONTACTS,
    SUPPRESSIONS,
    Among,
    ColumnElement,
    Reason,
    String,
    Subquery,
    and_,
    cast,
    column,
    func,
    literal,
    null,
    or_,
    select,
)

_ADDRESS: Final = column("address", String)
_HASH: Final = column("address_hash", String)
_STATUS: Final = column("address_status", String)
_SUPPRESSED: Final = column("suppressed_for", String)
_CONSENT: Final = column("consent", String)

REACHABLE: Final = (
    Reason(
        "no_address",
        or_(
            _STATUS.in_(("invalid", "duplicate")),  # there is one, the next reasons say what is wrong with it
            and_(_STATUS == "valid", _ADDRESS.is_not(None), _HASH.is_not(None)),
        ),
    ),
    Reason("invalid_address", _STATUS != "invalid"),
    Reason("duplicate_address", _STATUS != "duplicate"),
    Reason("suppressed", _SUPPRESSED.is_(None), _SUPPRESSED),
)
"""What every message needs, service messages too."""

CONSENTED: Final = (
    Reason("consent_withdrawn", or_(_CONSENT.is_(None), _CONSENT != "withdrawn")),
    Reason("consent_pending", or_(_CONSENT.is_(None), _CONSENT != "pending")),
    Reason("no_consent", _CONSENT == "granted"),
)
"""What a marketing purpose needs on top (GDPR art. 6 and 7, ePrivacy art. 13): a consent that is known and stands."""

REASONS: Final = REACHABLE + CONSENTED
"""The whole order. The last one lets only `granted` pass, so an unheard-of status is no consent."""

_ADDRESSES: Final = {
    "email": (CONTACTS.c.email, CONTACTS.c.email_hash, CONTACTS.c.email_status),
    "sms": (CONTACTS.c.phone, CONTACTS.c.phone_hash, CONTACTS.c.phone_status),
    "push": (CONTACTS.c.contact_id, func.md5(CONTACTS.c.contact_id), literal("valid", String)),  # known by our own id
}


def reasons(*, needs_consent: bool) -> tuple[Reason, ...]:
    """The reasons that apply: `needs_consent` is false for service messages only."""
    return REASONS if needs_consent else REACHABLE


def address(channel: str) -> tuple[ColumnElement[Any], ColumnElement[Any], ColumnElement[Any]]:
    """A contact's address, its hash and its status on that channel; NULL on a channel the base has no addresses for."""
    none = cast(null(), String)
    return _ADDRESSES.get(channel, (none, none, none))


def suppressed(channel: str, purpose: str) -> Subquery:
    """(address_hash, suppressed_for) of the addresses suppressed for everything or for this purpose.

    Of several reasons the first in the alphabet is told: complaint before hard_bounce before unsubscribe. A row that
    does not say its channel, scope or reason counts for all of them.
    """
    s = SUPPRESSIONS.c
    return (
        select(s.address_hash, func.coalesce(func.min(s.reason), "unknown").label("suppressed_for"))
        .where(
            func.coalesce(s.channel, "all").in_((channel, "all")), func.coalesce(s.scope, "all").in_((purpose, "all"))
        )
        .group_by(s.address_hash)
        .subquery("suppressed")
    )


def consents(channel: str, purpose: str, among: Among | None = None) -> Subquery:
    """(contact, consent, consent_ts) there: one row per contact at most, of which intake keeps the latest word."""
    c = CONSENTS.c
    asked = select(c.contact, c.status.label("consent"), c.recorded_ts.label("consent_ts"))
    asked = asked.where(c.channel == channel, c.purpose == purpose)
    return (asked if among is None else asked.where(among(c.contact))).subquery("consent")
