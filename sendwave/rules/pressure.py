"""Too much pressure: caps and rests over rolling windows, by campaign type, tier and channel.

0, no cap and never are three values: `cap: 0 per 7d` lets nobody through who would need a slot, no `cap` limits
nothing, `never` (on a tier) leaves the tier out.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from sendwave.rules.units import Duration, Percent, PerWindow, Policy


class Counts(StrEnum):
    """Which past sends a cap counts."""

    TYPE = "type"  # this campaign type, any channel
    CHANNEL = "channel"  # this channel, any type
    ALL = "all"  # everything


class Cap(Policy):
    """At most so many messages per rolling window, for everybody."""

    max: PerWindow = Field(description="For instance '1 per 1d'. Windows roll: 24 hours, not a calendar day.")
    counts: Counts = Counts.CHANNEL


class TierPressure(Policy):
    """What one tier gets of a campaign type. A tier left out of `tiers` is not contacted."""

    share: Percent = Field(description="Share of the tier that is written to, drawn by a stable hash per campaign.")
    cap: PerWindow | None = Field(None, description="Messages of this type per rolling window; none means no cap.")
    min_gap: Duration | None = Field(None, description="Rest since the last message on this channel, of any type.")
