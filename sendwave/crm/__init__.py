"""Doors to CRM systems, one file each: contacts in, scores and tiers out."""

from __future__ import annotations

from typing import Any

from sendwave.plugins import Plugins

_PLUGINS = Plugins(__name__, "no CRM adapter is called")


def names() -> list[str]:
    """Every CRM there is."""
    return _PLUGINS.names()


def find(name: str) -> Any:
    """The CRM's class: call it with (settings, home=…). Raises NotFound with those there are."""
    return _PLUGINS.find(name)
