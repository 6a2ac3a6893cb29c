"""What the store knows of the health of a set-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from sendwave.engine.datasets import Lake
from sendwave.rules import health
from sendwave.rules.health import Finding
from sendwave.rules.policy import PolicySet
from sendwave.settings import Settings
from sendwave.store import campaigns, feeds, files, holds, inbox, unknowns
from sendwave.store.database import Connection, Database


class SetUp(Protocol):
    """An opened workspace, each part made when first asked for."""

    @property
    def home(self) -> Path: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def db(self) -> Database: ...

    @property
    def lake(self) -> Lake: ...

    def read_policy(self) -> PolicySet:
        """The policy files, afresh. Raises BadInput."""
        ...

    def check_doors(self) -> None:
        """CRMs and channels of alerts. Raises NotFound, BadInput."""
        ...

    def daemons(self, now: datetime) -> Sequence[str]:
        """Who sends for this workspace."""
        ...


def asked(setup: SetUp, look: Look, now: datetime) -> list[Finding]:
    """One of `KNOWN`, on a consistent view of the store."""
    with setup.db.read() as connection:
        return list(look(connection, setup, now))


def _daemon(connection: Connection, setup: SetUp, now: datetime) -> Iterator[Finding]:
    yield health.daemon(setup.daemons(now), [one.status for one in campaigns.listing(connection)])


def _files(connection: Connection, setup: SetUp, _now: datetime) -> Iterator[Finding]:
    listed = files.present(connection)
    yield health.registered(len(listed), setup.lake.missing([one.path for one in listed]))


def _feeds(connection: Connection, setup: SetUp, _now: datetime) -> Iterator[Finding]:
    heard = {one.route: one for one in feeds.listing(connection)}
    for route in {**dict.fromkeys(setup.settings.routes), **dict.fromkeys(heard)}:
        one = heard.get(route, feeds.Feed(route, None, None, {}, 0))
        yield health.feed(route, one.last_received_at, one.unmatched, one.unknown_words)


def _inbox(connection: Connection, _setup: SetUp, now: datetime) -> Iterator[Finding]:
    yield health.inbox(*inbox.backlog(connection), now)


def _holds(connection: Connection, _setup: SetUp, now: datetime) -> Iterator[Finding]:
    names = {one.id: one.name for one in campaigns.listing(connection)}
    yield health.holds(holds.open_holds(connection), names, now)


def _campaigns(connection: Connection, _setup: SetUp, _now: datetime) -> Iterator[Finding]:
    for one in campaigns.listing(connection):
        if (finding := health.campaign(one.name, one.status)) is not None:
            yield finding


def _unknown(connection: Connection, _setup: SetUp, _now: datetime) -> Iterator[Finding]:
    people = {}
    for campaign in unknowns.campaign_ids(connection):
        doubts = unknowns.read(connection, campaign)
        name = campaigns.by_id(connection, campaign).name
        people[name] = sum(len(one.unknown) for one in doubts if one.undecided)
    yield health.unknown(people)


def _score(connection: Connection, _setup: SetUp, now: datetime) -> Iterator[Finding]:
    listed = files.live(connection, ["scores"])["scores"]
    instants = [
        datetime.fromtimestamp(one.details["as_of"], UTC) if "as_of" in one.details else one.registered_at
        for one in listed
    ]
    yield health.score(max(instants, default=None), now)


Look = Callable[[Connection, SetUp, datetime], Iterable[Finding]]

KNOWN: Final[dict[str, Look]] = {
    "daemon": _daemon,
    "lake files": _files,
    "feeds": _feeds,
    "inbox": _inbox,
    "holds": _holds,
    "campaigns": _campaigns,
    "unknown people": _unknown,
    "score": _score,
}
"""Checks that ask the store."""
