"""Who a campaign is for: clauses joined by `all`, `any` and `not`, written as YAML.

    audience:
      all:
        - country in FR, BE
        - any: [bought category shoes within 180d at least 2 times, clicked campaign spring-sale]
        - not opened within 90d
        - audience loyal

A list means all of it. An audience of policies/audiences/ has a name and may be part of others. What is not known is
never a yes, also under `not`: `not country in FR` leaves out people without a country.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails

from sendwave.errors import NotFound, did_you_mean
from sendwave.rules.clauses import Clause, Named, Slip, parse
from sendwave.rules.units import Key, Policy

Loc = tuple[str | int, ...]
WORDS: Final = ("all", "any", "not")
MOST_CLAUSES: Final = 60
"""More of them belong in an attribute of the base."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One clause, and where it stands."""

    clause: Clause
    loc: Loc = field(default=(), compare=False)

    @property
    def text(self) -> str:
        """As it is written."""
        return self.clause.text


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by `all`, `any` or `not` (of one). `text` is set where it was written as one clause."""

    how: str
    parts: tuple[Condition, ...]
    text: str = ""


Condition = Leaf | Group


@dataclass(frozen=True, slots=True)
class Who:
    """A whole audience; without a condition it is everybody."""

    condition: Condition | None = None

    def __bool__(self) -> bool:
        return self.condition is not None

    @classmethod
    def parse(cls, given: Any) -> Who:
        """Text, a list, or a mapping of all, any and not. Raises ValidationError with every mistake and its place."""
        if isinstance(given, cls):
            return given
        if given is None:
            return cls()
        mistakes: list[InitErrorDetails] = []
        found = _condition(given, (), mistakes)
        if not mistakes and found is not None and sum(1 for _ in _leaves(found)) > MOST_CLAUSES:
            mistakes.append(_wrong(f"has more than {MOST_CLAUSES} conditions: keep it as an attribute", (), given))
        if mistakes or found is None:
            raise ValidationError.from_exception_data("audience", mistakes)
        return cls(found)

    def document(self) -> Any:
        """What it is written as; None for everybody."""
        return None if self.condition is None else _written(self.condition)

    def leaves(self) -> Iterator[Leaf]:
        """Every clause, in the order of the text."""
        return iter(()) if self.condition is None else _leaves(self.condition)

    @property
    def names(self) -> tuple[str, ...]:
        """The audiences it names."""
        return tuple(dict.fromkeys(leaf.clause.name for leaf in self.leaves() if isinstance(leaf.clause, Named)))

    def resolved(self, known: Mapping[str, NamedAudience]) -> Who:
        """With the conditions of the audiences it names. Raises NotFound for an unknown one, or one inside itself."""
        return self if self.condition is None else Who(_resolved(self.condition, known, ()))

    def joined(self, other: Who) -> Who:
        """People of both."""
        both = tuple(who.condition for who in (self, other) if who.condition is not None)
        return Who(Group("all", both)) if len(both) == 2 else Who(both[0] if both else None)


_SCHEMA: Final = {
    "description": "A clause, a list of them (all must hold), or a mapping of all, any and not.",
    "type": ["string", "array", "object", "null"],
    "examples": [["country in FR, BE", "bought category shoes within 180d at least 2 times", "not opened within 90d"]],
}
Audience = Annotated[
    Who, BeforeValidator(Who.parse), PlainSerializer(Who.document), WithJsonSchema(_SCHEMA)
]  # fmt: skip


class NamedAudience(Policy):
    """One file of policies/audiences/: conditions that campaigns, campaign types and other audiences share."""

    audience: Key = Field(description="Its name, and that of its file.")
    label: str = Field(default="", description="What people read.")
    who: Audience = Field(description="Its conditions.")


def mistakes_in(audiences: Mapping[str, NamedAudience], who: Who) -> Iterator[tuple[Loc, Slip]]:
    """Names of audiences that do not exist, or lead back to themselves, in an audience."""
    for leaf in who.leaves():
        if isinstance(leaf.clause, Named):
            try:
                _resolved(leaf, audiences, ())
            except NotFound as wrong:
                yield leaf.loc, Slip(str(wrong), leaf.clause.at)


def _condition(given: Any, loc: Loc, mistakes: list[InitErrorDetails]) -> Condition | None:
    if isinstance(given, str):
        try:
            affirmed, clause = parse(given)
        except ValueError as slip:
            mistakes.append(_wrong(slip, loc, given))
            return None
        leaf = Leaf(clause, loc)
        return leaf if affirmed else Group("not", (leaf,), clause.text)
    if isinstance(given, Sequence):
        return _group("all", given, loc, mistakes)
    if isinstance(given, Mapping) and given:
        found = [_named_group(str(key), value, (*loc, str(key)), mistakes) for key, value in given.items()]
        parts = tuple(part for part in found if part is not None)
        return parts[0] if len(parts) == 1 else Group("all", parts)
    problem = "must be a condition in words, a list of them, or a mapping of all, any and not"
    mistakes.append(_wrong(problem, loc, given))
    return None


def _named_group(key: str, given: Any, loc: Loc, mistakes: list[InitErrorDetails]) -> Condition | None:
    if key not in WORDS:
        hint = did_you_mean(key, WORDS).partition(" Known")[0] or " Write conditions as text, without a colon."
        mistakes.append(_wrong(Slip(f"unknown key {key!r}: there are all, any and not.{hint}", -1), loc, given))
        return None
    if key == "not":
        inner = _condition(given, loc, mistakes)
        return None if inner is None else Group("not", (inner,))
    listed = given if isinstance(given, Sequence) and not isinstance(given, str) else None
    if listed is None:
        mistakes.append(_wrong(f"must be a list: {key}: [one, two]", loc, given))
        return None
    return _group(key, listed, loc, mistakes)


def _group(how: str, given: Sequence[Any], loc: Loc, mistakes: list[InitErrorDetails]) -> Condition | None:
    if not given:
        mistakes.append(_wrong("is empty: write at least one condition, or leave it out", loc, given))
        return None
    found = [_condition(one, (*loc, number), mistakes) for number, one in enumerate(given)]
    return Group(how, tuple(part for part in found if part is not None))


def _wrong(problem: str | ValueError, loc: Loc, given: Any) -> InitErrorDetails:
    error = problem if isinstance(problem, ValueError) else Slip(problem)
    return InitErrorDetails(type="value_error", loc=loc, input="" if given is None else given, ctx={"error": error})


def _written(condition: Condition) -> Any:
    if condition.text:
        return condition.text
    assert isinstance(condition, Group)
    parts = [_written(part) for part in condition.parts]
    return {condition.how: parts[0] if condition.how == "not" else parts}


def _leaves(condition: Condition) -> Iterator[Leaf]:
    if isinstance(condition, Leaf):
        yield condition
        return
    for part in condition.parts:
        yield from _leaves(part)


def _resolved(condition: Condition, known: Mapping[str, NamedAudience], inside: tuple[str, ...]) -> Condition:
    if isinstance(condition, Group):
        parts = tuple(_resolved(part, known, inside) for part in condition.parts)
        return Group(condition.how, parts, condition.text)
    if not isinstance(condition.clause, Named):
        return condition
    name = condition.clause.name
    if name not in known:
        raise NotFound(f"there is no audience {name!r} in policies/audiences.{did_you_mean(name, known)}")
    if name in inside:
        raise NotFound(f"the audience {name!r} is part of itself ({' > '.join((*inside, name))}): take it out")
    found = known[name].who.condition
    if found is None:
        raise NotFound(f"the audience {name!r} has no condition: write one under `who`")
    return Group("all", (_resolved(found, known, (*inside, name)),), condition.text)
