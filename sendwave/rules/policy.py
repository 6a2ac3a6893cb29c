"""The whole policy: composes the models each rule owns, checks them against each other, names its version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field, RootModel

from sendwave.errors import NotFound, did_you_mean
from sendwave.rules.alerts import Alert
from sendwave.rules.audience import Audience, NamedAudience, Who
from sendwave.rules.budgets import Budgets
from sendwave.rules.gates import Gate, GateSet
from sendwave.rules.grid import Grid
from sendwave.rules.plan import OTHER
from sendwave.rules.pressure import Bounced, Cap, TierPressure, contacted
from sendwave.rules.report_policy import Worth
from sendwave.rules.signals import SIGNALS
from sendwave.rules.throttle import Lanes, Provider
from sendwave.rules.tiers import Tiers
from sendwave.rules.units import Duration, Key, Percent, Policy, parse_duration, parse_percent
from sendwave.rules.waves import WavePlan

SERVICE = "service"
"""The purpose that needs no marketing consent, is never capped nor gated behind others."""


class Channel(StrEnum):
    """How a message reaches a person."""

    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"


class GateUse(Policy):
    """Which gate set a campaign type uses, and what it changes in it."""

    use: str = Field(default="default", description="A set of gates.yaml.")
    signals: dict[str, Gate] = Field(default_factory=dict, description="Gates that replace those of the set.")


class CampaignType(Policy):
    """One file of policies/types/: who may be contacted, how often, in what waves, under which gates."""

    type: Key = Field(description="Its name, and that of its file.")
    label: str = Field(default="", description="What people read.")
    purpose: Key = Field(default="marketing", description="The consent it needs; 'service' needs none, has no caps.")
    channel: Channel = Field(default=Channel.EMAIL, description="How the message reaches people.")
    importance: int = Field(default=50, ge=0, le=100, description="Who wins when two campaigns compete for one person.")
    tiers: dict[str, TierPressure] = Field(
        default_factory=dict,
        description="By tier key; one left out, or `never`, is not contacted. A service type without any reaches all.",
    )
    audience: Audience = Field(default=Who(), description="Whom it may concern at all; campaigns may ask for more.")
    caps: tuple[Cap, ...] = Field(default=(), description="Caps for everybody, on top of those of the tiers.")
    bounced: Bounced = Field(default=Bounced.GIVE_BACK, description="Slot of a message that bounced hard.")
    control: Percent = Field(default=parse_percent("0%"), description="Share that gets nothing, to measure lift.")
    waves: WavePlan = Field(description="Sizes, waits and hours.")
    gates: GateUse = Field(default=GateUse(), description="What stops it.")
    settle_unknown: Duration = Field(
        default=parse_duration("24h"),
        description="How long after hand-over events may still tell what became of people the ESP never answered for.",
    )

    def meant_for(self, own: Who) -> CampaignType:
        """The type for a campaign with an audience of its own: people of both."""
        return self.model_copy(update={"audience": self.audience.joined(own)}) if own else self

    @property
    def is_service(self) -> bool:
        """Service messages need no marketing consent and are never capped."""
        return self.purpose == SERVICE


class GatesFile(RootModel[dict[Key, GateSet]]):
    """gates.yaml: sets of gates by name."""


class PolicySet(Policy):
    """Everything the files say, checked together. Immutable: a reload builds another one."""

    tiers: Tiers
    types: dict[str, CampaignType]
    gates: dict[str, GateSet]
    lanes: Lanes
    audiences: dict[Key, NamedAudience] = Field(default_factory=dict)
    alerts: dict[Key, Alert] = Field(default_factory=dict)
    score: Grid | None = None
    report: Worth = Worth()
    budgets: Budgets = Budgets()

    def document(self) -> dict[str, Any]:
        """The canonical JSON document stored with each campaign at approval."""
        return self.model_dump(mode="json")

    @property
    def version(self) -> str:
        """sha256 (hex) over the canonical document: comments and key order do not matter.

        Alerts, the scoring grid and what reports reckon with are left out: they decide nothing about a campaign, and a
        new one must not make plans stale. The grid has a version of its own, on every score.
        """
        sending = {key: part for key, part in self.document().items() if key not in ("alerts", "score", "report")}
        text = json.dumps(sending, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def type_of(self, name: str) -> CampaignType:
        """The campaign type of that name. Raises NotFound, with the name that was probably meant."""
        if name not in self.types:
            raise NotFound(f"there is no campaign type {name!r}.{did_you_mean(name, self.types)}")
        return self.types[name]

    def gates_of(self, kind: CampaignType, limits: Mapping[str, Mapping[str, str]] | None = None) -> GateSet:
        """The gate set a campaign type is judged by, with its own overrides applied.

        `limits` ({signal: {"hold": "0.2%", "halt": "0.5%", "since": …}}) are those a person set for one campaign.
        Raises ValidationError for a limit that is none, or a hold level above the halt level.
        """
        chosen = self.gates[kind.gates.use]
        signals = {**chosen.signals, **kind.gates.signals}
        for signal, told in (limits or {}).items():
            if signal in signals:
                levels = {level: told[level] for level in ("hold", "halt") if level in told}
                signals[signal] = Gate.model_validate({**signals[signal].model_dump(), **levels})
        return chosen.model_copy(update={"signals": signals})


class Contradiction(NamedTuple):
    """Something a file says that another one, or its own other half, cannot mean."""

    loc: tuple[str | int, ...]
    problem: str
    at_key: bool = True  # the key is wrong, not its value


def unknown_tiers(named: Iterable[str], tiers: Tiers) -> Iterator[Contradiction]:
    """Tiers a campaign type names and tiers.yaml lacks."""
    for key in named:
        if key not in tiers.keys:
            yield Contradiction(("tiers", key), f"tiers.yaml has no tier {key!r}.{did_you_mean(key, tiers.keys)}")


def pointless(kind: CampaignType) -> Iterator[Contradiction]:
    """What a campaign type says without effect: it reaches nobody, or caps messages that are never capped."""
    reached = [key for key in contacted(kind.tiers) if kind.tiers[key].share]
    if not reached and (kind.tiers or not kind.is_service):
        yield Contradiction(("tiers",), "no tier gets a share above 0%: this campaign type reaches nobody")
    if not kind.is_service:
        return
    if kind.caps:
        yield Contradiction(("caps",), "service messages are never capped: take it out, or choose another purpose")
    if kind.control:
        yield Contradiction(("control",), "service messages know no control group: everybody has to get them")
    for key, tier in kind.tiers.items():
        if not tier.never and (tier.share != 1 or tier.cap is not None or tier.min_gap is not None):
            problem = "service messages know no share, cap or rest: write {share: 100%} or never"
            yield Contradiction(("tiers", key), problem)


def unknown_gates(kind: CampaignType, sets: Collection[str]) -> Iterator[Contradiction]:
    """A gate set that does not exist, or signals nobody measures, in a campaign type."""
    if kind.gates.use not in sets:
        hint = did_you_mean(kind.gates.use, sets)
        yield Contradiction(("gates", "use"), f"gates.yaml has no set {kind.gates.use!r}.{hint}", at_key=False)
    yield from _unknown_signals(kind.gates.signals, ("gates", "signals"))


def unknown_signals(gates: Mapping[str, GateSet]) -> Iterator[Contradiction]:
    """Signals nobody measures, in the sets of gates.yaml."""
    for name, chosen in gates.items():
        yield from _unknown_signals(chosen.signals, (name, "signals"))


def _unknown_signals(named: Mapping[str, Gate], loc: tuple[str, ...]) -> Iterator[Contradiction]:
    for signal in named:
        if signal not in SIGNALS:
            yield Contradiction((*loc, signal), f"there is no signal {signal!r}.{did_you_mean(signal, SIGNALS)}")


def claimed_twice(lanes: Lanes) -> Iterator[Contradiction]:
    """Domains two mailbox providers list, or one lists as no address spells them."""
    owner: dict[str, str] = {}
    for key, provider in lanes.providers.items():
        for index, domain in enumerate(provider.domains):
            loc = ("providers", key, "domains", index)
            if domain != domain.lower() or not domain.isascii() or "@" in domain:
                yield Contradiction(loc, f"{domain!r} is no domain: lower case, IDN as xn--, without @", at_key=False)
            elif owner.setdefault(domain, key) != key:
                yield Contradiction(loc, f"{domain} belongs to the provider {owner[domain]!r} already", at_key=False)


def dropped_gates(own: Mapping[str, GateSet], shipped: Mapping[str, GateSet]) -> Iterator[Contradiction]:
    """Gates that go missing because a set of the same name replaces the shipped one whole: worth a look."""
    for name in own.keys() & shipped.keys():
        if lost := sorted(shipped[name].signals.keys() - own[name].signals.keys()):
            problem = f"replaces the shipped set and drops its gates on {', '.join(lost)}: add them, or `mode: off`"
            yield Contradiction((name,), problem)


def unreached(tiers: Tiers, types: Mapping[str, CampaignType]) -> Iterator[Contradiction]:
    """Tiers no campaign type names: worth a look."""
    reached = {key for kind in types.values() for key in contacted(kind.tiers)}
    for index, tier in enumerate(tiers.tiers):
        if tier.key not in reached:
            yield Contradiction(("tiers", index), f"no campaign type writes to the tier {tier.key!r}")


def laid_over(shipped: Lanes, own: Lanes) -> Lanes:
    """The user's providers over the shipped ones, key by key; `other` stays last, a label is never empty."""
    providers = dict(shipped.providers)
    for key, provider in own.providers.items():
        told = {name: getattr(provider, name) for name in provider.model_fields_set}
        providers[key] = providers.get(key, Provider(label=key)).model_copy(update=told)
    providers[OTHER] = providers.pop(OTHER, Provider(label="Other"))
    return Lanes(providers=providers, routes=shipped.routes | own.routes)


class Difference(NamedTuple):
    """One line of a policy comparison; an empty text means: not there."""

    path: str
    old: str
    new: str


def differences(old: PolicySet, new: PolicySet) -> list[Difference]:
    """What changes from one policy to the other; what comes or goes whole is one line."""
    before, after = ({**policy.document(), **policy.tiers.model_dump(mode="json")} for policy in (old, new))
    return list(_compared("", before, after))


def _compared(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if _keyed(old) and _keyed(new):
        order = [" > ".join(v["key"] for v in tiers) for tiers in (old, new)]
        if order[0] != order[1]:
            yield Difference(f"{path} (order)", *order)
        old, new = ({v["key"]: v for v in tiers} for tiers in (old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _compared(f"{path}.{key}".removeprefix("."), old.get(key), new.get(key))
    elif old != new:
        yield Difference(path, _line(old), _line(new))


def _keyed(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) and "key" in v for v in value)


def _line(value: Any) -> str:
    """A value as the files would say it, on one line."""
    if isinstance(value, dict):
        told = {key: _line(v) for key, v in value.items() if v not in (None, False, "", [], {})}
        return "{" + ", ".join(f"{key}: {text}" for key, text in told.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_line(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
