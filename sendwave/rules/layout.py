"""How an exported file is laid out: what separates its columns, how it writes dates, which rows to leave out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sendwave.errors import BadInput, did_you_mean

SPACES: Final = " "
"""The delimiter that stands for any run of blanks."""

_DELIMITERS: Final[Mapping[str, str]] = {
    "comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|", "space": SPACES,
}  # fmt: skip

DAY_FIRST: Final = (
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y",
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y%m%d%H%M%S", "%Y%m%d", "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M", "%Y/%m/%d",
)  # fmt: skip
"""Dates beside ISO 8601. The day comes before the month: 03/04/2026 is the third of April."""

MONTH_FIRST: Final = (
    "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p",
    *(text.replace("%d/%m", "%m/%d").replace("%d-%m", "%m-%d").replace("%d.%m", "%m.%d") for text in DAY_FIRST),
)  # fmt: skip
"""The same as Americans write them: 03/04/2026 is the fourth of March."""

_ORDERS: Final[Mapping[str, tuple[str, ...]]] = {"day-first": DAY_FIRST, "month-first": MONTH_FIRST}
_LETTERS: Final = "aAbBdfHIjmMpSyYz-%"
_NEEDED: Final = (("y", "Y"), ("b", "B", "m", "j"), ("d", "j"))  # a year, a month, a day

ADVICE: Final[Mapping[str, str]] = {
    "broken_utf8": "not UTF-8, as Excel on Windows writes it? --encoding windows-1252",
    "unreadable_date": "dates are read as ISO 8601 or day first; American ones: --date-format month-first; "
    "others: --date-format '%d %b %Y'",
    "missing_contact_id": "to leave such rows out on purpose: --skip COLUMN=",
    "unknown_contact": "import contacts first",
    "ambiguous_status": "yes is granted, opted_in, oui, 1 …; no is withdrawn, opted_out, non, 0 …; else pending",
    "unknown_channel": "email, sms or push; the same in every row: --set channel=email",
    "missing_purpose": "the same in every row: --set purpose=marketing",
    "invalid_phone": "numbers without + are read as those of the contact's country; the same for all: --set country=FR",
    "too_few_columns": "say what separates the columns: --delimiter semicolon, tab, space …",
    "too_many_columns": "say what separates the columns: --delimiter semicolon, tab, space …",
}
"""Reason of a rejected row, or note on one that landed -> what to try next."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Rows to leave out: those whose `column` is like `pattern` (`*`, `?`), in whatever case; "" is an empty cell."""

    column: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file does not say of itself. `delimiter` None: seen in the heading; `dates` as strptime patterns.

    Without a `heading` the columns are called 1, 2, 3 … . `iso`: dates of ISO 8601 and epoch seconds are read, too.
    `repeats`: equal rows of interactions without an id are that many interactions, not one.
    """

    delimiter: str | None = None
    heading: bool = True
    encoding: str = "utf-8"
    dates: Sequence[str] = DAY_FIRST
    iso: bool = True
    skip: Sequence[Skip] = ()
    repeats: bool = False


def layout_of(
    *,
    delimiter: str | None = None,
    heading: bool = True,
    encoding: str | None = None,
    date_format: str | None = None,
    skip: Iterable[str] = (),
    repeats: bool = False,
) -> Layout:
    """A layout from the words of the command line. Raises BadInput, naming the option and what it takes."""
    return Layout(
        delimiter=None if delimiter is None else _delimiter(delimiter),
        heading=heading,
        encoding=_encoding(encoding or "utf-8"),
        dates=_dates(date_format or "day-first"),
        iso=date_format is None or date_format in _ORDERS,
        skip=tuple(_skip(text) for text in skip),
        repeats=repeats,
    )


def advice(reasons: Iterable[str], *, creating: bool) -> tuple[str, ...]:
    """What to try next about rejected rows and notes; `creating`: this kind may create contacts."""
    told = {reason: f"{reason.replace('_', ' ')}: {ADVICE[reason]}" for reason in reasons if reason in ADVICE}
    if creating and "unknown_contact" in told:
        told["unknown_contact"] += ", or have them made: --create-contacts"
    return tuple(dict.fromkeys(told.values()))


def _delimiter(text: str) -> str:
    found = _DELIMITERS.get(text.lower(), text)
    if len(found) != 1 or found.isalnum() or found in '"\r\n':
        known = ", ".join(name for name in _DELIMITERS if name.isalpha())
        raise BadInput(f"--delimiter {text}: one character, or {known}")
    return found


def _encoding(text: str) -> str:
    try:
        "".encode(text)
    except LookupError:
        raise BadInput(f"--encoding {text}: no encoding of text. Usual ones: utf-8, windows-1252, utf-16") from None
    return "utf-8" if text.lower().replace("_", "-") in ("utf8", "utf-8", "utf-8-sig") else text


def _dates(text: str) -> tuple[str, ...]:
    if text in _ORDERS:
        return _ORDERS[text]
    letters = re.findall(r"%(.?)", text)
    if not letters:
        raise BadInput(
            f"--date-format {text}: write day-first, month-first or a pattern such as '%d %b %Y'."
            + did_you_mean(text, _ORDERS)
        )
    if wrong := [f"%{letter}" for letter in letters if letter not in _LETTERS]:
        raise BadInput(f"--date-format {text}: {', '.join(wrong)} means nothing. Usual: %d %m %b %Y %y %H %M %S")
    if not all(set(needed) & set(letters) for needed in _NEEDED):
        raise BadInput(f"--date-format {text}: a date needs its day, month and year (%d, %m or %b, %Y or %y)")
    return (text,)


def _skip(text: str) -> Skip:
    column, equals, pattern = text.partition("=")
    if not column or not equals:
        raise BadInput(f"--skip {text}: write --skip COLUMN=PATTERN, such as InvoiceNo=C*, or COLUMN= for empty cells")
    return Skip(column, pattern.strip())
