"""What the store says in codes, in words for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from sendwave.rules.holds import Kind
from sendwave.rules.lifecycle import Wave
from sendwave.rules.signals import SIGNALS
from sendwave.rules.units import format_duration
from sendwave.store.journal import Entry

LABELS: Final = {
    "no_address": "no address",
    "invalid_address": "unusable address",
    "duplicate_address": "address already held by another contact",
    "suppressed": "on the suppression list",
    "suppressed_hard_bounce": "suppressed: their address bounced",
    "suppressed_complaint": "suppressed: they complained",
    "suppressed_unsubscribe": "suppressed: they unsubscribed",
    "consent_withdrawn": "withdrew their consent",
    "consent_pending": "double opt-in not confirmed",
    "no_consent": "never gave consent for this",
    "no_score": "no engagement score",
    "unknown_tier": "a tier the policies do not know",
    "tier_not_contacted": "too cold for this type of campaign",
    "control_group": "control group: gets nothing, to measure lift",
    "not_in_share": "outside the test share of their tier",
    "cap_tier": "had as many of these as their tier takes",
    "min_gap": "written to too recently for their tier",
    "seed": "an address of our own, which gets a copy of each wave",
}
_CAPS: Final = {"type": "of this type", "channel": "on this channel", "all": "over all channels"}


def label(reason: str) -> str:
    """Why somebody is left out; a reason without words of its own keeps its name, made readable."""
    if reason in LABELS:
        return LABELS[reason]
    first, _, rest = reason.partition("_")
    counts, _, window = rest.partition("_")
    if first == "cap" and counts in _CAPS:
        return f"had enough messages {_CAPS[counts]} within {window}"
    if first == "suppressed":
        return f"suppressed: {rest.replace('_', ' ')}"
    return reason.replace("_", " ")


def signal(name: str) -> str:
    """A signal as people call it."""
    return SIGNALS[name].label if name in SIGNALS else name.replace("_", " ")


def sentence(entry: Entry, soak: timedelta) -> str | None:
    """A journal row in one line; None for rows that only repeat what a neighbour says.

    `soak` is what the campaign's type waits after a wave.
    """
    if entry.action == "wave.soak":
        return f"wave {entry.wave} is out; waiting {format_duration(soak)} for what comes back"
    tell = _TOLD.get(entry.action)
    if tell is not None:
        return tell(entry)
    if entry.action.startswith("verdict.") or entry.action in _SILENT:
        return None
    return " ".join((*entry.action.replace("_", " ").split("."), entry.reason)).strip()


def _planned(entry: Entry) -> str:
    planned, excluded = entry.evidence.get("planned", 0), entry.evidence.get("excluded", {})
    return f"planned: {planned:,} of {planned + sum(excluded.values()):,} contacts will be written to"


def _opened(entry: Entry) -> str:
    dropped = sum(entry.evidence.get("dropped", {}).values())
    told = f", {dropped:,} left out since the plan" if dropped else ""
    return f"wave {entry.wave} opened: {entry.evidence.get('people', 0):,} people{told}"


def _stopped(entry: Entry) -> str:
    spared = entry.evidence.get("from") == Wave.WAITING
    return f"wave {entry.wave} will not open" if spared else f"wave {entry.wave} stopped where it was"


def _why(entry: Entry) -> str:
    told: dict[str, Any] = dict(entry.evidence)
    return str(told.get("sentence") or told.get("detail") or entry.reason)


def _held(entry: Entry) -> str | None:
    if entry.evidence.get("kind") == Kind.HALT:
        return None  # the lane or the campaign has said so
    route = entry.evidence.get("route")
    return f"waiting{f', route {route}' if route else ''}: {entry.reason.replace('_', ' ')} ({_why(entry)})"


_TOLD: Final[dict[str, Callable[[Entry], str | None]]] = {
    "campaign.plan": _planned,
    "campaign.approve": lambda entry: f"approved by {entry.actor}",
    "campaign.start": lambda _: "sending starts",
    "campaign.halt": lambda entry: f"the campaign stopped itself: {_why(entry)}",
    "campaign.complete": lambda _: "completed: nobody is left to write to",
    "wave.release": _opened,
    "wave.clear": lambda entry: f"wave {entry.wave} cleared" + (": nobody was in it" if entry.reason else ""),
    "wave.halt": _stopped,
    "lane.suspend": lambda entry: f"{entry.provider} stopped: {_why(entry)}",
    "hold.place": _held,
    "hold.lift": lambda entry: f"over: {entry.reason.replace('_', ' ')}",
    "batch.lose": lambda entry: f"{entry.evidence.get('people', 0):,} people unknown: {entry.reason}",
}
_SILENT: Final = ("campaign.create", "wave.send")
