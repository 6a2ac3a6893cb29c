"""Tests against a real mail server. Where there is none, they are deselected, and the closing lines say so."""

from __future__ import annotations

import postfix_server
import pytest

_LEFT_OUT = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without Postfix, or without the right to start it, nothing here can be true or false."""
    real = [item for item in items if item.get_closest_marker("acceptance")]
    if not real or postfix_server.available():
        return
    config.stash[_LEFT_OUT] = len(real)
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in real]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not run, and what it takes."""
    if left_out := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"{left_out} acceptance tests not run: they need Postfix, and root to start it")
