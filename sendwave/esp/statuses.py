"""Delivery status notifications (RFC 3464): what the status part says of each recipient."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator, Mapping
from email.header import Header
from email.message import Message
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from sendwave.esp.freeform_bounces import clean
from sendwave.rules.bounces import Reply, take_apart
from sendwave.rules.events import EventType

_MOST: Final = 1_000  # recipients that are read of one report

# RFC 3464 §2.3.3, by how they begin: `failure` and `delay` are seen too. `relayed` and `expanded` promise no delivery,
# and nobody asked for them: counted as unknown.
_ACTIONS: Final = (
    ("fail", EventType.BOUNCE),
    ("delay", EventType.DEFERRED),
    ("deliver", EventType.DELIVERED),
    ("relay", EventType.UNKNOWN),
    ("expand", EventType.UNKNOWN),
)
_CLASSES: Final[Mapping[str, EventType]] = MappingProxyType(
    {"2": EventType.DELIVERED, "4": EventType.DEFERRED, "5": EventType.BOUNCE}
)


_FIELD: Final = re.compile(
    r"\s|(?:x-[\w-]+|(?:original|final|reporting|received|remote|final-log|diagnostic|last|will|action|status|arrival|"
    r"dsn)[\w-]*)\s*:",
    re.IGNORECASE,
)


class Status(NamedTuple):
    """What is said of one recipient; None is what is not said."""

    kind: EventType
    action: str
    recipient: str | None
    reply: Reply
    attempted: str | None  # when it was last tried, RFC 5322


def read(part: Message) -> Iterator[Status]:
    """Each recipient of a message/delivery-status part."""
    blocks = _blocks(part)
    for block in blocks[:_MOST]:
        if any(name in block for name in ("Final-Recipient", "Original-Recipient", "Action", "Diagnostic-Code")):
            yield _status(block, blocks[0])


def field(mail: Message | None, name: str) -> str | None:
    """A header field on one line; None where it is missing or empty."""
    value: Any = mail.get(name) if mail is not None else None
    if isinstance(value, Header) and mail is not None:  # bytes nobody declared: RFC 6532 says they are UTF-8
        raw = next(str(text) for key, text in mail.raw_items() if key.lower() == name.lower())
        value = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join(str(value).split()) or None if value is not None else None


def words(part: Message, most: int = 200_000) -> str:
    """The first `most` characters of a part's text, whatever its encoding claims to be."""
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        inner = part.get_payload()
        return ("\n\n".join(str(block) for block in inner) if isinstance(inner, list) else str(inner or ""))[:most]
    for charset in (part.get_content_charset(), "utf-8"):
        try:
            if charset and not _ODD.search(charset):
                return payload[: 4 * most].decode(charset)[:most]
        except (LookupError, ValueError):
            continue
    return payload[:most].decode("latin-1")


# Names Python knows that no mail uses: some are slow on long texts, none is a charset.
_ODD: Final = re.compile(r"idna|punycode|escape|undefined|codec|rot|zlib|bz2|hex|base64|quopri|uu", re.IGNORECASE)


def _blocks(part: Message) -> list[Message]:
    """The field groups of a delivery-status part, however it was encoded: the message's own first, then recipients'."""
    payload = part.get_payload()
    blocks = [block for block in payload if isinstance(block, Message)] if isinstance(payload, list) else []
    coded = (field(part, "Content-Transfer-Encoding") or "").lower()
    encoded = coded in {"base64", "quoted-printable"}
    if blocks and not encoded and part.get_content_type() == "message/delivery-status":
        return [_mended(block) for block in blocks]
    # Encoded against RFC 2046 §5.2.1, of a kind `email` does not take apart (RFC 6533), or nothing recognised: as text.
    text = "\n\n".join(_written(block) for block in blocks).strip() if blocks else words(part)
    if encoded:
        flat = Message()
        flat["Content-Transfer-Encoding"] = coded
        flat.set_payload(text)
        text = words(flat)
    text = text.replace("\r\n", "\n").strip()
    return [email.message_from_string(group.strip()) for group in re.split(r"\n\s*\n", text)]


def _written(block: Message) -> str:
    return block.as_bytes().decode("utf-8", "replace")


def _mended(block: Message) -> Message:
    """The group with lines that forgot to be indented put where they belong; the fields after them were lost."""
    rest = block.get_payload()
    if not isinstance(rest, str) or not rest.strip():
        return block
    lines = [*(f"{name}: {value}" for name, value in block.items()), *rest.splitlines()]
    folded = (line if _FIELD.match(line) else f" {line}" for line in lines if line.strip())
    return email.message_from_string("\n".join(folded))


def _status(block: Message, whole: Message) -> Status:
    action = (field(block, "Action") or "").lower().partition(" ")[0]
    reply = _reply(block)
    stated = _CLASSES[reply.enhanced[0]] if reply.enhanced else EventType.UNKNOWN
    kind = next((kind for start, kind in _ACTIONS if action.startswith(start)), stated)
    return Status(
        kind,
        action,
        address(field(block, "Original-Recipient")) or address(field(block, "Final-Recipient")),
        reply,
        field(block, "Last-Attempt-Date") or field(whole, "Last-Attempt-Date"),
    )


def _reply(block: Message) -> Reply:
    """Status and Diagnostic-Code together; the diagnostic's own code wins over a Status that says nothing (x.0.0)."""
    diagnostic = take_apart((field(block, "Diagnostic-Code") or "").partition(";")[2])
    if not diagnostic.text:
        diagnostic = take_apart(field(block, "Diagnostic-Code") or "")
    stated = take_apart(field(block, "Status") or "").enhanced
    if diagnostic.enhanced and (stated is None or stated.endswith(".0.0")):
        stated = diagnostic.enhanced
    return Reply(diagnostic.code, stated, diagnostic.text)


def address(value: str | None) -> str | None:
    """The address in `rfc822; a@b.example`, `Name <a@b.example>` or `x400; /dda:smtp=a@b.example/`."""
    if value is None:
        return None
    found = re.search(r"[^\s<>;,\"()\[\]]+@[^\s<>;,\"()\[\]]+", value[:2_000])
    return clean(found[0]) or found[0].strip("'\".:") if found else None
