"""Doors to ESPs, one file each with both directions: handing batches over and understanding what comes back."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sendwave.errors import BadInput, NotFound
from sendwave.esp.base import EspAdapter


def names() -> list[str]:
    """Every ESP there is: the modules of this package that hold an `Adapter`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if _adapter(module.name) is not None)


def find(name: str) -> Any:
    """The adapter class of that ESP: call it with (settings, home=…, token_key=…).

    Raises:
        NotFound: there is none of that name; the message lists those there are.

    """
    found = _adapter(name) if name.isidentifier() else None
    if found is None:
        raise NotFound(f"no ESP adapter is called {name!r}; there are: {', '.join(names())}")
    return found


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


def _adapter(name: str) -> Any:
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as missing:
        if missing.name == f"{__name__}.{name}":
            return None
        raise
    return getattr(module, "Adapter", None)
