"""The people of a batch, ready for an ESP that takes structured messages instead of mails.

Own content is rendered here for each person. An ESP that takes one content for all and a few values for each gets a
`skeleton`: the lines everybody shares, and a mark where lines differ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sendwave.errors import BadInput, Permanent
from sendwave.esp.base import PerRecipient, Submission
from sendwave.esp.content import Content, FieldMissing, Rendered, one_line, stamp
from sendwave.esp.letters import BadAddress, envelope_address, named_address
from sendwave.rules.bounces import classify, take_apart
from sendwave.rules.events import Cause, Event, EventType, Permanence

TOKEN: Final = "sendwave_token"
"""Name our token travels by in metadata, custom arguments and tags; Postmark allows 20 characters."""

ONE_CLICK: Final = "List-Unsubscribe=One-Click"
"""Value of List-Unsubscribe-Post (RFC 8058 §3.1)."""

_BAD: Final = (Permanence.UNKNOWN, Cause.OTHER)


@dataclass(frozen=True, slots=True)
class Piece:
    """One person of the batch. `rendered` is None with a template of the ESP's."""

    index: int  # position in the submission
    address: str
    token: str
    link: str  # their own unsubscribe link, "" without one
    fields: dict[str, Any]  # what is known of them, and what every message has
    rendered: Rendered | None

    @property
    def list_headers(self) -> dict[str, str]:
        """The one-click pair of RFC 8058, which Gmail and Yahoo ask of bulk senders; empty without a link."""
        if not self.link:
            return {}
        return {"List-Unsubscribe": f"<{one_line(self.link)}>", "List-Unsubscribe-Post": ONE_CLICK}


@dataclass(frozen=True, slots=True)
class Mailing:
    """A batch taken apart: who can be written to, who cannot and why."""

    submission: Submission
    sender: tuple[str, str]  # name, address
    reply_to: tuple[str, str] | None
    template: str | None  # the ESP's, then `rendered` is None everywhere
    pieces: Sequence[Piece]
    refused: Sequence[PerRecipient]

    @property
    def tags(self) -> list[str]:
        """Campaign and wave, in letters every ESP takes."""
        name = "".join(
            c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in self.submission.message.campaign
        )
        return [name, f"wave-{self.submission.wave}"]

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


class Desk:
    """Takes batches apart; compiles content once, and again when its files change. Safe for several threads."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._cache: dict[tuple[str, str], tuple[object, Content]] = {}
        self._lock = threading.Lock()

    def open(self, submission: Submission) -> Mailing:
        """Render everybody. Raises Permanent for a sender, content or template that cannot be used."""
        message = submission.message
        sender = named_address("sender", message.sender)
        reply_to = named_address("reply_to", message.reply_to) if message.reply_to else None
        content = None if message.provider_template else self._content(message.content, message.subject)
        empty = Mailing(submission, sender, reply_to, message.provider_template, (), ())
        pieces: list[Piece] = []
        refused: list[PerRecipient] = []
        for index in range(len(submission.recipients)):
            try:
                pieces.append(_piece(submission, index, content))
            except BadAddress as wrong:
                refused.append(empty.answer(index, EventType.BOUNCE, str(wrong), (Permanence.HARD, Cause.UNKNOWN_USER)))
            except FieldMissing as missing:
                refused.append(empty.answer(index, EventType.FAIL, f"no message could be made: {missing}", _BAD))
            except BadInput as wrong:
                refused.append(empty.answer(index, EventType.FAIL, f"no message could be made: {wrong}", _BAD))
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


def _piece(submission: Submission, index: int, content: Content | None) -> Piece:
    people, message = submission.recipients, submission.message
    address, token = envelope_address(people.addresses[index])[0], people.tokens[index]
    link = (message.unsubscribe or "").replace("{token}", token)
    known = {
        name: values[index]
        for name, values in people.fields.items()
        if values[index] is not None and values[index] != ""
    }
    known.update(email=address, token=token, unsubscribe_url=link, campaign=message.campaign)
    return Piece(index, address, token, link, known, content.render(known) if content else None)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """One text for all: `shared` with marks, and for each person the values of the marks."""

    shared: str
    names: Sequence[str]
    values: Sequence[Sequence[str]]  # a row per person, in the order of `names`


def skeleton(texts: Sequence[str], mark: Callable[[str], str], prefix: str, risky: str) -> Skeleton:
    """What all texts share, line by line. `mark("x0")` is written where the value x0 goes.

    A shared line that contains `risky`, which the ESP would take for a mark, is given as a value too. Texts of unequal
    length share their beginning and their end.
    """
    rows = [text.splitlines(keepends=True) for text in texts]
    if len({len(row) for row in rows}) == 1:
        columns = list(zip(*rows, strict=True))
    else:
        head = _agreeing(rows)
        tail = _agreeing([row[head:][::-1] for row in rows])
        rows = [[*row[:head], "".join(row[head : len(row) - tail]), *row[len(row) - tail :]] for row in rows]
        columns = list(zip(*rows, strict=True))
    shared: list[str] = []
    names: list[str] = []
    values: list[Sequence[str]] = []
    for column in columns:
        if risky not in column[0] and column.count(column[0]) == len(column):
            shared.append(column[0])
            continue
        names.append(f"{prefix}{len(names)}")
        shared.append(mark(names[-1]))
        values.append(column)
    people = list(zip(*values, strict=True)) if values else [()] * len(texts)
    return Skeleton("".join(shared), names, people)


def _agreeing(rows: Sequence[Sequence[str]]) -> int:
    """How many lines from the start are the same in all of them."""
    return next((n for n, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), min(map(len, rows)))
