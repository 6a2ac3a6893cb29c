"""Doors alerts leave through, one file each."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from sendwave.errors import NotFound


def names() -> list[str]:
    """Every kind of channel there is: the modules of this package that hold an `Adapter`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if _adapter(module.name) is not None)


def find(name: str) -> Any:
    """The channel class of that name: call it with its checked settings. Raises NotFound with those there are."""
    found = _adapter(name) if name.isidentifier() else None
    if found is None:
        raise NotFound(f"nothing notifies by {name!r}; there are: {', '.join(names())}")
    return found


def _adapter(name: str) -> Any:
    try:
        module = importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as missing:
        if missing.name == f"{__name__}.{name}":
            return None
        raise
    return getattr(module, "Adapter", None)
