"""Alerts through Apprise (extra `alerts`): chats, phones and ticket systems, each behind one URL.

See Apprise's list of services for the URLs; write their secrets as `${NAME}` in sendwave.yaml.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from sendwave.errors import BadInput, Transient
from sendwave.notify.base import ChannelSettings, Notice


class AppriseSettings(ChannelSettings):
    """Where to."""

    urls: tuple[str, ...] = Field(min_length=1, repr=False)


class Adapter:
    """All URLs get every notice."""

    name: ClassVar[str] = "apprise"
    extra: ClassVar[str] = "alerts"
    Settings: ClassVar[type[ChannelSettings]] = AppriseSettings

    def __init__(self, settings: AppriseSettings) -> None:
        """Raises BadInput without Apprise, or for a URL it does not know; the URL itself is never shown."""
        try:
            import apprise
        except ImportError as missing:
            raise BadInput("this channel needs Apprise: install sendwave[alerts]") from missing
        self._all: Any = apprise.Apprise()
        for place, url in enumerate(settings.urls):
            if not self._all.add(url):
                raise BadInput(f"Apprise does not understand urls[{place}] (shown nowhere: it may hold a secret)")

    def send(self, notice: Notice) -> None:
        """Tell all of them. Raises Transient when one could not be: Apprise says neither which nor why."""
        if not self._all.notify(title=notice.title, body="\n".join([notice.text, *notice.lines])):
            raise Transient("Apprise could not deliver to every service")

    def close(self) -> None:
        """Nothing is kept open."""
