"""The words of a report, in English and in French, and numbers as each of them writes them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

LANGUAGES: Final = ("en", "fr")
_THIN: Final = "\u202f"
_MINUS: Final = "\u2212"


@cache
def _words() -> Mapping[str, Mapping[str, str]]:
    """Phrases by key, then by language."""
    return tomllib.loads(files("sendwave.web").joinpath("phrases.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Tongue:
    """One language."""

    code: str = "en"

    def __call__(self, key: str, **told: Any) -> str:
        """A phrase with its gaps filled in."""
        text = _words()[key][self.code]
        return text.format(**told) if told else text

    def note(self, document: Mapping[str, Any]) -> str:
        """A note of a report (`code` and what fills it)."""
        told = {key: self._told(key, value) for key, value in document.items() if key != "code"}
        return self(f"note_{document['code']}", **told)

    def _told(self, key: str, value: Any) -> str:
        if isinstance(value, int):
            return self.number(value)
        if isinstance(value, list | tuple):
            return ", ".join(str(one) for one in value)
        return self.day(value) if key == "closes" else str(value)

    def pair(self, name: str, told: str) -> str:
        """`name: told`, with the blank French sets before a colon."""
        return f"{name}{_THIN if self.code == 'fr' else ''}: {told}"

    def number(self, value: float, digits: int = 0) -> str:
        """Thousands apart, the decimal mark of the language."""
        text = f"{abs(value):,.{digits}f}"
        if self.code == "fr":
            text = text.replace(",", _THIN).replace(".", ",")
        negative = value < 0 and any(digit not in "0.,\u202f" for digit in text)
        return (_MINUS if negative else "") + text

    def percent(self, value: float | None, digits: int = 1) -> str:
        """A fraction as a percentage; a dash for what nobody knows."""
        if value is None:
            return "–"
        return self.number(value * 100, digits) + (_THIN + "%" if self.code == "fr" else "%")

    def money(self, value: float | None, currency: str, digits: int = 0) -> str:
        """An amount; a dash for what nobody knows."""
        if value is None:
            return "–"
        sign = {"EUR": "€", "GBP": "£", "USD": "$"}.get(currency, currency)
        if self.code == "fr" or len(sign) > 1:
            return f"{self.number(value, digits)}\u00a0{sign}"
        return (_MINUS if value < 0 else "") + sign + self.number(abs(value), digits)

    def cost(self, value: float, currency: str) -> str:
        """What messages cost: to the cent while cents matter."""
        return self.money(value, currency, 2 if 0 < value < 100 else 0)

    def signed(self, value: float, digits: int = 1) -> str:
        """A difference with its sign."""
        text = self.number(value, digits)
        return text if text.startswith(_MINUS) or value == 0 else "+" + text

    def day(self, instant: str | datetime | None) -> str:
        """A date and a time, short."""
        if instant is None:
            return "–"
        at = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        return f"{at:%d/%m/%Y %H:%M}" if self.code == "fr" else f"{at:%Y-%m-%d %H:%M}"
