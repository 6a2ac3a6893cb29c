"""After a score run: who crossed a line, said once, to the person who looks after them.

`raise_alerts` asks the rules about the newest scores and writes what is to be said into the outbox, in one transaction
with the note that it was said. `deliver` empties the outbox. A delivery that fails goes again later; after a crash in
the middle of one, the same notice goes again under the same key (`Idempotency-Key`, `Message-ID`), because a lost alert
is worse than one a mailbox can drop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import tenacity

from sendwave import log
from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.errors import NotFound, Permanent, Transient, did_you_mean
from sendwave.notify.base import Channel, Notice
from sendwave.rules import alerts as rules
from sendwave.rules.alerts import Alert
from sendwave.rules.policy import PolicySet
from sendwave.store import alerts as kept
from sendwave.store import files, journal
from sendwave.store.database import Connection, Database
from sendwave.store.files import LakeFile

_LOG = log.get("alerts")

PER_NOTICE: Final = 200
"""Contacts in one notice, so that a mail stays readable and a chat takes it."""

TRIES: Final = 3
"""Attempts in a row, a second or more apart, before a notice waits."""

WAIT: Final = timedelta(minutes=5)
LONGEST_WAIT: Final = timedelta(hours=6)
ROUNDS: Final = 12
"""Waits double from 5 minutes to 6 hours; after the twelfth round, two days, a notice has failed."""

IN_HAND: Final = timedelta(minutes=15)
"""How long a notice may be in one process's hand before another one takes it for lost with it."""


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule found, in contacts."""

    rule: str
    alerted: int = 0
    over_cap: int = 0  # met the rule, too many for one day: nobody was alerted
    regraded: int = 0  # meet it only against scores of another grid: not alerted either

    @property
    def would_have(self) -> int:
        """Contacts that were not alerted and might have been."""
        return self.over_cap + self.regraded


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of the notices that were due."""

    sent: int = 0
    postponed: int = 0
    failed: int = 0


def check_channels(policy: PolicySet, channels: Mapping[str, object]) -> None:
    """Raise NotFound for an alert that names a channel sendwave.yaml does not have."""
    for name, alert in policy.alerts.items():
        for channel in alert.notify:
            if channel != rules.LOG and channel not in channels:
                hint = did_you_mean(channel, [*channels, rules.LOG])
                raise NotFound(f"alerts.yaml: {name} notifies {channel!r}, sendwave.yaml has no such channel.{hint}")


def raise_alerts(
    db: Database, engine: Engine, lake: Lake, policy: PolicySet, *, now: datetime, by: str = "daemon"
) -> list[RuleReport]:
    """Ask every rule about the newest scores; idempotent: scores that were asked about are not asked again.

    The first scores ever alert nobody. Raises FullDisk, Busy.
    """
    with db.read() as connection:
        inputs = files.live(connection, ["contacts", "scores"])
        last = kept.evaluated(connection)
        if not inputs["scores"] or inputs["scores"][-1].id == last:
            return []
        changes = files.live(connection, ["history"])["history"]
    newest = inputs["scores"][-1]
    day = newest.registered_at.astimezone(UTC).date()
    reports = []
    for name, alert in policy.alerts.items():
        earlier = _earlier(alert, changes, last, newest.registered_at)
        if not earlier:
            continue
        paths = lake.paths({**inputs, "history": earlier})
        with engine.session(paths, {"told": _told(db, name, alert, day)}) as session:
            report, rows = _found(session, name, alert, policy, room=alert.daily_cap - _said(db, name, day))
        _say(db, name, alert, report, rows, day=day, now=now, by=by)
        reports.append(report)
    with db.write() as connection:
        kept.set_evaluated(connection, newest.id)
    return reports


def deliver(
    db: Database,
    channels: Mapping[str, Channel],
    *,
    now: datetime,
    sleep: Callable[[float], None] = lambda _seconds: None,
    limit: int = 1_000,
) -> Delivered:
    """Send what is due, up to `limit` notices; `sleep` passes the time between two attempts in a row (seconds)."""
    sent = postponed = failed = 0
    for _ in range(limit):
        with db.write() as connection:
            waiting = kept.claim(connection, now=now, until=now + IN_HAND)
        if waiting is None:
            break
        try:
            _send(channels, waiting, now, sleep)
        except (Transient, Permanent) as fault:
            again = _again(waiting, fault, now)
            _LOG.error(
                "notice_not_delivered", channel=waiting.channel, reason=str(fault), again_at=str(again or "never")
            )
            with db.write() as connection:
                kept.failed(connection, waiting.id, str(fault), again)
            postponed, failed = postponed + (again is not None), failed + (again is None)
            continue
        with db.write() as connection:
            kept.sent(connection, waiting.id, now)
        sent += 1
    return Delivered(sent, postponed, failed)


def _earlier(alert: Alert, changes: Sequence[LakeFile], last: int | None, at: datetime) -> list[LakeFile]:
    """The changes that matter: those after the scores asked about last, or all of a drop's window.

    Every change says what was in force before it. Nothing on the first run, which changes nobody's score.
    """
    if last is None and len(changes) < 2:
        return []
    new = [file for file in changes if file.id > last] if last is not None else list(changes[-1:])
    if alert.within is None or not new:
        return new
    return [file for file in changes if file.registered_at > at - alert.within]


def _found(
    session: Session, name: str, alert: Alert, policy: PolicySet, *, room: int
) -> tuple[RuleReport, list[dict[str, Any]]]:
    """How many meet the rule, and who they are unless they are more than there is room for today.

    One pass on most days; only where a rule meets very many are they counted first.
    """
    limit = max(room, 0) + 1
    rows = session.read(rules.some(alert, policy.tiers, limit)).to_pylist()
    if len(rows) < limit:
        chosen = [row for row in rows if row["comparable"]]
        return RuleReport(name, len(chosen), regraded=len(rows) - len(chosen)), chosen
    counts = {
        row["comparable"]: row["contacts"] for row in session.read(rules.counted(alert, policy.tiers)).to_pylist()
    }
    found, regraded = counts.get(True, 0), counts.get(False, 0)
    if found > room:
        return RuleReport(name, over_cap=found, regraded=regraded), []
    rows = session.read(rules.raised(alert, policy.tiers)).to_pylist() if found else []
    return RuleReport(name, found, regraded=regraded), [row for row in rows if row["comparable"]]


def _told(db: Database, rule: str, alert: Alert, day: date) -> pa.Table:
    with db.read() as connection:
        contacts = kept.told(connection, rule, day - alert.silent + timedelta(days=1))
    return pa.table({"contact": pa.array(contacts, pa.int64())})


def _said(db: Database, rule: str, day: date) -> int:
    with db.read() as connection:
        return kept.said_on(connection, rule, day)


def _say(
    db: Database,
    name: str,
    alert: Alert,
    report: RuleReport,
    rows: Sequence[Mapping[str, Any]],
    *,
    day: date,
    now: datetime,
    by: str,
) -> None:
    """One transaction: who was alerted, and the notices that say so."""
    if not rows and not report.would_have:
        return
    with db.write() as connection:
        new = set(kept.add(connection, name, day, rows, now))
        _enqueue(connection, name, alert, [row for row in rows if row["contact"] in new], now)
        if report.would_have and kept.add(connection, name, day, [{"contact": kept.EVERYBODY}], now):
            title = f"{alert.label or name}: nobody was alerted, {report.would_have:,} would have been"
            for channel in alert.notify:
                document = {"title": title, "text": _why(alert, report), "contacts": []}
                kept.enqueue(connection, channel=channel, rule=name, owner="", document=document, now=now)
        evidence = {"alerted": len(new), "over_cap": report.over_cap, "regraded": report.regraded}
        journal.write(connection, at=now, actor=by, action="alerts.raised", reason=name, evidence=evidence)


def _enqueue(conn: Connection, name: str, alert: Alert, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
    owners: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (-abs(row["score"] - (row["before"] or 0.0)), row["contact"])):
        entry = {key: row[key] for key in ("contact_id", "score", "before", "tier", "owner")}
        owners[(row["owner"] or "") if alert.to_owner else ""].append(entry)
    for owner, entries in sorted(owners.items()):
        for start in range(0, len(entries), PER_NOTICE):
            part = entries[start : start + PER_NOTICE]
            many = f"{len(part):,} contacts" if len(part) > 1 else part[0]["contact_id"]
            document = {"title": f"{alert.label or name}: {many}", "text": alert.says, "contacts": part}
            for channel in alert.notify:
                kept.enqueue(conn, channel=channel, rule=name, owner=owner, document=document, now=now)


def _why(alert: Alert, report: RuleReport) -> str:
    parts = []
    if report.over_cap:
        parts.append(
            f"{alert.says} for {report.over_cap:,} contacts, more than the daily cap of {alert.daily_cap:,}: a new "
            "grid or an import more likely than so many people"
        )
    if report.regraded:
        parts.append(
            f"for {report.regraded:,} contacts only because the grid changed: the earlier score is of another one"
        )
    return "; ".join(parts)


def _send(
    channels: Mapping[str, Channel], waiting: kept.Waiting, now: datetime, sleep: Callable[[float], None]
) -> None:
    channel = channels.get(waiting.channel)
    if channel is None:
        raise Transient(f"sendwave.yaml has no channel {waiting.channel!r} under notify")
    document = waiting.document
    notice = Notice(
        key=f"sendwave-alert-{waiting.id}",
        rule=waiting.rule,
        title=document["title"],
        text=document["text"],
        owner=waiting.owner,
        contacts=document["contacts"],
        now=now,
    )
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_exponential(multiplier=1, max=8),
        retry=tenacity.retry_if_exception(lambda fault: isinstance(fault, Transient) and fault.retry_after is None),
        sleep=sleep,
        reraise=True,
    )
    attempts(channel.send, notice)


def _again(waiting: kept.Waiting, fault: Transient | Permanent, now: datetime) -> datetime | None:
    """When to try again: later each time, or when the receiver said; None for never."""
    if isinstance(fault, Permanent) or waiting.attempts + 1 >= ROUNDS:
        return None
    wait: timedelta = min(WAIT * 2**waiting.attempts, LONGEST_WAIT)
    asked = timedelta(seconds=min(fault.retry_after or 0.0, 86_400.0))
    return now + max(wait, asked)
