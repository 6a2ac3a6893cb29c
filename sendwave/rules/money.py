"""Money, exactly: an amount with its currency as people write it, and whole millionths of it to reckon with.

Cents are too coarse for what a message costs (0.0004 EUR an e-mail), and floats do not add up; a millionth of the
currency as an integer does both. Amounts in different currencies are never added.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

MILLION: Final = 1_000_000
_MONEY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([A-Z]{3})")


class Money(NamedTuple):
    """An amount in a currency (ISO 4217)."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    @classmethod
    def parse(cls, value: Any) -> Money:
        """`0.045 EUR`. Raises ValueError for anything else."""
        if isinstance(value, cls):
            return value
        match = _MONEY.fullmatch(str(value).strip())
        if not match:
            raise ValueError(f"{str(value)!r} is no amount: write it with its currency, for instance 0.045 EUR")
        return cls(Decimal(match[1]), match[2])

    @property
    def millionths(self) -> int:
        """The amount in whole millionths. Raises ValueError for one that is finer."""
        found = self.amount * MILLION
        if found != found.to_integral_value():
            raise ValueError(f"{self} is finer than a millionth of {self.currency}: round it")
        return int(found)


def shown(millionths: int, currency: str) -> str:
    """`1234.50 EUR`: two digits after the point, more where there are more."""
    whole, rest = divmod(abs(millionths), MILLION)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if millionths < 0 else ''}{whole}.{digits} {currency}"


Amount = Annotated[
    Money,
    BeforeValidator(Money.parse),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[A-Z]{3}$", "examples": ["0.045 EUR"]}),
]
