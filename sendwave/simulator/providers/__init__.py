"""The providers the simulator can be, one file each, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from sendwave.errors import NotFound, did_you_mean


def names() -> list[str]:
    """Every provider there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> Any:
    """The class of that provider: call it with (keys). Raises NotFound."""
    if name not in names():
        raise NotFound(f"the simulator knows no provider {name!r}.{did_you_mean(name, names())}")
    return importlib.import_module(f"{__name__}.{name}").Speaker
