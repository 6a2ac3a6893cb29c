"""What becomes of each mail: drawn from the scenario's rates, or scripted by its address. The same every time."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sendwave.esp.base import Recipients
from sendwave.esp.simulated_world import AT_HAND_OVER, Kind, World
from sendwave.simulator.base import ACCEPTED, LATER, REFUSED, UNANSWERED, Mail
from sendwave.simulator.scenario import FAILURES, Scenario

_WAVE: Final = re.compile(r"(?:^|[:\-])w(?:ave-)?(\d+)(?=$|:)")
_SOON: Final = 2.0  # seconds until an ESP tells that it took a mail, or that it will not send it
_BACK: Final = 3600.0  # seconds until somebody who unsubscribed comes back, where the script says so


@dataclass
class Fate:
    """One mail's: what the ESP says at hand-over ("" when it takes it), and what happens later."""

    verdict: str = ""
    acts: list[tuple[str, datetime]] = field(default_factory=list)

    @property
    def taken(self) -> bool:
        """Whether the mail is the ESP's now: it will be sent, or was and nobody said so."""
        return self.verdict not in {REFUSED, LATER}


def chance(seed: int, *about: object) -> float:
    """A number in [0, 1) that belongs to what is named: the same in every run."""
    text = "|".join(map(str, (seed, *about)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


class Fates:
    """Decides, for the mails of one call at a time."""

    def __init__(self, scenario: Scenario, at_hand_over: frozenset[str]) -> None:
        """`at_hand_over`: verdicts the provider can give person by person."""
        self._scenario, self._at_hand_over = scenario, at_hand_over
        self._world = World(
            scenario=scenario.like,
            seed=scenario.seed,
            everybody=scenario.everybody,
            rates=scenario.rates,
            incidents=scenario.incidents,
            delays=scenario.delays,
            duplicates=0.0,
            disorder=0.0,
            loss=0.0,
        )

    def decide(self, mails: Sequence[Mail], now: datetime) -> list[Fate]:
        """One fate per mail, in their order."""
        fates = [Fate() for _ in mails]
        groups: dict[tuple[str, int], list[int]] = defaultdict(list)
        for place, mail in enumerate(mails):
            groups[_provider(mail.address), _wave(mail)].append(place)
        for (provider, wave), places in groups.items():
            self._decide([mails[p] for p in places], [fates[p] for p in places], provider, wave, now)
        return fates

    def _decide(self, mails: list[Mail], fates: list[Fate], provider: str, wave: int, now: datetime) -> None:
        people = Recipients(
            [mail.address for mail in mails],
            [mail.token for mail in mails],
            [mail.address for mail in mails],
            [self._scenario.tier(mail.address) for mail in mails],
        )
        batch = int(chance(0, mails[0].token or mails[0].address, len(mails)) * 2**48)
        outcome = self._world.draw(batch, people, provider, wave, now)
        for place, (mail, fate) in enumerate(zip(mails, fates, strict=True)):
            script = self._scenario.scripted(mail.address)
            if script is not None:
                self._play(script, outcome[:, place], fate, now)
            elif outcome[Kind.refused, place]:
                self._turn_away(fate, now)
            if fate.taken and not fate.acts:
                fate.acts.append((ACCEPTED, now + timedelta(seconds=_SOON)))
        drawn = self._world.fate(batch, outcome, now)
        for position, kind, at in zip(drawn.position.tolist(), drawn.kind.tolist(), drawn.at.tolist(), strict=True):
            fates[position].acts.append((Kind(kind).name, datetime.fromtimestamp(at, UTC)))

    def _play(self, script: Sequence[str], column: NDArray[np.bool_], fate: Fate, now: datetime) -> None:
        """Put a script into the person's column of the outcome."""
        column[:] = False
        column[Kind.delivered] = not FAILURES & set(script)
        for word in script:
            if word == REFUSED:
                self._turn_away(fate, now)
            elif word == LATER and LATER in self._at_hand_over:
                fate.verdict = LATER
            elif word == LATER:  # it cannot say so: it takes the mail, and the mailbox provider puts it off
                column[Kind.deferred] = column[Kind.delivered] = True
            elif word == UNANSWERED:
                fate.verdict = UNANSWERED
            elif word == "resubscribe":
                fate.acts += [(ACCEPTED, now + timedelta(seconds=_SOON)), (word, now + timedelta(seconds=_BACK))]
            elif word in Kind.__members__ and Kind[word] not in AT_HAND_OVER:
                column[Kind[word]] = True

    def _turn_away(self, fate: Fate, now: datetime) -> None:
        """On the ESP's suppression list: said at once, or by an event about a mail it seemed to take."""
        if REFUSED in self._at_hand_over:
            fate.verdict = REFUSED
        else:
            fate.acts.append((REFUSED, now + timedelta(seconds=_SOON)))


def _provider(address: str) -> str:
    """Who hosts the mailbox, by its domain: `orange` of `anne@orange.fr`."""
    labels = address.rpartition("@")[2].lower().split(".")
    return labels[-2] if len(labels) > 1 else labels[0]


def _wave(mail: Mail) -> int:
    """The wave a tag or Feedback-ID names (`wave-3`, `…:w3:…`), 1 without."""
    marks: list[Any] = [*mail.tags, mail.headers.get("Feedback-ID", "")]
    found = next((hit for mark in marks if (hit := _WAVE.search(str(mark)))), None)
    return int(found[1]) if found else 1
