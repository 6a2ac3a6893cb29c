"""The guide for operators claims nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

GUIDE = "docs/guides/operations.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def _tests(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)}


def test_every_line_of_its_tables_names_a_test(root: Path) -> None:
    rows = re.findall(r"(?m)^\|(?!---| what ).*\|$", (root / GUIDE).read_text("utf-8"))
    assert len(rows) > 20
    assert [row for row in rows if not TEST.search(row.split("|")[-2])] == []


def test_the_tests_it_names_exist(root: Path) -> None:
    named = TEST.findall((root / GUIDE).read_text("utf-8"))
    missing = [
        f"{file}::{name}" for file, name in named if not (root / file).is_file() or name not in _tests(root / file)
    ]
    assert missing == []


def test_its_commands_exist(root: Path) -> None:
    from click.testing import CliRunner

    from sendwave.cli import cli

    for command in (["campaign", "unknown"], ["campaign", "settle"], ["backup"], ["restore"]):
        assert f"sendwave {' '.join(command)} " in (root / GUIDE).read_text("utf-8")
        assert CliRunner().invoke(cli, [*command, "--help"]).exit_code == 0
