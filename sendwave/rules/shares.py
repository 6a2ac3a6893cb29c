"""Control group and test shares: a stable keyed draw per person and campaign.

The draw is md5(campaign name | CRM contact id) as 32 hexadecimal digits, of which disjoint pieces serve as independent
draws: digits 1-8 the control group, 9-16 the share of the tier, 17-24 the order of equals, 25-32 the order inside a
wave. The name is the key because it is unique, never reused and survives a rebuilt store, and because anybody can check
a draw: `printf '%s' 'spring-sale|C-1042' | md5sum`. Another campaign's name gives draws that know nothing of these.

md5 is no secret here; it is the one hash every engine computes alike, and its text is compared as text, which needs
no arithmetic beyond what all of them have.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from sendwave.rules.columns import (
    ColumnElement,
    Reason,
    String,
    and_,
    case,
    column,
    false,
    func,
    literal,
    or_,
)

CONTROL: Final = 0
SHARE: Final = 1
TIE: Final = 2
SHUFFLE: Final = 3
"""The pieces of a draw, by what they decide."""

DIGITS: Final = 8


def draw(campaign: str, contact_id: ColumnElement[Any]) -> ColumnElement[str]:
    """32 hexadecimal digits for a person in a campaign (its name); NULL for an unknown person."""
    return func.md5(literal(f"{campaign}|", String) + contact_id)


def piece(drawn: ColumnElement[Any], number: int) -> ColumnElement[str]:
    """Eight of the digits, 0 <= number < 4: each piece is a draw of its own."""
    return func.substr(drawn, 1 + number * DIGITS, DIGITS)


def below(drawn: ColumnElement[Any], share: Decimal) -> ColumnElement[bool]:
    """Whether eight digits fall into the first `share` (0 to 1) of all; exact to 1 in 4 billion."""
    threshold = int(share * 16**DIGITS)
    if threshold >= 16**DIGITS:
        return drawn.is_not(None)
    return drawn < literal(f"{threshold:0{DIGITS}x}", String) if threshold else and_(drawn.is_not(None), false())


def reasons(control: Decimal, shares: Mapping[str, Decimal]) -> tuple[Reason, ...]:
    """`control_group` and `not_in_share`, over the columns `draw` and `tier`; tiers without a share draw nobody."""
    drawn, tier = column("draw", String), column("tier", String)
    found: list[Reason] = []
    if control:
        found.append(Reason("control_group", ~below(piece(drawn, CONTROL), control)))
    if any(share < 1 for share in shares.values()):
        whole = tier.in_([key for key, share in shares.items() if share >= 1])
        part = [(tier == key, below(piece(drawn, SHARE), share)) for key, share in shares.items() if share < 1]
        found.append(Reason("not_in_share", or_(whole, case(*part, else_=false()))))
    return tuple(found)
