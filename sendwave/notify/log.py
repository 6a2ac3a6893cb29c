"""Alerts into the log: one line per notice, contacts by their id, never an address."""

from __future__ import annotations

from typing import ClassVar

from sendwave import log
from sendwave.notify.base import ChannelSettings, Notice

_LOG = log.get("alerts")


class LogSettings(ChannelSettings):
    """Nothing to set."""


class Adapter:
    """The channel every workspace has, whether it names it or not."""

    name: ClassVar[str] = "log"
    Settings: ClassVar[type[ChannelSettings]] = LogSettings

    def __init__(self, settings: ChannelSettings | None = None) -> None:
        """Nothing is opened."""

    def send(self, notice: Notice) -> None:
        """Write it down at level warning: an alert is for somebody to act upon."""
        _LOG.warning(
            "score_alert",
            rule=notice.rule,
            title=notice.title,
            text=notice.text,
            owner=notice.owner,
            contacts=[entry["contact_id"] for entry in notice.contacts],
        )

    def close(self) -> None:
        """Nothing is kept open."""
