"""What a refusal or bounce means: hard or soft, and why. The knowledge is data, bounces.toml beside this file.

That file is read once, at import: it is part of this module as its code is. Permanence speaks about the address: a
block or a refused content is soft, the person still exists; only what another day cannot mend is hard.
"""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final, NamedTuple

from pydantic import Field, field_validator

from sendwave.rules.events import Cause, Permanence
from sendwave.rules.units import Policy

_CODE: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
# Three digits that are an SMTP reply code, not the start of a telephone number.
_REPLY: Final = re.compile(
    r"(?<![\d.])(2[1-5]\d|4[2-57]\d|5[0-7]\d)(?!-\d{3,})(?:[ \-]+(?:#?(([245])\.\d{1,3}\.\d{1,3})\b)?|$)"
)
_LONGEST: Final = 2_000  # characters of a reply that are read; RFC 5321 §4.5.3.1.5 allows 512 a line
# What differs from one reply to the next and says nothing of why. spam.lover@shop.example is a name, not a verdict.
_PARTICULAR: Final = (
    (re.compile(r"[\w.+=%'/&-]{1,128}@[\w.-]{1,255}\w"), "<address>"),
    (re.compile(r"https?://\S+"), "<link>"),
    (re.compile(r"(?<![\w.-])(?!resolver\.)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){2,10}(?![\w.-])(?<=[a-z])"), "<host>"),
    (re.compile(r"(?<![\w.])\d{1,3}(\.\d{1,3}){3}(?!\w)"), "<ip>"),
    (re.compile(r"\b(?=\w*\d)\w{12,}\b"), "0"),
)


class Reply(NamedTuple):
    """An SMTP reply taken apart; what it does not say is None."""

    code: int | None
    enhanced: str | None
    text: str


class Meaning(Policy):
    """What a code means."""

    cause: Cause
    permanence: Permanence


class Wording(Meaning):
    """What a text means, with an example that must be understood that way."""

    pattern: str
    example: str
    provider: str = ""
    temporary: bool = Field(False, description="Only for 4xx replies.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        re.compile(value)
        if re.search(r"(?<!\\)[A-Z]", value):
            raise ValueError("write it in lower case: so is the text it is matched with")
        return value


class Table(Policy):
    """The whole of bounces.toml."""

    text: tuple[Wording, ...]
    enhanced: dict[str, Meaning]
    wording: tuple[Wording, ...]
    vague: dict[str, Meaning]
    subject: dict[str, Meaning]
    basic: dict[str, Meaning]


def _load() -> Table:
    found: dict[str, Any] = tomllib.loads(files("sendwave.rules").joinpath("bounces.toml").read_text("utf-8"))
    return Table.model_validate(found)


TABLE: Final = _load()
_SOURCES: Final = [[(re.compile(w.pattern), w) for w in part] for part in (TABLE.text, TABLE.wording)]


def take_apart(reply: str) -> Reply:
    """The codes of an SMTP reply or RFC 3464 diagnostic, for instance `smtp; 550-5.1.1 <a@b.example>: unknown`."""
    text = " ".join(reply[:_LONGEST].split())
    if found := _REPLY.search(text):
        enhanced = found[2] if found[3] == found[1][0] else None
        return Reply(int(found[1]), enhanced or _code_in(text, found[1][0]), text)
    return Reply(None, _code_in(text, "245"), text)


def _code_in(text: str, classes: str) -> str | None:
    """The first enhanced code of those classes that stands alone; an IP address contains no such thing."""
    found = re.search(rf"(?<![\w.])#?([{classes}]\.\d{{1,3}}\.\d{{1,3}})(?![\w.]*\d)", text)
    return found[1] if found else None


def classify(code: int | None = None, enhanced: str | None = None, text: str = "") -> tuple[Permanence, Cause]:
    """How lasting and why. Any part may be missing; what nobody knows is (unknown, other), 4xx always soft.

    `code` is the SMTP reply code, `enhanced` the RFC 3463 code, `text` the words. A 4xx or 4.x.x answer is never
    hard: the server itself says that later may do.
    """
    return _classify(code, enhanced if enhanced and _CODE.fullmatch(enhanced) else None, _plain(text))


def _plain(text: str) -> str:
    words = text[:_LONGEST].lower()
    for pattern, name in _PARTICULAR:
        words = pattern.sub(name, words)
    return words


@lru_cache(maxsize=4096)
def _classify(code: int | None, enhanced: str | None, words: str) -> tuple[Permanence, Cause]:
    """Remembered: servers say the same to everybody, names and numbers apart."""
    later = code // 100 == 4 if code else bool(enhanced and enhanced[0] == "4")
    found = _meaning(code, enhanced, words, later=later)
    if found is None:
        return (Permanence.SOFT if later else Permanence.UNKNOWN), Cause.OTHER
    return (Permanence.SOFT if later else found.permanence), found.cause


def says_why(code: int | None = None, enhanced: str | None = None, text: str = "") -> bool:
    """Whether a wording or an exact code was understood, be the cause `other`: then nothing else need be asked."""
    words = _plain(text)
    later = code // 100 == 4 if code else bool(enhanced and enhanced[0] == "4")
    exact = enhanced in TABLE.enhanced
    return exact or any(_worded(part, words, later=later) is not None for part in (0, 1))


def _meaning(code: int | None, enhanced: str | None, text: str, *, later: bool) -> Meaning | None:
    subject = enhanced.rpartition(".")[0] if enhanced else ""
    # "5.0.0" and the like say nothing: the wordings, then the SMTP code decide.
    return (
        _worded(0, text, later=later)
        or TABLE.enhanced.get(enhanced or "")
        or _worded(1, text, later=later)
        or TABLE.vague.get(enhanced or "")
        or TABLE.subject.get(subject)
        or TABLE.basic.get(str(code))
    )


def _worded(part: int, text: str, *, later: bool) -> Meaning | None:
    if not text:
        return None
    return next((w for p, w in _SOURCES[part] if (later or not w.temporary) and p.search(text)), None)


def self_test() -> tuple[str, ...]:
    """One line for each example of bounces.toml that is not understood the way its own entry says; normally none."""
    wrong = []
    for wording in (*TABLE.text, *TABLE.wording):
        reply = take_apart(wording.example)
        permanence, cause = classify(reply.code, reply.enhanced, reply.text)
        expected = Permanence.SOFT if reply.code is not None and reply.code // 100 == 4 else wording.permanence
        if (permanence, cause) != (expected, wording.cause):
            wrong.append(
                f"bounces.toml: {wording.example!r} reads {permanence} {cause}, not {expected} {wording.cause}"
            )
    misplaced = [code for part in (TABLE.enhanced, TABLE.vague) for code in part if not _CODE.fullmatch(code)]
    wrong += [f"bounces.toml: {code!r} is no enhanced code" for code in misplaced]
    return tuple(wrong)
