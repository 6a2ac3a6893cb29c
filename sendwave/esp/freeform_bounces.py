"""Bounces in nobody's format: what servers older than RFC 3464, or careless of it, say in plain words.

Read as a person would: the text above the returned mail, the addresses that stand out in it, and what is said next to
each. Nothing here is about one server alone; the wordings' meaning is in rules/bounces.toml.
"""

from __future__ import annotations

import email
import html
import re
from collections.abc import Iterable, Sequence
from email.message import Message
from typing import Final, NamedTuple

_LONGEST: Final = 60_000  # characters of text that are read
_ADDRESS: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@(?:[\w-]{1,63}\.){1,10}[\w-]{2,63}")
_X400: Final = re.compile(r"^.*?(?:smtp|rfc822)[=:]", re.IGNORECASE)

# Where the returned mail begins, in the languages servers speak.
_RETURNED: Final = re.compile(
    r"^[\W_]{0,60}(?:here is |this is |below is |attached is |enclosed is |start of |beginning of )?"
    r"(?:(?:a |the |an )?(?:copy|header|headers|first|top|content|text|body)\b.{0,60}\b(?:message|mail|headers|lines)\b"
    r"|(?:the |your )?(?:original|returned|undelivered|unsent|old|rejected|bounced|failed) "
    r"(?:message|mail|e-?mail|header|headers)\b(?! (?:was |could |cannot |has |is |details|not |from |to )[^f])"
    r"|below (?:this|the) (?:next )?line|(?:message|mail) (?:header|headers|text|body|follows)\b"
    r"|your message reads|this is a copy|the (?:message )?headers? (?:and|of)"
    r"|mensaje original|mensagem original|messaggio originale|message d.origine|message original|texte original"
    r"|urspr.{1,2}ngliche (?:nachricht|e-?mail)|kopfzeilen|原文|original-?nachricht|копия)",
    re.IGNORECASE,
)
_HEADER: Final = re.compile(r"^>?(?:Received|Return-Path|Message-I[dD]|DKIM-Signature|X-Sendwave-Token):\s*\S")
_FIELD: Final = re.compile(r"^>?[!-9;-~]{2,60}:|^\s+\S")
_FIRST: Final = re.compile(r"^>?(?:Received|Return-Path|Message-I[dD]|From|To|Date|Subject|X-[\w-]+|\w+-Signature)\s*:")

# An address that stands for itself: at the start of a line, with at most a label before and a remark after.
_ALONE: Final = re.compile(
    r"^[\s\W]{0,20}(?:(?:final|original|failed|intended|undeliverable|unknown|bad|invalid|error-?)?[- ]?"
    r"(?:recipients?|address|addressee|user|for|smtp|local user|mailbox|delivery failed|empf\w+|destinata\w+)"
    r"[^@:]{0,30}?[:=]\s*(?:rfc822\s*;)?)?"
    r"[\s\W]{0,8}(?:smtp[:%])?[<\"'(\[]{0,3}(?P<address>" + _ADDRESS.pattern + r")",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(
    r"(?:\b(?:rcpt to|to|for|user|recipients?|address|mailbox|addressed to|account|expanded from|generated from|"
    r"destinataire|destinatario|an|Empf[äa]nger|dda:smtp|failed)\b[:= ]{0,3}|\b(?:failed|attempts|undeliverable)\b"
    r".{0,20}?|宛先.{0,6}?)[<\"'\s(]{0,4}(?<![\w.+-])(?P<address>" + _ADDRESS.pattern + r")",
    re.IGNORECASE,
)
_NOT_THEM: Final = re.compile(
    r"\b(?:from|sender|contact|please|support|help|visit|(?<!in )reply|helpdesk|administrat\w*|questions?|abuse|"
    r"received|return-path|originator|absender|exp[ée]diteur|remitente|message-id|assistance|mail from)\b|https?:",
    re.IGNORECASE,
)
_LINK: Final = re.compile(r"<mailto:[^<>]{0,300}>", re.IGNORECASE)
_FORWARDED: Final = re.compile(r"(?:expanded|generated) from", re.IGNORECASE)
_STAFF: Final = re.compile(r"^(?:mailer-?daemon|postmaster|mdaemon|abuse|hostmaster|postmaestro)@", re.IGNORECASE)

_FAILURE: Final = re.compile(
    r"undeliver|(?:not|n.t|never|unable to|impossible to|cannot|could not|fail\w*)\b.{0,60}\b(?:be )?(?:deliver|reach|"
    r"accept|receiv|sent\b|send\b)|deliver\w*.{0,40}(?:fail|error|problem|impossible|delay|unsuccess|abort|warning|"
    r"postponed|notification|report|status)|(?:returned|failed|rejected|bounced|undelivered) (?:e-?)?mail|"
    r"(?:e-?mail|message|mail)\b.{0,40}(?:returned|rejected|bounced|failed|failure|error)|failure notice|bounce|"
    r"non.?(?:remis|distribu|d[ée]livr|deliver|recapit|entreg)|unzustellbar|nicht zugestellt|zustellung|"
    r"(?:no|n[ãa]o) (?:se )?(?:pudo|puede|pode|p[ôo]de|h[ae]n? (?:podido|sido)|f(?:ue|oi)).{0,40}(?:entreg|enviad)|"
    r"pas (?:encore )?(?:pu )?(?:[êe]tre |[ée]t[ée] )(?:remis|distribu|d[ée]livr|achemin|livr|envoy)|"
    r"impossible de (?:remettre|d[ée]livrer|distribuer)|"
    r"(?:konnte|kann) .{0,60}nicht .{0,40}(?:zugestellt|[üu]bermittelt|gesendet|ausgeliefert)|"
    r"(?:mancat[ao]|impossibile|non .{0,30}possibile) (?:.{0,12}(?:recapit|consegn))|"
    r"[ée]chec|无法.{0,12}[送投发]|メール.{0,2}エラー|配信|届け|送信でき|不达|退信|"
    r"n[ãa]o (?:foi poss[íi]vel )?entreg|niet (?:worden )?(?:afgeleverd|bezorgd)|(?:kunne|kunde) (?:ikke|inte) levere|"
    r"nie (?:został\w* )?dostarczon|nedoručen|nelze doručit|iletilemedi|nem (?:sikerült )?kézbesít|"
    r"не (?:доставлен|может быть)|недоставлен|(?:trouble|error) (?:deliver|send)|"
    r"user unknown|unknown user|no such user|doesn.t have an? \S+ account|mailbox is full|quota exceeded|"
    r"did not reach|delayed|no longer valid|unknown (?:address|recipient)|invalid recipient|could not be delivered",
    re.IGNORECASE,
)
_LATER: Final = re.compile(
    r"has been delayed|\b(?:delayed|postponed)\b|not yet (?:been )?delivered|hasn.t been delivered yet|"
    r"warning message only|(?:will|would) (?:be retried|continue (?:to (?:try|attempt)|trying|for)|keep trying|"
    r"try again|retry)|attempts will continue|still (?:trying|being tried)|(?:just|only) a warning|advisory.only|"
    r"delivery delay|temporary problem|verz[öo]ger|retard[ée]e?\b|retraso|in ritardo|no action is required|"
    r"\(delay\)|遅延|noch nicht (?:zugestellt|ausgeliefert)|pas encore (?:[ée]t[ée] )?(?:remis|distribu|d[ée]livr)|"
    r"retrasad|a[úu]n no se ha|non .{0,12}ancora .{0,12}(?:recapit|consegn)|vertraagd",
    re.IGNORECASE,
)
_FINAL: Final = re.compile(
    r"permanent|fatal|giv(?:en|ing) up|gave up|no longer be (?:tried|retried)|will not be retried|has been (?:removed|"
    r"returned)|not going to try|too long|aborted|could not be delivered for|failed after",
    re.IGNORECASE,
)


_REPLY: Final = re.compile(r"(?<![\w.])(?:[45]\d\d(?=[ -](?!\d))|#?[45]\.\d{1,2}\.\d{1,3}\b)")
_WORD: Final = re.compile(r"[^\W\d_]{3}")


class Said(NamedTuple):
    """What is said of one recipient, the most particular first."""

    recipient: str | None
    texts: Sequence[str]


class Prose(NamedTuple):
    """A bounce's own words, line by line, and the header of the mail returned below them, if any."""

    lines: Sequence[str]
    returned: Message | None

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def read(texts: Iterable[tuple[str, bool]]) -> Prose:
    """The words of the text parts, `(text, is_html)` each, without the returned mail pasted below them."""
    lines: list[str] = []
    returned = None
    for text, is_html in texts:
        found = (_plain(text[:_LONGEST]) if is_html else text[:_LONGEST]).splitlines()
        found = [_LINK.sub("", line) for line in found]
        end = _end(found)
        lines += [line.rstrip() for line in found[:end]]
        returned = returned or _header(found[end:])
    return Prose(lines, returned)


def is_failure(text: str) -> bool:
    """Whether words like these tell of mail that did not arrive."""
    return bool(_FAILURE.search(text))


def is_delay(subject: str, text: str) -> bool:
    """Whether they will go on trying: a delay is no bounce."""
    said = f"{subject}\n{text[:4_000]}"
    return bool(_LATER.search(said)) and not _FINAL.search(said)


def recipients(prose: Prose, known: Sequence[str], ours: Iterable[str]) -> list[Said]:
    """Whom it is about and what is said of each. `known` are named in the header; `ours` are never recipients."""
    if known:
        lines = [line.lower() for line in prose.lines]
        places = [
            (address, next((n for n, line in enumerate(lines) if address.lower() in line), -1))
            for address in dict.fromkeys(known)
        ]
    else:
        places = _places(prose.lines, {address.lower() for address in ours})
    starts = sorted({line for _, line in places if line >= 0})
    return [Said(address, _near(prose.lines, line, starts)) for address, line in places]


def nobody(prose: Prose) -> Said:
    """What is said where no recipient is named."""
    return Said(None, _near(prose.lines, -1, ()))


def _plain(text: str) -> str:
    """What an HTML page says."""
    text = re.sub(r"(?is)<(style|script|title|head)\b.*?(?:</\1\s*>|\Z)", " ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?i)<(?:br|/?p|/?div|/?tr|/?li|/?h\d|hr|/?table|/?pre)\b[^>]{0,2000}>", "\n", text)
    text = re.sub(r"<(?!" + _ADDRESS.pattern + r">)[^>]{1,5000}>", " ", text)
    return html.unescape(text).replace("\xa0", " ")


def _end(lines: Sequence[str]) -> int:
    """Where the returned mail begins."""
    for number, line in enumerate(lines):
        if _RETURNED.match(line) and len(line) < 200:
            return number
        if _HEADER.match(line) and all(_FIELD.match(after) for after in lines[number + 1 : number + 3]):
            return number
    return len(lines)


def _header(lines: Sequence[str]) -> Message | None:
    """The first header among these lines."""
    start = next((n for n, line in enumerate(lines) if _FIRST.match(line)), None)
    if start is None:
        return None
    block = []
    for line in lines[start:]:
        if not _FIELD.match(line):
            break
        block.append(line.removeprefix(">"))
    found = email.message_from_string("\n".join(block))
    return found if "Message-ID" in found or "To" in found or "From" in found else None


def _places(lines: Sequence[str], own: set[str]) -> list[tuple[str, int]]:
    """The recipients and the line each stands in: those that stand alone, else those that are named, else any."""
    for pattern in (_ALONE, _NAMED, _ADDRESS):
        found: dict[str, int] = {}
        for number, line in enumerate(lines):
            if _NOT_THEM.search(_FORWARDED.sub("", _ADDRESS.sub("", line))):
                continue
            matches = [pattern.match(line)] if pattern is _ALONE else list(pattern.finditer(line[:2_000]))
            for match in filter(None, matches):
                address = clean(match["address"] if pattern is not _ADDRESS else match[0])
                if address and address.lower() not in own and not _STAFF.match(address):
                    found.setdefault(address, number)
        if found:
            seen: dict[str, tuple[str, int]] = {}
            for address, number in found.items():
                seen.setdefault(address.lower(), (address, number))
            return list(seen.values())
    return []


def clean(address: str) -> str | None:
    """The address without what servers glue to it: X.400 types, dots of an ellipsis, quotes."""
    address = _X400.sub("", address).strip("'\"`|=*.").rstrip(".")
    return address if _ADDRESS.fullmatch(address) else None


def _near(lines: Sequence[str], start: int, starts: Sequence[int]) -> tuple[str, ...]:
    """What is said of the one in line `start`, the most particular first: replies, their paragraph, everything."""
    if start < 0:
        start, starts = 0, ()
    end = next((line for line in starts if line > start), len(lines))
    own = lines[start:end]
    replies = [line for line in own if _REPLY.search(line)]
    paragraph = _paragraph(own)
    everything = [*own, *lines[: starts[0]]] if len(starts) > 1 else lines
    found = (" ".join(replies[:4]), " ".join(paragraph), " ".join(everything))
    return tuple(dict.fromkeys(" ".join(text.split()) for text in found if text.strip()))


def _paragraph(lines: Sequence[str]) -> Sequence[str]:
    """These lines up to the first empty one after something was said."""
    for number, line in enumerate(lines):
        if number > 1 and not line.strip() and any(_WORD.search(_ADDRESS.sub("", one)) for one in lines[1:number]):
            return lines[:number]
    return lines[:12]
