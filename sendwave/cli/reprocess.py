"""`sendwave feedback`: what feeds say, and reading kept reports again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from sendwave.cli.output import emit_json, in_workspace, json_option, pairs, table

if TYPE_CHECKING:
    from sendwave.workspace import Workspace


@click.group()
def feedback() -> None:
    """What ESPs reported, and what sendwave made of it."""


@feedback.command()
@in_workspace
@json_option
def status(workspace: Workspace, as_json: bool) -> None:
    """What waits, what nobody could read, and the words of each ESP that nobody knows."""
    from sendwave.store import feeds, inbox

    with workspace.db.read() as connection:
        waiting, oldest = inbox.backlog(connection)
        failed = inbox.failures(connection)
        known = feeds.listing(connection)
    told: list[dict[str, Any]] = [
        {
            "route": feed.route,
            "last_event": feed.last_event_at,
            "last_received": feed.last_received_at,
            "unmatched": feed.unmatched,
            "unknown_words": dict(feed.unknown_words),
        }
        for feed in known
    ]
    failures = [{"report": i, "route": route, "received": at, "error": why} for i, route, at, why in failed]
    if as_json:
        emit_json({"waiting": waiting, "oldest": oldest, "failed": failures, "feeds": told})
        return
    pairs("reports", {"waiting": waiting, "oldest": str(oldest or "-"), "unreadable": len(failed)})
    rows = [(one["route"], one["last_received"], one["unmatched"], _words(one["unknown_words"])) for one in told]
    table("feeds", ("route", "last report", "unmatched", "unknown words"), rows, right=(2,))
    if failures:
        shown = [(one["report"], one["route"], one["received"], one["error"]) for one in failures]
        table("reports nobody could read", ("report", "route", "received", "why"), shown)


@feedback.command()
@in_workspace
@click.option("--since", metavar="INSTANT|DURATION", help="Only reports received since then, for instance 7d.")
@click.option("--route", help="Only reports of this route.")
@click.option("--unknown-only", is_flag=True, help="Only reports nobody could read, or with words nobody knew.")
@json_option
def reprocess(workspace: Workspace, since: str | None, route: str | None, unknown_only: bool, as_json: bool) -> None:
    """Read kept reports again, after the words of an ESP are understood better.

    Counts, charts and kept events become what they had been with today's understanding from the start; addresses are
    added to the suppression list, none is taken off it. Everything or nothing; a second time changes nothing more.
    Reports are kept as long as retention.reports in sendwave.yaml says.
    """
    from sendwave.clock import SystemClock
    from sendwave.errors import NotFound, did_you_mean
    from sendwave.flow import feedback as stage

    clock = SystemClock()
    if route is not None and route not in workspace.settings.routes:
        raise NotFound(f"sendwave.yaml has no route {route!r}.{did_you_mean(route, workspace.settings.routes)}")
    choice = stage.Choice(_since(since, clock.now()), route, unknown_only)
    done = stage.reprocess(
        *(workspace.db, workspace.engine, workspace.lake, workspace.adapters, workspace.token_key),
        choice=choice,
        clock=clock.now,
    )
    told = {
        "reports": done.reports,
        "unreadable": done.failed,
        "events": done.events,
        "changed": done.changed,
        "unknown": done.unknown,
        "suppressed": done.suppressed,
    }
    if as_json:
        emit_json(told)
    else:
        pairs("read again", told)


def _since(written: str | None, now: datetime) -> datetime | None:
    from sendwave.esp.hooks import read_instant
    from sendwave.rules.units import parse_duration

    if written is None:
        return None
    try:
        ago: timedelta = parse_duration(written)
    except ValueError:
        found = None if written.strip().isdigit() else read_instant(written)
        if found is None:
            raise click.BadParameter(
                f"{written!r}: write an instant such as 2026-03-02T09:00:00Z, or 7d for the last seven days",
                param_hint="--since",
            ) from None
        return found
    return now - ago


def _words(known: dict[str, int]) -> str:
    return ", ".join(f"{word} ({n})" for word, n in sorted(known.items(), key=lambda item: -item[1]))


COMMANDS: Final = {"feedback": feedback}
