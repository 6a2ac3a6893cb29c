"""The whole policy: composes the models each rule owns, checks them against each other, names its version."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Any

from pydantic import Field

from sendwave.rules.gates import Gate, GateSet
from sendwave.rules.pressure import Cap, TierPressure
from sendwave.rules.throttle import Lanes
from sendwave.rules.tiers import Tiers
from sendwave.rules.units import Percent, Policy, parse_percent
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

    use: str = "default"
    signals: dict[str, Gate] = Field(default_factory=dict, description="Gates that replace those of the set.")


class CampaignType(Policy):
    """One file of policies/types/: who may be contacted, how often, in what waves, under which gates."""

    type: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    label: str = ""
    purpose: str = Field("marketing", description="The consent it needs; 'service' needs none and is never capped.")
    channel: Channel = Channel.EMAIL
    importance: int = Field(50, ge=0, le=100, description="Who wins when two campaigns compete for one person.")
    tiers: dict[str, TierPressure] = Field(
        default_factory=dict, description="By tier key; one left out is not contacted."
    )
    caps: tuple[Cap, ...] = ()
    control: Percent = Field(parse_percent("0%"), description="Share that gets nothing, to measure lift.")
    waves: WavePlan
    gates: GateUse = GateUse()

    @property
    def is_service(self) -> bool:
        """Service messages need no marketing consent and are never capped."""
        return self.purpose == SERVICE


class PolicySet(Policy):
    """Everything the files say, checked together. Immutable: a reload builds another one."""

    tiers: Tiers
    types: dict[str, CampaignType]
    gates: dict[str, GateSet]
    lanes: Lanes

    def document(self) -> dict[str, Any]:
        """The canonical JSON document stored with each campaign at approval."""
        return self.model_dump(mode="json")

    @property
    def version(self) -> str:
        """sha256 (hex) over the canonical document: comments and key order do not matter."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def gates_of(self, kind: CampaignType) -> GateSet:
        """The gate set a campaign type is judged by, with its own overrides applied."""
        chosen = self.gates[kind.gates.use]
        return chosen.model_copy(update={"signals": {**chosen.signals, **kind.gates.signals}})
