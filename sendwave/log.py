"""Structured logs on stderr: one line per event, JSON unless a person is watching, never an address.

Event names are fixed snake_case words; what varies goes into keys. Standard-library loggers (APScheduler, SQLAlchemy)
come out of the same pipe.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Final

import structlog

_ADDRESS: Final = re.compile(r"[^\s<>@\"',;:=()\[\]]+@[^\s<>@\"',;:()\[\]]+")


def hide_addresses(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Mask anything shaped like an e-mail address: logs travel further than the data they speak of."""
    return {key: value if key.startswith("_") else _masked(value) for key, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _ADDRESS.sub("<address>", value) if "@" in value else value
    if isinstance(value, Mapping):
        return {_masked(key): _masked(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_masked(one) for one in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _masked(str(value))  # whatever it is, it would be printed like this


def configure(*, level: str = "info", pretty: bool | None = None) -> None:
    """Send all logs to stderr; `pretty` is a person's format, by default where stderr is a terminal."""
    pretty = sys.stderr.isatty() if pretty is None else pretty
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # a traceback speaks of addresses too
        hide_addresses,
    ]
    render: Any = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(ensure_ascii=False)
    threshold = logging.getLevelName(level.upper())
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the one of the moment
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=render))
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def get(name: str) -> Any:
    """A logger whose lines carry `where`."""
    return structlog.get_logger(where=name)
