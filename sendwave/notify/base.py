"""What every channel of alerts promises. A new one is one file beside this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict


class ChannelSettings(BaseModel):
    """Base of a channel's settings (under `notify` in sendwave.yaml); unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    by: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What is said at once: some contacts of one rule and one owner, or a sentence without contacts.

    `key` is the same at every attempt: a receiver that has seen it may forget the second one.
    """

    key: str
    rule: str
    title: str
    text: str
    owner: str = ""  # as the CRM calls them; '' where nobody owns these contacts
    contacts: Sequence[Mapping[str, Any]] = field(default=())  # contact_id, score, before, tier, owner
    now: datetime | None = None

    @property
    def lines(self) -> list[str]:
        """One line per contact, for people."""
        return [_line(entry) for entry in self.contacts]

    def document(self) -> dict[str, Any]:
        """Plain JSON values; the keys are stable."""
        return {
            "id": self.key,
            "rule": self.rule,
            "title": self.title,
            "text": self.text,
            "owner": self.owner or None,
            "contacts": [dict(entry) for entry in self.contacts],
        }


def _line(entry: Mapping[str, Any]) -> str:
    before = "no score" if entry.get("before") is None else f"{entry['before']:g}"
    tier = f" ({entry['tier']})" if entry.get("tier") else ""
    return f"{entry['contact_id']}: {before} → {entry['score']:g}{tier}"


class Channel(Protocol):
    """One way to tell people."""

    name: ClassVar[str]
    Settings: ClassVar[type[ChannelSettings]]

    def send(self, notice: Notice) -> None:
        """Deliver one notice.

        Raises:
            Transient: it was not delivered, may be later (`retry_after` seconds when the receiver said so).
            Permanent: it never will be as it is.

        """
        ...

    def close(self) -> None:
        """Give connections back."""
        ...
