"""A workspace made once, copied for each test that wants one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from command_line import Shell, populated


@pytest.fixture(scope="session")
def cli_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the one that is copied lies; filled by the first test that asks."""
    return tmp_path_factory.mktemp("template") / "home"


@pytest.fixture
def shell(tmp_path: Path, cli_template: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line in a workspace of 400 people with the draft campaign `first`."""
    if not cli_template.exists():
        populated(Shell(cli_template, capsys))
    shutil.copytree(cli_template, tmp_path / "home")
    return Shell(tmp_path / "home", capsys)


@pytest.fixture
def bare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line beside an empty folder."""
    return Shell(tmp_path / "home", capsys)
