"""What every CRM adapter promises. A new one is one file beside this one (docs/adding/crm.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from sendwave.rules.units import Duration


class CrmSettings(BaseModel):
    """Base of a CRM's settings (under `crm` in sendwave.yaml); unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    system: str
    pull_every: Duration | None = Field(
        default=None,
        description="How often the daemon brings in what is new; without it `sendwave crm pull` alone does.",
    )
    push_scores: bool = Field(
        default=False, description="Whether the daemon hands new scores over; else `sendwave crm push` alone does."
    )

    @field_validator("pull_every")
    @classmethod
    def _not_always(cls, every: timedelta | None) -> timedelta | None:
        if every is not None and not timedelta(minutes=1) <= every <= timedelta(days=7):
            raise ValueError("pull_every is at least 1m, so that a CRM is not asked all the time, and at most 7d")
        return every


@dataclass(frozen=True, slots=True)
class Delivery:
    """Files of one kind of import that belong together."""

    kind: str  # contacts, consents … as `sendwave import` knows them
    paths: tuple[Path, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)  # column -> field
    cursor: str = ""  # how far the CRM is read once this has landed; '' says nothing about it
    required: bool = False  # what follows makes no sense unless this lands


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a delivery: `problem` is empty where it landed, less the `rejected` lines in `report`."""

    landed: int = 0
    rejected: int = 0
    report: Path | None = None
    problem: str = ""
    findings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record the CRM did not take."""

    contact_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a CRM made of the scores it was given."""

    taken: int
    refused: Sequence[Refusal] = ()


class Crm(Protocol):
    """Both directions of one CRM. Used by one thread at a time; `home` is the workspace."""

    name: ClassVar[str]
    Settings: ClassVar[type[CrmSettings]]
    changes_only: ClassVar[bool]  # push gets who changed since the last push, instead of everybody

    def pull(self, cursor: str, *, now: datetime) -> Iterator[Delivery]:
        """What is new since `cursor` ('' for the first time), to be landed one after the other.

        Raises:
            Transient: not now; nothing is lost by trying later.
            Permanent: never with these settings.
            Busy: somebody else is pulling.

        """
        ...

    def settle(self, delivery: Delivery, outcome: Outcome, *, now: datetime) -> None:
        """The delivery landed, or cannot: put its files away."""
        ...

    def push(self, rows: Iterable[pa.RecordBatch], *, now: datetime) -> Pushed:
        """Hand scores over: contact_id, score, tier, label, scored_ts (epoch seconds), grid_version; NULL is no score.

        Repeating it does no harm. Raises Transient or Permanent when the whole of it failed.
        """
        ...

    def close(self) -> None:
        """Give connections back. Another thread may call it: what is under way then ends soon, with Transient."""
        ...
