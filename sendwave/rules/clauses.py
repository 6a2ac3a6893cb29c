"""One clause of an audience, in words: `country in FR, BE`, `bought category shoes within 180d at least 2 times`.

    [not] FIELD = | is | != | is not | in | not in | contains WORD, …     an attribute of the contact, letter by letter
    [not] FIELD < | <= | > | >= | over | under | at least | at most N     as numbers, or as dates (2026-03-02)
    [not] FIELD exists
    [not] bought | opened | clicked | visited | unsubscribed | complained | did KIND, …
          [FIELD WORD, …] [amount over N] [total over N] [including machines] [within 180d] [at least N times]
    [not] signed up within 30d
    [not] audience NAME

`amount over 100 within 1y` is short for `bought amount over 100 within 1y`. Words with spaces or commas go in quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from sendwave.errors import did_you_mean
from sendwave.rules.conditions import VALUE, When
from sendwave.rules.units import parse_duration

VERBS: Final[Mapping[str, tuple[str, ...]]] = {
    "bought": ("purchase",),
    "opened": ("email_open",),
    "clicked": ("email_click", "sms_click", "push_click"),
    "visited": ("visit", "product_view"),
    "unsubscribed": ("unsubscribe",),
    "complained": ("complaint",),
}
"""Kinds of interactions by the word people use; `did KIND` asks for any other."""

MOST_DAYS: Final = 3_660
"""Days of the longest window: ten years."""

_TOKEN: Final = re.compile(r"\"[^\"]*\"|'[^']*'|<=|>=|!=|[<>=,]|[^\s,<>=!\"']+|\S")
_NUMBER: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,9})?")
DATE: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
"""A day in ISO 8601, compared letter by letter."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_YEAR: Final = re.compile(r"([0-9]+)\s?y")
_OVER: Final = {"over": ">", "under": "<", "above": ">", "below": "<", ">": ">", "<": "<", ">=": ">=", "<=": "<="}
_ENDS: Final = ("within", "at", "exactly", "including", "total", "amount", VALUE)
_AMOUNTS: Final = ("amount", VALUE)
_OPERATORS: Final = ("=", "!=", "<", "<=", ">", ">=", "is", "in", "not", "contains", "exists", "over", "under", "at")


class Slip(ValueError):
    """Something wrong in a clause; `offset` counts its characters from 0."""

    def __init__(self, problem: str, offset: int = 0) -> None:
        super().__init__(problem)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Compared:
    """A contact's field against words: operator `in`, `not in`, `contains`, `exists`, or one of < <= > >=."""

    text: str
    name: str
    operator: str
    words: tuple[str, ...] = ()
    at: int = field(default=0, compare=False)  # where the field stands in the text


@dataclass(frozen=True, slots=True)
class Acted:
    """Interactions of some kinds, like `when`, at least and at most so often, in the last `seconds` (None: ever)."""

    text: str
    kinds: tuple[str, ...]
    when: When = field(default_factory=When)
    seconds: int | None = None
    least: int = 1
    most: int | None = None
    total: tuple[str, float] | None = None  # (operator, sum of the values); then no number of times is asked
    machines: bool = False  # whether acts of machines count too
    places: tuple[tuple[str, int], ...] = field(default=(), compare=False)  # where kinds and fields stand


@dataclass(frozen=True, slots=True)
class SignedUp:
    """A sign-up in the last `seconds`."""

    text: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Named:
    """An audience of policies/audiences/."""

    text: str
    name: str
    at: int = field(default=0, compare=False)


Clause = Compared | Acted | SignedUp | Named


def parse(text: str) -> tuple[bool, Clause]:
    """Whether the clause is not negated, and the clause. Raises Slip at what it cannot read."""
    reader = _Reader(text)
    if not reader.tokens:
        raise Slip("is empty: write a condition, for instance country in FR, BE")
    affirmed = not reader.took("not")
    found = _clause(reader)
    if reader.peek is not None:
        reader.refuse(f"{reader.peek!r} is one word too many: write each condition as an item of its own")
    return affirmed, found


class _Reader:
    """The words of a clause, one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(match[0], match.start()) for match in _TOKEN.finditer(text)]
        self.place = 0

    @property
    def peek(self) -> str | None:
        """The next word, None at the end."""
        return self.tokens[self.place][0] if self.place < len(self.tokens) else None

    @property
    def offset(self) -> int:
        """Where the next word stands."""
        return self.tokens[self.place][1] if self.place < len(self.tokens) else len(self.text)

    def took(self, *words: str) -> bool:
        """Step over these words, if they are next."""
        if [token for token, _ in self.tokens[self.place : self.place + len(words)]] != list(words):
            return False
        self.place += len(words)
        return True

    def step(self) -> str:
        """The next word, as it stands; there is one."""
        self.place += 1
        return self.tokens[self.place - 1][0]

    def word(self, wanted: str) -> str:
        """The next word without its quotes. Raises Slip where there is none."""
        token = self.peek
        if token is None or token in (",", "=", "!=", "<", ">", "<=", ">="):
            self.refuse(f"{wanted} is missing here")
        if token in ('"', "'"):
            self.refuse("this quote is not closed")
        self.place += 1
        return token[1:-1] if token[0] in "\"'" else token

    def words(self, wanted: str) -> tuple[str, ...]:
        """Words with commas between them."""
        found = [self.word(wanted)]
        while self.took(","):
            found.append(self.word(wanted))
        return tuple(dict.fromkeys(found))

    def name(self, wanted: str) -> str:
        """The next word as a key."""
        at = self.offset
        found = self.word(wanted)
        if not _NAME.fullmatch(found):
            raise Slip(f"{found!r} is no {wanted}: lower-case letters, digits and _, a letter first", at)
        return found

    def refuse(self, problem: str) -> NoReturn:
        """Raise Slip at the next word."""
        raise Slip(problem, self.offset)


def _clause(reader: _Reader) -> Clause:
    start = reader.text.strip()
    if reader.took("signed", "up"):
        return SignedUp(start, _window(reader))
    if reader.took("audience"):
        at = reader.offset
        return Named(start, reader.name("audience"), at)
    if reader.peek in VERBS:
        return _acted(reader, VERBS[reader.step()], [])
    if reader.took("did"):
        return _did(reader)
    if len(reader.tokens) == 1:
        reader.refuse(
            f"{reader.peek!r} alone is no condition; inside [ ] a comma ends one: put a clause with commas in quotes"
        )
    if reader.peek in _AMOUNTS or reader.peek == "total":
        return _acted(reader, VERBS["bought"], [])
    return _compared(reader, start)


def _did(reader: _Reader) -> Acted:
    places: list[tuple[str, int]] = []
    while not places or reader.took(","):
        at = reader.offset
        places.append((reader.name("kind of interaction"), at))
    return _acted(reader, tuple(dict.fromkeys(kind for kind, _ in places)), places)


def _compared(reader: _Reader, text: str) -> Compared:
    at = reader.offset
    name = reader.name("field")
    operator = _operator(reader, name, at)
    if operator == "exists":
        return Compared(text, name, operator, (), at)
    if operator in ("in", "not in"):
        return Compared(text, name, operator, reader.words("a word"), at)
    if operator == "contains":
        return Compared(text, name, operator, (reader.word("a word"),), at)
    where = reader.offset
    limit = reader.word("a number or a date")
    if not _NUMBER.fullmatch(limit) and not DATE.fullmatch(limit):
        raise Slip(f"{limit!r} is neither a number nor a date: write for instance 40 or 2026-03-02", where)
    return Compared(text, name, operator, (limit,), at)


_SPOKEN: Final = (
    (("is", "not", "in"), "not in"), (("is", "not"), "not in"), (("is", "in"), "in"), (("not", "in"), "not in"),
    (("is",), "in"), (("=",), "in"), (("!=",), "not in"), (("in",), "in"), (("contains",), "contains"),
    (("exists",), "exists"), (("at", "least"), ">="), (("at", "most"), "<="),
)  # fmt: skip


def _operator(reader: _Reader, name: str, at: int) -> str:
    for words, operator in _SPOKEN:
        if reader.took(*words):
            return operator
    if reader.peek in _OVER:
        return _OVER[reader.step()]
    if hint := did_you_mean(name, (*VERBS, "did", "audience", "signed")).partition(" Known")[0]:
        raise Slip(f"{name!r} is no verb.{hint}", at)
    if reader.peek in _ENDS:
        raise Slip(f"{name!r} is no verb: write bought, opened, clicked, visited, or `did {name}`", at)
    if reader.peek is None:
        problem = f"a comparison is missing after {name!r}: write for instance {name} in a, b or {name} exists"
    else:
        hint = did_you_mean(reader.peek, _OPERATORS).partition(" Known")[0]
        problem = f"{reader.peek!r} compares nothing: write {name} = word, in, contains, exists, over, under.{hint}"
    raise Slip(problem, reader.offset)


def _acted(reader: _Reader, kinds: tuple[str, ...], places: list[tuple[str, int]]) -> Acted:
    """What follows the verb: filters, window and number of times, in any order, each once."""
    tests: dict[str, list[str]] = {}
    seen: set[str] = set()
    found = Acted(reader.text.strip(), kinds)
    while (token := reader.peek) is not None:
        at = reader.offset
        changed = _measured(reader, token, found)
        if changed is None:
            part, words = _filtered(reader, token)
            places = [*places, (part, at)]
            tests |= {part: words}
        else:
            found, part = changed, token if token in ("within", "including", "total") else "times"
        if part in seen:
            raise Slip(f"{token!r} stands here a second time", at)
        seen.add(part)
    if {"times", "total"} <= seen:
        raise Slip("asks for a total and for a number of times: write two conditions")
    return replace(found, when=When.parse(tests), places=tuple(places))


def _measured(reader: _Reader, token: str, found: Acted) -> Acted | None:
    """How long ago, how often, how much in all; None for anything else."""
    if token == "within":  # a word of the clause
        return replace(found, seconds=_window(reader))
    if token in ("at", "exactly"):
        least, most = _times(reader)
        return replace(found, least=least, most=most)
    if reader.took("including"):
        if not reader.took("machines"):
            reader.refuse("write `including machines`: opens and clicks that no person made")
        return replace(found, machines=True)
    if reader.took("total"):
        return replace(found, total=(_comparison(reader), float(_number(reader))))
    return None


def _filtered(reader: _Reader, token: str) -> tuple[str, list[str]]:
    """A field of the interaction, and what it must be."""
    if token in _AMOUNTS:
        reader.step()
        return VALUE, [f"{_comparison(reader)} {_number(reader)}"]
    at = reader.offset
    name = reader.name("field")
    if not (reader.took("in") or reader.took("=")):
        reader.took("is")
    if reader.peek is None or reader.peek in _ENDS:
        raise Slip(f"what is {name!r}? Write a field and its word, for instance `category {name}`", at)
    return name, list(reader.words("a word"))


def _window(reader: _Reader) -> int:
    if not reader.took("within"):
        reader.refuse("write how long ago at most, for instance within 30d")
    at = reader.offset
    text = reader.word("a window such as 30d")
    years = _YEAR.fullmatch(text)
    try:
        seconds = int(years[1]) * 365 * 86_400 if years else int(parse_duration(text).total_seconds())
    except ValueError as wrong:
        raise Slip(str(wrong), at) from None
    if not 0 < seconds <= MOST_DAYS * 86_400:
        raise Slip(f"a window lies between 1s and {MOST_DAYS}d", at)
    return seconds


def _times(reader: _Reader) -> tuple[int, int | None]:
    exactly = reader.took("exactly")
    most = not exactly and reader.took("at", "most")
    if not (exactly or most or reader.took("at", "least")):
        reader.refuse("write at least, at most or exactly N times")
    at = reader.offset
    number = reader.word("a number of times")
    if not re.fullmatch(r"[0-9]{1,6}", number):
        raise Slip(f"{number!r} is no number of times: write for instance at least 2 times", at)
    if not (reader.took("times") or reader.took("time")):
        reader.refuse(f"write {number} times")
    if int(number) == 0 and not (most or exactly):
        raise Slip("at least 0 times is everybody", at)
    return (int(number), int(number)) if exactly else (0, int(number)) if most else (int(number), None)


def _comparison(reader: _Reader) -> str:
    for words, sign in ((("at", "least"), ">="), (("at", "most"), "<=")):
        if reader.took(*words):
            return sign
    if reader.peek not in _OVER:
        reader.refuse("write over, under, at least or at most, then a number")
    return _OVER[reader.step()]


def _number(reader: _Reader) -> str:
    at = reader.offset
    text = reader.word("a number")
    if not _NUMBER.fullmatch(text):
        raise Slip(f"{text!r} is no number: write for instance 100 or 49.90", at)
    return text
