"""What a message gateway is told and tells, as its settings describe it: a body with names in it, places in answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sendwave.esp import hooks
from sendwave.rules.events import Cause, EventType, Permanence

NAMES: Final = frozenset(
    {"to", "text", "title", "token", "sender", "campaign", "contact_id", "key", "link", "alphabet", "parts"}
)
"""Names a body may hold in braces: what each stands for is told in docs/guides/sms.md."""

EACH: Final = "each"
_NAME: Final = re.compile(r"\{([a-z_]+)\}")
_WORDS: Final = (EventType, Permanence, Cause)


def filled(body: Any, values: Mapping[str, Any]) -> Any:
    """The body with every {name} replaced; a text that is one name alone becomes its value, a number stays a number."""
    if isinstance(body, dict):
        return {key: filled(inner, values) for key, inner in body.items()}
    if isinstance(body, list):
        return [filled(inner, values) for inner in body]
    if not isinstance(body, str):
        return body
    alone = _NAME.fullmatch(body)
    return values[alone[1]] if alone else _NAME.sub(lambda found: str(values[found[1]]), body)


def spread(body: Any, people: list[Mapping[str, Any]], shared: Mapping[str, Any]) -> Any:
    """The body of one call: `{each: …}` becomes a list with an item for each of the people."""
    if isinstance(body, dict) and body.keys() == {EACH}:
        return [filled(body[EACH], person) for person in people]
    if isinstance(body, dict):
        return {key: spread(inner, people, shared) for key, inner in body.items()}
    if isinstance(body, list):
        return [spread(inner, people, shared) for inner in body]
    return filled(body, shared)


def has_each(body: Any) -> bool:
    """Whether one call can name several people."""
    if isinstance(body, dict):
        return body.keys() == {EACH} or any(map(has_each, body.values()))
    return isinstance(body, list) and any(map(has_each, body))


def unknown_names(body: Any) -> list[str]:
    """Names in braces that stand for nothing."""
    if isinstance(body, dict):
        return [name for inner in body.values() for name in unknown_names(inner)]
    if isinstance(body, list):
        return [name for inner in body for name in unknown_names(inner)]
    return [name for name in _NAME.findall(body) if name not in NAMES] if isinstance(body, str) else []


def found(document: Any, path: str | None) -> Any:
    """What stands at a path of keys and places (`data.items.0.id`) of a JSON document; None where nothing does."""
    for step in path.split(".") if path else ():
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document


def said(document: Any, path: str | None) -> str | None:
    """A text or number at that path, as text; None without a path or for anything else."""
    return hooks.text({"": found(document, path)}, "") if path else None


def meaning(written: str) -> tuple[EventType, Permanence, Cause | None]:
    """`bounce hard unknown_user` in our words. Raises ValueError for a word that is none of ours."""
    told: dict[Any, Any] = {}
    for word in written.split():
        kind = next((kind for kind in _WORDS if kind not in told and word in {one.value for one in kind}), None)
        if kind is None:
            raise ValueError(
                f"{word!r} is no word for an event: write its type ({', '.join(EventType)}), then hard or soft, then "
                f"a cause ({', '.join(Cause)})"
            )
        told[kind] = kind(word)
    if EventType not in told:
        raise ValueError(f"{written!r} names no type of event: {', '.join(EventType)}")
    return told[EventType], told.get(Permanence, Permanence.UNKNOWN), told.get(Cause)
