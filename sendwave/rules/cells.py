"""What a gate looks at: mail and what came back of it, as one cell per signal and scope.

The numerator and the denominator of every rate are put together here and nowhere else; `rules/signals.py` says of what.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sendwave.rules.gates import FEED, Cell, Cohort
from sendwave.rules.signals import ANSWERS, Exposure, Signal, Tally


@dataclass(frozen=True, slots=True)
class Mail:
    """Messages of one wave and lane that left in the same minute, and the recipients each tally counts."""

    wave: int
    provider: str
    sent_at: datetime
    accepted: int
    refused: int  # at hand-over
    tallies: Mapping[str, int]

    @property
    def handed_over(self) -> int:
        """All that reached the ESP."""
        return self.accepted + self.refused


@dataclass(frozen=True, slots=True)
class Handed:
    """One batch as the ledger and the tallies know it."""

    wave: int
    provider: str
    handed_at: datetime
    accepted: int
    refused: int
    unknown: int
    tallies: Mapping[str, int]


def gather(batches: Iterable[Handed], now: datetime) -> list[Mail]:
    """Batches as mail per wave, lane and span of time, in that order.

    A span is a minute for what left in the last hour and a 64th of the age, at most, before that: delay curves are
    linear in the logarithm of the age, and a campaign of days stays a few hundred rows per lane. People of unknown fate
    count as accepted once anything came back of their batch: it did arrive then.
    """
    accepted: dict[tuple[int, str, int], int] = defaultdict(int)
    refused: dict[tuple[int, str, int], int] = defaultdict(int)
    counts: dict[tuple[int, str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for batch in batches:
        key = (batch.wave, batch.provider, _span(batch.handed_at, now))
        accepted[key] += batch.accepted + (batch.unknown if any(batch.tallies.values()) else 0)
        refused[key] += batch.refused
        for tally, n in batch.tallies.items():
            counts[key][tally] += n
    return [
        Mail(key[0], key[1], datetime.fromtimestamp(key[2] * 60, UTC), accepted[key], refused[key], counts[key])
        for key in sorted(accepted)
    ]


def _span(sent_at: datetime, now: datetime) -> int:
    """The first minute (since 1970) of the span an instant falls into."""
    minute = int(sent_at.timestamp()) // 60
    age = int(now.timestamp()) // 60 - minute
    width = 1 << max(age.bit_length() - 6, 0) if age > 0 else 1
    return minute - minute % width


def cell(
    mail: Iterable[Mail], signal: Signal, *, wave: int = 0, provider: str = "", mute: Collection[str] = ()
) -> Cell:
    """The cell of a signal over this mail, which is of that wave and provider already (0, '': of any).

    Lanes in `mute` report no complaints: they leave both sides of a rate over lanes that do.
    """
    reported = signal.exposure is Exposure.REPORTED
    cohorts = [
        Cohort(one.sent_at, _exposed(one, signal), sum(one.tallies.get(tally, 0) for tally in signal.tallies))
        for one in mail
        if not (reported and one.provider in mute)
    ]
    return Cell(signal.name, wave, provider, tuple(cohorts))


def feed(mail: Iterable[Mail], *, wave: int = 0) -> Cell:
    """The cell of the feed itself: accepted messages, and those of them that were answered in any way."""
    return Cell(
        FEED,
        wave,
        "",
        tuple(
            Cohort(one.sent_at, one.accepted, min(one.accepted, sum(one.tallies.get(tally, 0) for tally in ANSWERS)))
            for one in mail
        ),
    )


def _exposed(mail: Mail, signal: Signal) -> int:
    if signal.exposure is Exposure.HANDED_OVER:
        return mail.handed_over
    return mail.tallies.get(Tally.DELIVERED, 0) if signal.exposure is Exposure.DELIVERED else mail.accepted
