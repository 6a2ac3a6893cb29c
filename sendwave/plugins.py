"""Adapters found by name: each package of doors has one module per adapter, which holds a class `Adapter`."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any

from sendwave.errors import NotFound


@dataclass(frozen=True, slots=True)
class Plugins:
    """The adapters of one package; `unknown` begins the message about a name there is none for."""

    package: str
    unknown: str

    def names(self) -> list[str]:
        """Every adapter there is."""
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return sorted(module.name for module in modules if self._adapter(module.name) is not None)

    def find(self, name: str) -> Any:
        """The class of that name. Raises NotFound with those there are."""
        found = self._adapter(name) if name.isidentifier() else None
        if found is None:
            raise NotFound(f"{self.unknown} {name!r}; there are: {', '.join(self.names())}")
        return found

    def _adapter(self, name: str) -> Any:
        path = f"{self.package}.{name}"
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as missing:
            if missing.name == path:
                return None
            raise  # the adapter is there, and a library it needs is not
        return getattr(module, "Adapter", None)
