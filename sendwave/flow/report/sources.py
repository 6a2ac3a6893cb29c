"""What is gathered of a campaign or of an experiment, in one form for both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sendwave.flow.report.figures import Figures
from sendwave.rules.audience import Who
from sendwave.rules.balance import Alike, Ratio
from sendwave.rules.budgets import Budgets, ChannelBudget, price_list
from sendwave.rules.lift import Arm
from sendwave.rules.report_policy import Habit, Worth

MAILING: Final = "mailing"
"""The one arm of a campaign that is written to."""

Key = tuple[str, str | None]
"""(tier, group) of people: '' for no tier, None for no known group."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What a report is broken down by."""

    by: str = "tier"
    width: float = 10.0  # of score bands, in points
    bands: tuple[float, ...] = ()  # lower ends of bands of a numeric attribute


@dataclass(frozen=True, slots=True)
class Named:
    """A named audience as the rule that mailings are compared with."""

    name: str
    who: Who  # its conditions, no name left in them

    def __str__(self) -> str:
        return f"audience {self.name}"


Rule = Habit | Named
"""What the score is compared with: who would have been written to otherwise."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every source alike."""

    breakdown: Breakdown
    worth: Worth
    until: datetime
    control: str | None = None  # an experiment's arm that got nothing, where its name does not say so
    budgets: Budgets = field(default_factory=Budgets)  # of today

    def prices(self, channel: str) -> ChannelBudget:
        """What a channel's messages cost. Raises BadInput for prices in another currency."""
        return price_list(channel, self.budgets, self.worth)


@dataclass(frozen=True, slots=True)
class Note:
    """Something a reader has to know; `code` is a key of the phrases, the rest fills them in."""

    code: str
    told: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"code": self.code, **self.told}


@dataclass(frozen=True, slots=True)
class Compared:
    """One (tier, group) of a source: each arm that got something, and those left out at random."""

    arms: Mapping[str, Arm]
    control: Arm

    @property
    def given(self) -> Arm:
        """All arms that got something."""
        total = Arm()
        for arm in self.arms.values():
            total = total + arm
        return total


@dataclass(frozen=True, slots=True)
class Gathered:
    """One campaign or experiment."""

    name: str
    title: str
    kind: str  # campaign type; experiment
    channel: str
    figures: Mapping[Key, Figures]
    compared: Mapping[Key, Compared]
    ratios: Sequence[Ratio] = ()
    balance: Sequence[Alike] = ()
    notes: Sequence[Note] = ()
    opens: datetime | None = None  # first message
    closes: datetime | None = None  # end of the last one's attribution window
    excluded: Mapping[Key, Mapping[str, int]] = field(default_factory=dict)
    bystanders: Mapping[Key, Arm] = field(default_factory=dict)  # left out for a reason: what they bought all the same

    def document(self) -> dict[str, Any]:
        """What the report says of its sources."""
        return {
            "id": self.name,
            "title": self.title,
            "type": self.kind,
            "channel": self.channel,
            "opens": None if self.opens is None else self.opens.isoformat(),
            "closes": None if self.closes is None else self.closes.isoformat(),
        }


def renamed(source: Gathered, same: Mapping[str, str]) -> Gathered:
    """The same with tiers under the names of today: `same` is old -> new."""
    if not same:
        return source
    figures: dict[Key, Figures] = defaultdict(Figures)
    for (tier, group), one in source.figures.items():
        figures[same.get(tier, tier), group] += one
    compared: dict[Key, Compared] = {}
    for (tier, group), pair in source.compared.items():
        key = (same.get(tier, tier), group)
        before = compared.get(key, Compared({}, Arm()))
        arms = {name: before.arms.get(name, Arm()) + arm for name, arm in pair.arms.items()}
        compared[key] = Compared({**before.arms, **arms}, before.control + pair.control)
    return Gathered(
        *(source.name, source.title, source.kind, source.channel, figures, compared),
        *(source.ratios, source.balance, source.notes, source.opens, source.closes),
        *(source.excluded, source.bystanders),
    )
