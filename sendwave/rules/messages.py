"""How a text message is cut: which alphabet it needs and how many parts it is paid for.

3GPP TS 23.038 §6.2.1 (the GSM 7-bit alphabet and its extension table) and TS 23.040 §9.2.3.24.1: one message has 140
octets, 160 characters of seven bits or 70 of sixteen; parts of a longer one lose six octets to a header, which leaves
153 or 67. A character of the extension table takes two places, and no character is split over two parts.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Alphabet(StrEnum):
    """What a text is written in on the way."""

    GSM7 = "gsm7"
    UCS2 = "ucs2"


class Size(NamedTuple):
    """What a text takes: `units` are places of the alphabet, `parts` what is paid for (0 for an empty text)."""

    alphabet: Alphabet
    units: int
    parts: int


_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("\f^{}\\[~]|€")
_GSM7: Final = _BASIC | _EXTENDED
_ROOM: Final = {Alphabet.GSM7: (160, 153), Alphabet.UCS2: (70, 67)}
_PLAINER: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u2032\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u2033\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u00a0\u202f\u2007\u2009\t", " "),
        **dict.fromkeys("\u200b\u200d\ufeff\u00ad", ""),
        "\u2026": "...",
        "\u2022": "-",
        "\u0153": "oe",
        "\u0152": "OE",
    }
)


def simplify(text: str) -> str:
    """Typographic quotes, dashes and blanks as the GSM alphabet has them.

    One curly apostrophe more than halves what fits. Letters are left alone, but for the ligature of `cœur`.
    """
    return text.translate(_PLAINER)


def odd(text: str) -> frozenset[str]:
    """The characters the GSM alphabet does not have: one of them more than halves what fits."""
    return frozenset(text) - _GSM7


def measure(text: str) -> Size:
    """The alphabet a text needs, and what it takes in it."""
    if _BASIC.issuperset(text):  # most texts: every character takes one place
        units, (single, joined) = len(text), _ROOM[Alphabet.GSM7]
        return Size(Alphabet.GSM7, units, -(-units // (single if units <= single else joined)))
    alphabet = Alphabet.GSM7 if _GSM7.issuperset(text) else Alphabet.UCS2
    widths = [_width(character, alphabet) for character in text]
    units, (single, joined) = sum(widths), _ROOM[alphabet]
    if units <= single:
        return Size(alphabet, units, 1 if units else 0)
    parts, left = 1, joined
    for width in widths:
        if width > left:
            parts, left = parts + 1, joined
        left -= width
    return Size(alphabet, units, parts)


def _width(character: str, alphabet: Alphabet) -> int:
    if alphabet is Alphabet.GSM7:
        return 2 if character in _EXTENDED else 1
    return 2 if ord(character) > 0xFFFF else 1
