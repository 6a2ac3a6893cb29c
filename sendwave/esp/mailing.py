"""The people of a batch, ready for an ESP that takes structured messages instead of mails.

Own content is filled in for everybody at once. An ESP that takes one content for all and a few values for each gets
`Mailing.shared`: the text everybody shares with marks, and each person's values.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sendwave.errors import BadInput, Permanent
from sendwave.esp import columns
from sendwave.esp.base import PerRecipient, Submission
from sendwave.esp.columns import Column, Ready
from sendwave.esp.content import OWN_FIELDS, PARTS, Content, FieldMissing, Rendered, one_line, stamp
from sendwave.esp.merging import Merge
from sendwave.esp.mime import BadAddress, are_plain, envelope_address, named_address
from sendwave.rules.bounces import classify, take_apart
from sendwave.rules.events import Cause, Event, EventType, Permanence

TOKEN: Final = "sendwave_token"
"""Name our token travels by in metadata, custom arguments and tags; Postmark allows 20 characters."""

MARKUP: Final = re.compile(r"[&<>\"'`]")
"""What an ESP that escapes values would change in one."""

ONE_CLICK: Final = "List-Unsubscribe=One-Click"
"""Value of List-Unsubscribe-Post (RFC 8058 §3.1)."""

_BAD: Final = (Permanence.UNKNOWN, Cause.OTHER)


@dataclass(frozen=True, slots=True)
class Addressing:
    """What a sender and an address are here: mail by default."""

    sender: Callable[[str], tuple[str, str]]  # name and address; raises Permanent
    recipient: Callable[[str], str]  # raises BadAddress
    are_plain: Callable[[Sequence[str]], bool] = lambda _: (
        False
    )  # whether `recipient` gives all of these back as they are


MAIL: Final = Addressing(
    lambda written: named_address("sender", written), lambda written: envelope_address(written)[0], are_plain
)


@dataclass(slots=True)
class Piece:
    """One person of the batch."""

    index: int  # position in the submission
    address: str
    token: str
    link: str  # their own unsubscribe link on one line, "" without one
    columns: Mapping[str, Sequence[Any]]  # everybody's fields
    row: int  # this person's place in them
    merge: Merge | None  # everybody's content; None with a template of the ESP's

    @property
    def fields(self) -> dict[str, Any]:
        """What is known of this person, and what every message has."""
        found = {name: values[self.row] for name, values in self.columns.items()}
        return {name: v for name, v in found.items() if (v is not None and v != "") or name in OWN_FIELDS}

    @property
    def rendered(self) -> Rendered | None:
        """Their message in full; None with a template of the ESP's."""
        if self.merge is None:
            return None
        found = [self.merge.texts(part)[self.row] if part in self.merge.patterns else None for part in PARTS]
        return Rendered(one_line(found[0] or ""), found[1], found[2])

    @property
    def list_headers(self) -> dict[str, str]:
        """The one-click pair of RFC 8058, which Gmail and Yahoo ask of bulk senders; empty without a link."""
        if not self.link:
            return {}
        return {"List-Unsubscribe": f"<{self.link}>", "List-Unsubscribe-Post": ONE_CLICK}


@dataclass(frozen=True, slots=True)
class Mailing:
    """A batch taken apart: who can be written to, who cannot and why."""

    submission: Submission
    sender: tuple[str, str]  # name, address
    reply_to: tuple[str, str] | None
    template: str | None  # the ESP's, then `rendered` is None everywhere
    pieces: Sequence[Piece]
    refused: Sequence[PerRecipient]

    def shared(
        self, mark: Callable[[str], str], *risky: str, prefix: str = "sw", by_mark: bool = False
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        """As `shared_columns`, each person's values by name; with `by_mark` by their marks."""
        parts, values = self.shared_columns(mark, *risky, prefix=prefix)
        names = [mark(name) if by_mark else name for name in values]
        if not values:
            return parts, [{} for _ in self.pieces]
        return parts, [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]

    def shared_columns(
        self, mark: Callable[[str], str], *risky: str, prefix: str = "sw"
    ) -> tuple[dict[str, str], dict[str, Sequence[str]]]:
        """Own content for an ESP that fills in values: its parts with marks, and everybody's values for each mark.

        `mark("swh0")` is what the ESP replaces by the value swh0; `risky` is what it would take for a mark.
        """
        merge = self.pieces[0].merge
        parts, values = merge.skeletons(mark, prefix, risky) if merge is not None else ({}, {})
        if self._is_whole(merge):
            return parts, values
        return parts, {name: [column[piece.row] for piece in self.pieces] for name, column in values.items()}

    # ── by columns, for `columns.rows` ───────────────────────────────────────────────────────────────────────────
    def bodies(self, names: Mapping[str, str]) -> dict[str, Column]:
        """Own content in full, its parts under the names the ESP has for them; empty parts left out."""
        merge = self.pieces[0].merge
        written = {names[part]: merge.written(part) for part in merge.patterns} if merge is not None else {}
        filled = {name: column for name, column in written.items() if not column.is_empty}
        if self._is_whole(merge):
            return filled
        rows = [piece.row for piece in self.pieces]
        return {name: column.of(rows) for name, column in filled.items()}

    @property
    def addresses(self) -> Column:
        return columns.texts([piece.address for piece in self.pieces])

    @property
    def tokens(self) -> Column:
        return columns.texts([piece.token for piece in self.pieces])

    @property
    def fields(self) -> Column:
        """Each person's fields, for a template of the ESP's."""
        return columns.anything(piece.fields for piece in self.pieces)

    @property
    def links(self) -> Column | None:
        """Their unsubscribe links in angle brackets (RFC 2369), None without."""
        return columns.texts([p.link for p in self.pieces], before="<", after=">") if self.pieces[0].link else None

    @property
    def list_headers(self) -> dict[str, Column | str]:
        """As `Piece.list_headers`."""
        links = self.links
        return {"List-Unsubscribe": links, "List-Unsubscribe-Post": ONE_CLICK} if links is not None else {}

    def each(self, document: Any) -> Ready:
        """The JSON list of the document for each person, its columns filled in."""
        return columns.listed(columns.rows(document, len(self.pieces)))

    def _is_whole(self, merge: Merge | None) -> bool:
        return merge is None or merge.count == len(self.pieces)

    @property
    def tags(self) -> list[str]:
        """Campaign and wave, in letters every ESP takes."""
        return [_plain_name(self.submission.message.campaign), f"wave-{self.submission.wave}"]

    def answer(
        self, index: int, kind: EventType, text: str, meaning: tuple[Permanence, Cause] | None = None
    ) -> PerRecipient:
        """What the ESP said at hand-over about one person (position in the submission)."""
        people, reply = self.submission.recipients, take_apart(text)
        permanence, cause = meaning or classify(*reply)
        return PerRecipient(
            index,
            Event(
                kind,
                self.submission.now,
                permanence,
                cause,
                token=people.tokens[index],
                recipient=people.addresses[index],
                enhanced_code=reply.enhanced,
                description=reply.text or kind.value,
            ),
        )


@lru_cache(maxsize=1_000)
def _plain_name(campaign: str) -> str:
    """Asked for every message."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in campaign)


def is_plain(values: Mapping[str, str]) -> bool:
    """Whether these values can be filled in by an ESP that may escape them or not: nobody could tell."""
    return MARKUP.search("\0".join(values.values())) is None


def all_plain(values: Iterable[Sequence[str]], count: int) -> list[bool]:
    """`is_plain` for each of `count` people, of columns."""
    marked = [column for column in values if MARKUP.search("\0".join(column))]
    if not marked:
        return [True] * count
    return [MARKUP.search("\0".join(row)) is None for row in zip(*marked, strict=True)]


class Desk:
    """Takes batches apart; compiles content once, and again when its files change. Safe for several threads."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._cache: dict[tuple[str, str], tuple[object, Content]] = {}
        self._lock = threading.Lock()

    def open(self, submission: Submission, addressing: Addressing = MAIL) -> Mailing:
        """Fill in everybody's content. Raises Permanent for a sender, content or template that cannot be used."""
        message = submission.message
        sender = addressing.sender(message.sender)
        reply_to = named_address("reply_to", message.reply_to) if message.reply_to else None
        content = None if message.provider_template else self._content(message.content, message.subject)
        empty = Mailing(submission, sender, reply_to, message.provider_template, (), ())
        addresses, refused = _addressed(empty, addressing)
        columns = _columns(submission, addresses)
        merge = content.merge(columns, len(addresses)) if content else None
        failures = merge.failures if merge else {}
        told = zip(addresses, columns["email"], columns["token"], columns["unsubscribe_url"], strict=True)
        pieces = [
            Piece(index, address, token, link, columns, row, merge)
            for row, (index, address, token, link) in enumerate(told)
            if row not in failures
        ]
        for row, wrong in failures.items():
            refused.append(empty.answer(list(addresses)[row], EventType.FAIL, _not_made(wrong), _BAD))
        return Mailing(submission, sender, reply_to, message.provider_template, pieces, refused)

    def _content(self, folder: str | None, subject: str) -> Content:
        if folder is None:
            raise Permanent("the campaign has neither `content` (a folder with body.txt or body.html) nor a template")
        path, key = self._home / folder, (folder, subject)
        with self._lock:
            seen = stamp(path)
            cached = self._cache.get(key)
            if cached is None or cached[0] != seen:
                try:
                    cached = self._cache[key] = (seen, Content(path, subject))
                except BadInput as wrong:
                    raise Permanent(str(wrong)) from wrong
            return cached[1]


def _addressed(mailing: Mailing, addressing: Addressing) -> tuple[dict[int, str], list[PerRecipient]]:
    """Addresses of those who have a usable one, by position, and what is said of the others."""
    if addressing.are_plain(mailing.submission.recipients.addresses):
        return dict(enumerate(mailing.submission.recipients.addresses)), []
    addresses: dict[int, str] = {}
    refused: list[PerRecipient] = []
    for index, written in enumerate(mailing.submission.recipients.addresses):
        try:
            addresses[index] = addressing.recipient(written)
        except BadAddress as wrong:
            refused.append(mailing.answer(index, EventType.BOUNCE, str(wrong), (Permanence.HARD, Cause.UNKNOWN_USER)))
    return addresses, refused


def _columns(submission: Submission, addresses: Mapping[int, str]) -> dict[str, Sequence[Any]]:
    """The fields of those people: what is known of them, and what every message has."""
    people, message = submission.recipients, submission.message
    everybody = len(addresses) == len(people)

    def chosen(values: Sequence[Any]) -> Sequence[Any]:
        return values if everybody else [values[index] for index in addresses]

    tokens = chosen(people.tokens)
    pattern = one_line(message.unsubscribe or "")
    return {name: chosen(values) for name, values in people.fields.items()} | {
        "email": list(addresses.values()),
        "token": tokens,
        "unsubscribe_url": [pattern.replace("{token}", token) for token in tokens],
        "campaign": [message.campaign] * len(tokens),
    }


def _not_made(wrong: Exception) -> str:
    if isinstance(wrong, FieldMissing):
        return f"no message could be made: {wrong}"
    return f"no message could be made: the template cannot be filled: {wrong}"
