"""What truly happened: who was written to and how often, what became of it, and what of that was told."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sendwave.simulator.base import Act, Mail


@dataclass
class Person:
    """One recipient of one message, by the caller's token, or by address where none travels."""

    address: str
    token: str
    subject: str = ""
    text: str = ""
    html: str = ""
    link: str = ""
    times: int = 0  # mails taken for them
    verdicts: list[str] = field(default_factory=list)  # what the answers said when it was not "taken"
    happened: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # of that, what a webhook got through, each once

    def document(self) -> dict[str, Any]:
        """Under stable names."""
        return dict(vars(self))


class Truth:
    """Everything since the start. Safe for several threads."""

    def __init__(self) -> None:
        self._people: dict[str, Person] = {}
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()  # by what was answered: `taken`, or `answered 429`, `no answer`
        self.posts: Counter[str] = Counter()  # webhooks by what came back: `stored`, `answered 503`, `no answer`
        self.foreign: Counter[str] = Counter()  # the same for forgeries and replays
        self._lost: set[tuple[str, str]] = set()  # person and kind of what will not come again

    def arrived(self, mail: Mail, acts: Iterable[str]) -> None:
        """A mail was taken, and this will become of it."""
        with self._lock:
            person = self._of(mail)
            person.times += 1
            person.subject, person.text, person.html, person.link = mail.subject, mail.text, mail.html, mail.link
            person.happened += [kind for kind in acts if kind not in person.happened]

    def turned_away(self, mail: Mail, verdict: str) -> None:
        """The answer said no, or not now."""
        with self._lock:
            self._of(mail).verdicts.append(verdict)

    def heard(self, acts: Iterable[Act]) -> None:
        """The caller's webhook took these events."""
        with self._lock:
            for act in acts:
                person = self._of(act.mail)
                if act.kind not in person.told:
                    person.told.append(act.kind)

    def lost(self, acts: Iterable[Act]) -> None:
        """Nobody will hear of these."""
        with self._lock:
            self._lost.update((_key(act.mail), act.kind) for act in acts)

    @property
    def given_up(self) -> Counter[str]:
        """Events by kind nobody heard of and nobody will: a second copy that was refused is no loss."""
        with self._lock:
            return Counter(kind for key, kind in self._lost if kind not in self._people[key].told)

    def count(self, what: Counter[str], key: str) -> None:
        """One more of it."""
        with self._lock:
            what[key] += 1

    def people(self) -> list[Person]:
        """Everybody somebody tried to write to, in the order of their first mail."""
        with self._lock:
            return list(self._people.values())

    def document(self, *, everybody: bool) -> dict[str, Any]:
        """The whole of it; without `everybody` the sums only."""
        people, given_up = self.people(), self.given_up
        found: dict[str, Any] = {
            "calls": dict(self.calls),
            "posts": dict(self.posts),
            "forged_or_replayed": dict(self.foreign),
            "given_up": dict(given_up),
            "written_to": sum(person.times > 0 for person in people),
            "more_than_once": sum(person.times > 1 for person in people),
            "happened": dict(Counter(kind for person in people for kind in person.happened)),
            "told": dict(Counter(kind for person in people for kind in person.told)),
        }
        return found | ({"people": [person.document() for person in people]} if everybody else {})

    def _of(self, mail: Mail) -> Person:
        return self._people.setdefault(_key(mail), Person(mail.address, mail.token))


def _key(mail: Mail) -> str:
    return mail.token or mail.address
