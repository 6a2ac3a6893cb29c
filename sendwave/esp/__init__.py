"""Doors to ESPs, one file each with both directions: handing batches over and understanding what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sendwave.errors import BadInput, NotFound
from sendwave.esp.base import EspAdapter
from sendwave.plugins import Plugins

_PLUGINS = Plugins(__name__, "no ESP adapter is called")


def names() -> list[str]:
    """Every ESP there is."""
    return _PLUGINS.names()


def find(name: str) -> Any:
    """The class of that ESP: call it with (settings, home=…, token_key=…). Raises NotFound with those there are."""
    return _PLUGINS.find(name)


def make(settings: Mapping[str, Any], *, route: str, home: Path, token_key: bytes) -> EspAdapter:
    """The adapter of one route of sendwave.yaml.

    Raises:
        BadInput: the settings are wrong; `findings` has one line per mistake, each naming the key.

    """
    try:
        kind = find(str(settings.get("esp", "")))
        checked = kind.Settings.model_validate(dict(settings))
    except NotFound as missing:
        raise BadInput(f"routes.{route}.esp: {missing}") from None
    except ValidationError as wrong:
        known = ", ".join(kind.Settings.model_fields)
        findings = tuple(
            f"routes.{route}.{'.'.join(str(step) for step in error['loc'])}: "
            + (f"no such setting; there are: {known}" if error["type"] == "extra_forbidden" else error["msg"])
            for error in wrong.errors()
        )
        raise BadInput(f"route {route!r} cannot be used: {'; '.join(findings)}", findings) from None
    adapter: EspAdapter = kind(checked, home=home, token_key=token_key)
    return adapter
