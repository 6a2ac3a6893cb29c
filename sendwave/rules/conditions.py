"""What an act must be like: `value: "<= 6"`, `status: [open, unresolved]`. All parts must be known to hold.

`value` is compared as a number; `channel`, `campaign` and everything else (an attribute of the interaction) letter by
letter, because engines do not agree on the lower case of other letters than a to z.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from sendwave.rules.columns import (
    BOUND,
    ColumnElement,
    Double,
    FromClause,
    String,
    and_,
    attribute,
    case,
    cast,
    literal,
)

VALUE: Final = "value"
_OWN: Final = ("channel", "campaign")
_NUMBER: Final = r"-?[0-9]+(?:\.[0-9]+)?"
_COMPARED: Final = re.compile(rf"(<=|>=|<|>|=)\s*({_NUMBER})")
_BETWEEN: Final = re.compile(rf"({_NUMBER})\s*\.\.\s*({_NUMBER})")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class When:
    """Named tests, all of which must hold; empty: any act. Written as a mapping."""

    numbers: tuple[tuple[str, float], ...] = ()  # (operator, number) on `value`
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (field, the words it may be)

    def __bool__(self) -> bool:
        return bool(self.numbers or self.words)

    @classmethod
    def parse(cls, given: Any) -> When:
        """A mapping of the policy file. Raises ValueError saying what to write instead."""
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise ValueError('must be a mapping, for instance {value: "<= 6"} or {status: [open, unresolved]}')  # noqa: TRY004  # pydantic's
        numbers: list[tuple[str, float]] = []
        words: list[tuple[str, tuple[str, ...]]] = []
        for name, test in given.items():
            if not _NAME.fullmatch(str(name)):
                raise ValueError(f"{name!r} is no field: lower-case letters, digits and _, a letter first")
            if name == VALUE:
                numbers += _numbers(test)
            else:
                words.append((str(name), _words(str(name), test)))
        return cls(tuple(numbers), tuple(sorted(words)))

    def document(self) -> dict[str, Any]:
        """The mapping it is written as."""
        told: dict[str, Any] = {name: list(words) for name, words in self.words}
        tests = [f"{operator} {Decimal(repr(number)):f}" for operator, number in self.numbers]
        return told | ({VALUE: tests} if tests else {})

    @property
    def attributes(self) -> frozenset[str]:
        """The attributes of interactions it looks at."""
        return frozenset(name for name, _ in self.words if name not in _OWN)

    def holds(self, acts: FromClause) -> ColumnElement[bool] | None:
        """The condition over the columns of INTERACTIONS in `acts`; None where there is nothing to ask."""
        parts = [*self._of_value(acts), *self._of_words(acts)]
        return and_(*parts) if parts else None

    def _of_value(self, acts: FromClause) -> Iterator[ColumnElement[bool]]:
        value = acts.c.value  # NaN and infinity are no values, and sort above all numbers on most engines
        known = case((and_(value <= BOUND, value >= -BOUND), value))
        for operator, number in self.numbers:
            yield known.op(operator, is_comparison=True)(cast(literal(number, Double), Double))

    def _of_words(self, acts: FromClause) -> Iterator[ColumnElement[bool]]:
        for name, words in self.words:
            found = acts.c[name] if name in _OWN else attribute(acts.c.attributes, name)
            yield found.in_([literal(word, String) for word in words])


def _numbers(test: Any) -> Iterator[tuple[str, float]]:
    for one in test if isinstance(test, list | tuple) else [test]:
        text = str(one).strip()
        if isinstance(one, bool):
            raise ValueError("a value is a number")  # noqa: TRY004  # pydantic's
        if match := _COMPARED.fullmatch(text):
            yield match[1], float(match[2])
        elif match := _BETWEEN.fullmatch(text):
            yield ">=", float(match[1])
            yield "<=", float(match[2])
        elif re.fullmatch(_NUMBER, text):
            yield "=", float(text)
        else:
            raise ValueError(f'{text!r} is no test of a value: write for instance "<= 6", ">= 9" or "0..6"')


def _words(name: str, test: Any) -> tuple[str, ...]:
    words = test if isinstance(test, list | tuple) else [test]
    if not words:
        raise ValueError(f"{name}: no word at all would never hold")
    for word in words:
        if not isinstance(word, str | int | bool) or (isinstance(word, str) and re.match(r"\s*[<>=!]", word)):
            raise ValueError(f"{name} is compared letter by letter: write the words it may be; `value` takes numbers")
    return tuple(sorted({str(word).lower() if isinstance(word, bool) else str(word) for word in words}))


Condition = Annotated[
    When,
    BeforeValidator(When.parse),
    PlainSerializer(When.document, return_type=dict),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": ["string", "number"]}, {"type": "array"}]},
            "examples": [{"value": "<= 6"}, {"status": ["open", "unresolved"]}],
        }
    ),
]
