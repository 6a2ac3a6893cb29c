"""What is a warning and what a problem in the health of a set-up. A problem keeps mail, or word of it, from going on;
a warning will become one, or waits for a person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sendwave.rules.holds import Hold, Kind
from sendwave.rules.lifecycle import Campaign

ROOM: Final = 1 << 30
"""Bytes below which a disk is about to be full."""

SCORE_AGE: Final = timedelta(days=2)
"""A daily score that is older was missed at least once."""

READ_WITHIN: Final = timedelta(minutes=10)
"""A daemon reads reports within seconds; one that waited so long waits for a daemon."""

HELPFUL: Final = frozenset({"bounces", "sms"})
"""Extras that are only missed: odd bounce mails are read better, and national numbers at all."""

_SHOWN: Final = 5


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: how it ended, what was seen, and what to do next ('' where nothing is to do)."""

    check: str
    state: State
    detail: str
    next: str = ""


def well(check: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(check, State.OK, detail)


def warning(check: str, detail: str, then: str) -> Finding:
    """Worth a look."""
    return Finding(check, State.WARNING, detail, then)


def problem(check: str, detail: str, then: str) -> Finding:
    """Something that has to be put right."""
    return Finding(check, State.PROBLEM, detail, then)


def few(names: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    return "; ".join(names[:_SHOWN]) + (f"; and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


def disk(check: str, free: int) -> Finding:
    """Free bytes where store or lake lies."""
    told = f"{free / ROOM:,.1f} GiB free"
    return well(check, told) if free >= ROOM else warning(check, told, "free some room: less than 1 GiB is left")


def registered(count: int, missing: Sequence[str]) -> Finding:
    """Files of the lake that the store lists, and those of them that are not there."""
    if not missing:
        return well("lake files", f"all {count:,} there")
    told = f"{len(missing):,} of {count:,} are gone: {few(missing)}"
    return problem("lake files", told, "bring them back from a backup (`sendwave restore` checks one), or import again")


def daemon(holders: Sequence[str], statuses: Sequence[str]) -> Finding:
    """Who holds the workspace, and whether somebody should, by the statuses of campaigns."""
    if holders:
        return well("daemon", f"runs: {few(holders)}")
    if waiting := sum(one in (Campaign.APPROVED, Campaign.SENDING) for one in statuses):
        told = f"none runs, and {waiting:,} approved or sending campaigns wait for one"
        return warning("daemon", told, "start one: `sendwave run`")
    return well("daemon", "none runs, and no campaign waits for one")


def webhook(route: str, *, unset: str | None, listens: bool, public_url: str | None) -> Finding:
    """What a route needs whose ESP posts its events: something that listens, a secret, an address for the world."""
    check = f"webhook {route}"
    if not listens:
        return problem(check, "its ESP posts events, and nothing listens", "add `web:` to sendwave.yaml")
    if unset is not None:
        return problem(check, unset, "give the route its webhook's secret (docs/reference/esp.md)")
    if public_url is None:
        return warning(check, "no public_url: nobody knows where the ESP is to post", "set web.public_url to https://…")
    if not public_url.startswith("https://"):
        return warning(
            check, f"{public_url} is for this machine only", "set web.public_url to https://… before you send"
        )
    return well(check, f"{public_url}/hooks/{route}")


def feed(route: str, heard: datetime | None, unmatched: int, words: Mapping[str, int]) -> Finding:
    """When a route last told something, and how much of it nobody could place."""
    check = f"feed {route}"
    told = "has told nothing yet" if heard is None else f"last told something {heard:%Y-%m-%d %H:%M} UTC"
    odd = [f"{unmatched:,} events name none of our messages"] if unmatched else []
    odd += [f"unknown words: {few([f'{word} ({n:,})' for word, n in words.items()])}"] if words else []
    if not odd:
        return well(check, told)
    return warning(check, "; ".join([told, *odd]), "`sendwave feedback status` shows all of it")


def inbox(waiting: int, oldest: datetime | None, now: datetime) -> Finding:
    """Reports nobody has read yet."""
    if oldest is None or now - oldest < READ_WITHIN:
        return well("inbox", f"{waiting:,} reports wait")
    told = f"{waiting:,} reports wait, the oldest since {oldest:%Y-%m-%d %H:%M} UTC"
    return warning("inbox", told, "a daemon reads them: `sendwave run`")


def holds(found: Sequence[Hold], names: Mapping[int, str], now: datetime) -> Finding:
    """What stands in the way now, with its reasons; a campaign's halt is told with the campaign."""
    standing = [one for one in found if one.until is None or one.until > now]
    if not standing:
        return well("holds", "nothing is held")
    told = [f"{_of(one, names)}: {one.kind} {one.reason}" + f" ({one.detail})" * bool(one.detail) for one in standing]
    asked = any(one.kind != Kind.HOLD for one in standing)
    then = "`sendwave campaign resume` or `sendwave route free` lifts a pause or halt" if asked else ""
    return warning("holds", few(told), then or "they lift themselves when their reason ends")


def _of(hold: Hold, names: Mapping[int, str]) -> str:
    whose = names.get(hold.campaign_id, "") if hold.campaign_id is not None else ""
    return whose if hold.scope == "campaign" else f"{whose} {hold.scope}".strip()


def campaign(name: str, status: str) -> Finding | None:
    """A campaign that waits for a person; None for one that does not."""
    check = f"campaign {name}"
    if status == Campaign.HALTED:
        return problem(check, "halted by its gates: nothing leaves", f"`sendwave campaign show {name}`, then resume it")
    if status == Campaign.PAUSED:
        return warning(check, "paused", f"`sendwave campaign resume {name}` lets it go on")
    if status == Campaign.PLANNED:
        return warning(check, "planned, waits for approval", f"`sendwave campaign approve {name}`")
    return None


def unknown(people: Mapping[str, int]) -> Finding:
    """People of campaigns nobody knows the fate of, and about whom nothing is decided."""
    told = [f"{n:,} of {name}" for name, n in people.items() if n]
    if not told:
        return well("unknown people", "none")
    return warning("unknown people", few(told), "`sendwave campaign unknown NAME` says since when; then settle them")


def score(as_of: datetime | None, now: datetime) -> Finding:
    """How old the scores in place are."""
    if as_of is None:
        return well("score", "none yet")
    told = f"of {as_of:%Y-%m-%d %H:%M} UTC"
    return (
        warning("score", f"{told}: older than two days", "`sendwave score`, or import scores")
        if (now - as_of > SCORE_AGE)
        else well("score", told)
    )


def libraries(missing: Mapping[str, str]) -> Finding:
    """Extras that something configured needs and that are not installed: {extra: what needs it}."""
    if not missing:
        return well("libraries", "all that the settings need are there")
    told = [f"{what} {'is better with' if extra in HELPFUL else 'needs'} {extra}" for extra, what in missing.items()]
    grave = warning if missing.keys() <= HELPFUL else problem
    return grave("libraries", "; ".join(told), f"pip install 'sendwave[{','.join(missing)}]'")
