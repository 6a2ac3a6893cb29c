"""Stopping: who must not be written to again, from what came back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from sendwave.errors import BadInput, NotFound
from sendwave.flow.feedback.reading import Read
from sendwave.rules import arrivals as rules
from sendwave.rules.arrivals import NOWHERE, WORDS, Arrivals
from sendwave.rules.policy import SERVICE
from sendwave.rules.signals import Scope, suppression_of
from sendwave.store import policies
from sendwave.store.database import Connection
from sendwave.store.suppressions import ALL, Suppression
from sendwave.store.tallies import Target


def stops(
    conn: Connection, read: Read, placed: Arrivals, targets: Mapping[int, Target]
) -> list[tuple[int, Suppression]]:
    """(row, suppression still without its address) for each event that must stop further mail."""
    purposes = Purposes(conn)
    found = []
    for row in np.flatnonzero(rules.MAY_STOP[placed.tally]).tolist():
        target = targets[int(placed.batch[row])]
        since = datetime.fromtimestamp(int(min(placed.at[row], placed.received[row])), UTC)
        stop = suppression_of(WORDS[placed.tally[row]], read.events[int(placed.event[row])].cause)
        if stop is not None:
            reason, scope = stop
            word = purposes.of(target) if scope is Scope.PURPOSE else ALL
            found.append((row, Suppression("", target.channel, word, reason, since)))
    return found


def stopped(
    read: Read,
    placed: Arrivals,
    stops: Sequence[tuple[int, Suppression]],
    hashes: Mapping[int, str],
    lost: Arrivals,
) -> dict[str, list[Suppression]]:
    """Suppressions by route, each with its address: that of the person we wrote to, else the one reported."""
    found: dict[str, list[Suppression]] = defaultdict(list)
    for row, stop in stops:
        index = int(placed.event[row])
        address = hashes.get(row) or rules.address_hash(read.events[index])
        if address is not None:
            found[read.report(index).route].append(stop._replace(address_hash=address))
    for row in np.flatnonzero(rules.MAY_STOP[lost.tally] & (lost.batch == NOWHERE)).tolist():
        index = int(lost.event[row])
        event = read.events[index]
        stop_word, address = suppression_of(WORDS[lost.tally[row]], event.cause), rules.address_hash(event)
        if stop_word is not None and address is not None:
            since = datetime.fromtimestamp(int(min(lost.at[row], lost.received[row])), UTC)
            channel = rules.channel_of(event)
            found[read.report(index).route].append(Suppression(address, channel, ALL, stop_word[0], since))
    return found


@dataclass(frozen=True, slots=True)
class Purposes:
    """What a person who unsubscribes from a campaign no longer wants: its purpose, or everything when in doubt."""

    conn: Connection
    known: dict[tuple[str | None, str], str] = field(default_factory=dict)

    def of(self, target: Target) -> str:
        """The scope of an unsubscribe."""
        key = (target.policy_version, target.type)
        if key not in self.known:
            self.known[key] = self._look(target)
        return self.known[key]

    def _look(self, target: Target) -> str:
        try:
            purpose = policies.pinned(self.conn, target.policy_version or "").types[target.type].purpose
        except (NotFound, BadInput, KeyError):
            return ALL
        return ALL if purpose == SERVICE else purpose
