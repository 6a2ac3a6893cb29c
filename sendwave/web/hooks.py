"""Webhooks: believe a request, make it durable, and answer so that its ESP does the right thing.

Nothing is worked out here: what a report means is found later, from the raw body. An ESP that is told 2xx forgets the
events, so that is said only after the commit; whatever else goes wrong on our side is said in the code that makes this
ESP send them again (`Answers`), never as a 500.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, cast

import httpx

from sendwave import log
from sendwave.clock import Clock
from sendwave.errors import BadInput
from sendwave.esp import hooks as reading
from sendwave.esp.base import Answers, EspAdapter, RawReport, WebhookAdapter, WebRequest

_LOG: Final = log.get("web")

REMEMBERED: Final = 100_000
"""Signed requests remembered per route, to refuse one that is sent again; past their age the signature is refused."""

QUIET: Final = timedelta(minutes=1)
"""A reason to refuse is logged once in so long per route: a flood of forgeries must not become a flood of logs."""

_PRIVATE: Final = frozenset({"authorization", "cookie", "proxy-authorization", "host", "connection", "content-length"})
"""Headers that are not kept with a report: secrets, and what only this connection was about."""

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
_NO_JSON: Final = (*_FORMS, "text/html", "application/xml", "text/xml")
_CONFIRM_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: status, and a sentence for whoever looks at the ESP's log of failed webhooks."""

    status: int
    text: str
    retry_after: int | None = None  # seconds


class Visitor:
    """Visits the URL of a subscription that wants to be confirmed; its pattern was checked by the adapter."""

    def visit(self, url: str) -> None:
        """Raises httpx.HTTPError unless the answer is 2xx."""
        httpx.get(url, timeout=_CONFIRM_SECONDS, follow_redirects=False).raise_for_status()


@dataclass
class Door:
    """The webhook of one route. Safe for several threads."""

    route: str
    adapter: WebhookAdapter
    clock: Clock
    visitor: Visitor = field(default_factory=Visitor)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._told: dict[str, datetime] = {}
        self._lock = threading.Lock()

    @property
    def answers(self) -> Answers:
        """The statuses this ESP understands."""
        return self.adapter.answers

    def examine(self, request: WebRequest) -> Said | None:
        """None when the request is to be stored, else what is said instead. Waits for the network only for a new
        certificate or a subscription to confirm.
        """
        if (refused := self._wrong_kind(request)) is not None:
            return refused
        refusal = self.adapter.verify(request, self.clock.now())
        if refusal is not None and refusal.unset:  # ours to mend, and no fault of the events
            return self.down(refusal.reason)
        if refusal is not None:
            return self._refuse(refusal.status, refusal.reason)
        if not self.answers.form and not self.adapter.seals(request):
            try:
                reading.read_json(request.body, of=self.adapter.name)
            except BadInput as wrong:
                return self._refuse(self.answers.not_ours, str(wrong))
        return self._repeated(request) or self._confirm(request)

    def stored(self, request: WebRequest) -> Said:
        """The answer once the report is durable; a second copy of the same signed request will be known."""
        nonce = self._nonce(request)
        with self._lock:
            self.counts["stored"] += 1
            if nonce is not None:
                self._known[nonce] = None
                while len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
        return Said(self.answers.stored, "stored")

    def down(self, reason: str) -> Said:
        """Our fault: the ESP must send it again."""
        self._note("down", reason)
        return Said(self.answers.store_down, f"not stored, send it again: {reason}", retry_after=60)

    def too_long(self, limit: int) -> Said:
        """A body nobody will read to its end."""
        return self._refuse(413, f"the body is longer than {limit:,} bytes (web.max_body in sendwave.yaml)")

    def _wrong_kind(self, request: WebRequest) -> Said | None:
        kind = request.content_type.partition(";")[0].strip().lower()
        if self.answers.form and kind and kind not in _FORMS:
            return self._refuse(415, f"this ESP reports in forms, not as {kind}")
        if not self.answers.form and kind in _NO_JSON:
            return self._refuse(415, f"this ESP reports in JSON, not as {kind}")
        if not request.body.strip():
            return self._refuse(self.answers.not_ours, "the body is empty")
        return None

    def _nonce(self, request: WebRequest) -> str | None:
        try:
            return self.adapter.nonce(request)
        except BadInput:
            return None

    def _repeated(self, request: WebRequest) -> Said | None:
        nonce = self._nonce(request)
        with self._lock:
            known = nonce is not None and nonce in self._known
        if not known:
            return None
        self._note("repeated", "a signed request was sent again")
        return Said(self.answers.repeated, "this very request is stored already; nothing was stored again")

    def _confirm(self, request: WebRequest) -> Said | None:
        try:
            url = self.adapter.confirmation(request)
            if url is not None:
                self.visitor.visit(url)
                _LOG.info("subscription_confirmed", route=self.route)
        except BadInput as wrong:
            return self._refuse(self.answers.not_ours, str(wrong))
        except httpx.HTTPError as fault:
            return self.down(f"the subscription could not be confirmed: {fault}")
        return None

    def _refuse(self, status: int, reason: str) -> Said:
        self._note("refused", reason)
        return Said(status, f"refused: {reason}")

    def _note(self, what: str, reason: str) -> None:
        now = self.clock.now()
        with self._lock:
            self.counts[what] += 1
            last = self._told.get(what)
            if last is not None and now - last < QUIET:
                return
            self._told[what] = now
        _LOG.warning(f"webhook_{what}", route=self.route, reason=reason, so_far=self.counts[what])


def door_of(route: str, adapter: EspAdapter, clock: Clock, visitor: Visitor) -> Door | None:
    """The webhook of a route; None where its ESP sends none."""
    told: Any = adapter
    if not hasattr(told, "verify"):
        return None
    return Door(route, cast("WebhookAdapter", told), clock, visitor)


def report_of(request: WebRequest) -> RawReport:
    """What is kept of a believed request."""
    kept = {name: value for name, value in request.headers.items() if name not in _PRIVATE}
    return RawReport(request.body, kept)
