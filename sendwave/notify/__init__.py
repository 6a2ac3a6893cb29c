"""Doors alerts leave through, one file each."""

from __future__ import annotations

from typing import Any

from sendwave.plugins import Plugins

_PLUGINS = Plugins(__name__, "nothing notifies by")


def names() -> list[str]:
    """Every kind of channel there is."""
    return _PLUGINS.names()


def find(name: str) -> Any:
    """The channel class of that name: call it with its checked settings. Raises NotFound with those there are."""
    return _PLUGINS.find(name)
