"""The ESP itself: what becomes of a call. Knows no socket and no clock; `server` gives it requests and instants."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sendwave.simulator.base import UNANSWERED, Act, Mail, Provider, Reply, Request, Wrong
from sendwave.simulator.fates import Fate, Fates, chance
from sendwave.simulator.posting import Posting
from sendwave.simulator.scenario import ApiOutage, Scenario
from sendwave.simulator.truth import Truth

_DAY: Final = timedelta(days=1)
_BAD_GATEWAY: Final = Reply(502, "<html><body><h1>502 Bad Gateway</h1></body></html>", {"Content-Type": "text/html"})


@dataclass(frozen=True)
class _Remembered:
    """A call under an idempotency key."""

    digest: bytes
    reply: Reply
    until: datetime


class Service:
    """One account at one provider. Safe for several threads."""

    def __init__(self, provider: Provider, scenario: Scenario, *, hook: str = "") -> None:
        """`hook` is the URL events are posted to."""
        self.provider, self.scenario = provider, scenario
        self.truth = Truth()
        self.posting = Posting(provider, scenario, self.truth, url=hook)
        self._fates = Fates(scenario, provider.at_hand_over)
        self._lock = threading.Lock()
        self._began: datetime | None = None
        self._recent: deque[datetime] = deque()
        self._sent: deque[tuple[datetime, int]] = deque()
        self._attempts: Counter[bytes] = Counter()
        self._keys: dict[str, _Remembered] = {}
        self._mails = 0
        self._extra: list[tuple[datetime, datetime, str]] = []

    def mend(self, scenario: Scenario) -> None:
        """Go on with another scenario; what was decided stays."""
        with self._lock:
            self.scenario = scenario
            self._fates = Fates(scenario, self.provider.at_hand_over)
            self.posting.mend(scenario)

    def trouble(self, how: str, lasts: timedelta, now: datetime) -> None:
        """An outage from now on, of a kind of `ApiOutage.how`."""
        with self._lock:
            self._extra.append((now, now + lasts, how))

    def outage(self, now: datetime) -> str | None:
        """What kind of outage there is, None when the API is well."""
        for since, until, how in self._extra:
            if since <= now < until:
                return how
        if self._began is None:
            early = [o for o in self.scenario.calls.outages if not o.after]
            return early[0].how if early else None
        return next((o.how for o in self.scenario.calls.outages if self._is_on(o, self._began, now)), None)

    def _is_on(self, outage: ApiOutage, began: datetime, now: datetime) -> bool:
        since = began + outage.after
        return since <= now < since + outage.lasts

    def take(self, request: Request, now: datetime) -> Reply | None:
        """The answer to a call; None where none comes."""
        with self._lock:
            trouble = self.outage(now)
            self._began = self._began or now
            reply = self._reply(request, trouble, now)
        outcome = "no answer" if reply is None else "taken" if reply.status < 300 else f"answered {reply.status}"
        self.truth.count(self.truth.calls, outcome)
        return reply

    def _reply(self, request: Request, trouble: str | None, now: datetime) -> Reply | None:
        if trouble == "refused":
            return None
        try:
            key = self.provider.key_of(request)
            known = self._known(key, request, now)
            mails = [] if known else self.provider.read(request)
        except Wrong as wrong:
            return wrong.reply
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as odd:
            return Reply(400, {"message": f"malformed request: {type(odd).__name__}: {odd}"})
        refusal = known or self._refusal(request, trouble, len(mails), now)
        return refusal or self._taken(mails, key, request, trouble, now)

    def _taken(
        self, mails: Sequence[Mail], key: str | None, request: Request, trouble: str | None, now: datetime
    ) -> Reply | None:
        """The call is taken; what the caller hears of it is another matter."""
        calls = self.scenario.calls
        fates, reply = self._accept(mails, now)
        if key is not None and self.provider.key_life is not None:
            until = now + self.provider.key_life
            self._keys[key] = _Remembered(hashlib.blake2b(request.body).digest(), reply, until)
        mute = any(fate.verdict == UNANSWERED for fate in fates)
        if mute or trouble == "silent" or self._drawn(request, "silent", float(calls.unanswered)):
            return None
        if trouble == "broken" or self._drawn(request, "broken", float(calls.broken)):
            return _BAD_GATEWAY
        return reply

    def _known(self, key: str | None, request: Request, now: datetime) -> Reply | None:
        """The answer a call under this key had before."""
        known = self._keys.get(key) if key is not None else None
        if known is None or known.until <= now:
            return None
        same = known.digest == hashlib.blake2b(request.body).digest()
        return known.reply if same else self.provider.clash() or known.reply

    def _refusal(self, request: Request, trouble: str | None, mails: int, now: datetime) -> Reply | None:
        """Too fast, too much, or stopped by the ESP: nothing is taken."""
        if trouble == "paused":
            return self.provider.stopped()
        calls = self.scenario.calls
        self._attempts[self._digest(request)] += 1
        if calls.limit is not None:
            since = now - calls.limit.per
            while self._recent and self._recent[0] <= since:
                self._recent.popleft()
            if len(self._recent) >= calls.limit.calls:
                wait = (self._recent[0] - since).total_seconds()
                return self.provider.busy(wait if calls.limit.retry_after else None)
            self._recent.append(now)
        if self._drawn(request, "busy", float(calls.busy)):
            told = calls.retry_after
            return self.provider.busy(None if told is None else told.total_seconds())
        return self.provider.stopped() if self._is_over_quota(mails, now) else None

    def _is_over_quota(self, mails: int, now: datetime) -> bool:
        while self._sent and self._sent[0][0] <= now - _DAY:
            self._sent.popleft()
        quota = self.scenario.calls.quota
        return quota is not None and sum(n for _, n in self._sent) + mails > quota

    def _accept(self, mails: Sequence[Mail], now: datetime) -> tuple[list[Fate], Reply]:
        """Take the mails: note them, decide about them, and arrange that it is told."""
        named = []
        for mail in mails:
            self._mails += 1
            named.append(replace(mail, id=f"{self.scenario.seed}-{self._mails:08d}"))
        fates = self._fates.decide(named, now)
        for mail, fate in zip(named, fates, strict=True):
            if not fate.taken:
                self.truth.turned_away(mail, fate.verdict)
                continue
            acts = [Act(mail, kind, at, f"{mail.id}-{n}") for n, (kind, at) in enumerate(fate.acts)]
            self.truth.arrived(mail, [act.kind for act in acts])
            self.posting.schedule(acts, now)
        self._sent.append((now, sum(fate.taken for fate in fates)))
        verdicts = ["" if fate.taken else fate.verdict for fate in fates]
        return fates, self.provider.answer(named, verdicts)

    def _drawn(self, request: Request, about: str, share: float) -> bool:
        digest = self._digest(request)
        return share > 0 and chance(self.scenario.seed, about, digest.hex(), self._attempts[digest]) < share

    @staticmethod
    def _digest(request: Request) -> bytes:
        return hashlib.blake2b(request.body, digest_size=12).digest()

    def document(self, *, everybody: bool = False) -> dict[str, Any]:
        """The truth, and what still waits to be told."""
        about = {"provider": self.provider.name, "waiting": self.posting.waiting()}
        return about | self.truth.document(everybody=everybody)
