"""A rehearsal's scenario: what becomes of mails, what the ESP does to calls, and how its webhooks behave.

A name is one of the worlds shipped with the simulated ESP (`healthy`, `bad-list` …); a file is YAML with any of these
keys. Durations are those of the real world: `--speed` lets time itself run faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator

from sendwave import documents
from sendwave.errors import NotFound, did_you_mean
from sendwave.esp.simulated_world import Delay, Incident, Kind, Rates, scenarios
from sendwave.rules.units import Duration, Percent, Policy, parse_duration, parse_percent

_NONE: Final = parse_percent("0%")

Outcome = Literal[
    "accepted", "refused", "later", "unanswered", "hard_bounce", "soft_bounce", "blocked", "deferred", "delivered",
    "open", "machine_open", "click", "machine_click", "unsubscribe", "resubscribe", "complaint",
]  # fmt: skip
OUTCOMES: Final = get_args(Outcome)
FAILURES: Final = frozenset({"refused", "later", "hard_bounce", "soft_bounce", "blocked"})
"""Outcomes after which nothing reaches the person."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Script(Policy):
    """What happens to certain addresses, whatever the rates say. The first script that fits decides."""

    match: str = Field(min_length=1, description="The address, with * and ? as in file names.")
    outcome: Annotated[tuple[Outcome, ...], BeforeValidator(_listed)] = Field(
        min_length=1, description="One or several: `hard_bounce`, or `[open, click]`; reaching the person is implied."
    )

    @field_validator("outcome")
    @classmethod
    def _possible(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        failed = [word for word in value if word in FAILURES]
        if failed and len(value) > 1:
            raise ValueError(f"after {failed[0]} nothing else can happen")
        return value


class Tiers(Policy):
    """Whose rates certain addresses have: an ESP knows no tiers."""

    match: str = Field(min_length=1)
    tier: str


class Limit(Policy):
    """Calls it takes in a time; the others are answered 429."""

    calls: int = Field(ge=1)
    per: Duration = parse_duration("1s")
    retry_after: bool = Field(default=True, description="Whether the 429 says how long to wait.")


class ApiOutage(Policy):
    """The API is away for a while."""

    after: Duration = Field(default=parse_duration("0s"), description="Since the first call.")
    lasts: Duration
    how: Literal["refused", "silent", "broken", "paused"] = Field(
        default="refused",
        description="No connection; taken without an answer; answered 502 although taken; account paused by the ESP.",
    )


class Calls(Policy):
    """What the API does to calls, besides taking them."""

    limit: Limit | None = None
    busy: Percent = Field(default=_NONE, description="Share of calls answered 429.")
    retry_after: Duration | None = Field(
        default=parse_duration("30s"), description="What such a 429 says; null: nothing."
    )
    unanswered: Percent = Field(default=_NONE, description="Share of calls taken without an answer: a time-out.")
    broken: Percent = Field(default=_NONE, description="Share of calls taken and answered 502.")
    quota: int | None = Field(default=None, ge=1, description="Mails a day; beyond it the account is paused.")
    outages: tuple[ApiOutage, ...] = ()


class HookOutage(Policy):
    """No webhook comes for a while; then all that happened meanwhile, at once."""

    after: Duration = Field(default=parse_duration("0s"), description="Since the first call.")
    lasts: Duration


class Hooks(Policy):
    """How events are told."""

    batch: int | None = Field(
        default=None, ge=1, description="Most events in one body, at most what the provider does."
    )
    accepted: bool = Field(default=True, description="Tell that a mail was taken, where the provider does.")
    duplicates: Percent = Field(default=_NONE, description="Share of events told twice.")
    disorder: Percent = Field(
        default=_NONE, description="Share of events told up to half an hour late, others before them."
    )
    late: Percent = Field(default=_NONE, description="Share of events told `late_by` late.")
    late_by: Duration = parse_duration("6h")
    loss: Percent = Field(default=_NONE, description="Share of events never told.")
    forgeries: Percent = Field(default=_NONE, description="Share of requests of which a forged copy follows.")
    replays: Percent = Field(default=_NONE, description="Share of requests sent again as they were, a day later.")
    outages: tuple[HookOutage, ...] = ()


class Scenario(Policy):
    """All of it. What is left out is `healthy`, and nothing goes wrong."""

    like: str = "healthy"
    seed: int = Field(default=1, ge=0)
    everybody: Rates = Rates()
    rates: dict[str, Rates] = Field(default_factory=dict, description="By tier.")
    tiers: tuple[Tiers, ...] = ()
    script: tuple[Script, ...] = ()
    incidents: tuple[Incident, ...] = ()
    delays: dict[str, Delay] = Field(default_factory=dict, description="By kind of event.")
    calls: Calls = Calls()
    webhooks: Hooks = Hooks()

    @field_validator("like")
    @classmethod
    def _exists(cls, value: str) -> str:
        if value not in scenarios():
            raise ValueError(f"no scenario {value!r}.{did_you_mean(value, scenarios())}")
        return value

    @field_validator("delays")
    @classmethod
    def _kinds(cls, value: dict[str, Delay]) -> dict[str, Delay]:
        known = [kind.name for kind in Kind]
        for word in value:
            if word not in known:
                raise ValueError(f"no such kind of event: {word}.{did_you_mean(word, known)}")
        return value

    def scripted(self, address: str) -> Sequence[Outcome] | None:
        """What the script has for an address, None where it has nothing."""
        folded = address.lower()
        return next((s.outcome for s in self.script if fnmatchcase(folded, s.match.lower())), None)

    def tier(self, address: str) -> str:
        """Whose rates the address has; `warm` for those nobody speaks of."""
        folded = address.lower()
        return next((t.tier for t in self.tiers if fnmatchcase(folded, t.match.lower())), "warm")


def load(given: str) -> Scenario:
    """The scenario of that name, or in that YAML or JSON file.

    Raises:
        NotFound: it is neither a shipped name nor a file.
        BadInput: the file is wrong, every mistake with its place.

    """
    if given in scenarios():
        return Scenario(like=given)
    path = Path(given)
    if not path.is_file():
        raise NotFound(f"no scenario and no file {given!r}.{did_you_mean(given, scenarios())}")
    return documents.validate(documents.load(path), Scenario)


def read(text: str) -> Scenario:
    """The scenario in this YAML or JSON. Raises BadInput."""
    return documents.validate(documents.load(text, "scenario"), Scenario)
