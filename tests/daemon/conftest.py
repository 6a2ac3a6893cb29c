"""Workspaces for a daemon: an empty one, and one with a campaign that only waits to be sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Shell, populated

from sendwave.workspace import Workspace

SETTINGS = """\
routes:
  rehearsal: {esp: simulated, seed: 1, batch_size: 10, state: esp}
"""
LANES = "routes: {rehearsal: {pace: 30 per 1s, burst: 20}}\n"


@pytest.fixture
def house(tmp_path: Path, sqlite_template: Path) -> Iterator[Workspace]:
    """A workspace without people or campaigns."""
    home = tmp_path / "home"
    (home / "state").mkdir(parents=True)
    (home / "sendwave.yaml").write_text(SETTINGS)
    shutil.copyfile(sqlite_template, home / "state/sendwave.db")
    made = Workspace.open(home, {})
    yield made
    made.close()


@pytest.fixture(scope="session")
def daemon_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one that is copied lies; filled by the first test that asks."""
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def shell(tmp_path: Path, daemon_template: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line in a workspace whose campaign `first` is approved; its ESP remembers who was written to."""
    if not daemon_template.exists():
        first = Shell(daemon_template, capsys)
        first.plain("init", first.home)
        (first.home / "sendwave.yaml").write_text(SETTINGS)
        (first.home / "policies/lanes.yaml").write_text(LANES)
        populated(first, people=250)
        first("campaign", "plan", "first")
        first("campaign", "approve", "first")
    shutil.copytree(daemon_template, tmp_path / "home")
    return Shell(tmp_path / "home", capsys)
