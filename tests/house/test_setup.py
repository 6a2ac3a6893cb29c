"""Setting up from nothing: constraints, bootstrap, commands."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def constraints(root: Path) -> str:
    return (root / "constraints.txt").read_text(encoding="utf-8")


@pytest.fixture
def bootstrap(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """tools/bootstrap.py as a module, at work on a copy of the files it reads."""
    specification = importlib.util.spec_from_file_location("bootstrap", root / "tools" / "bootstrap.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "BIN", str(tmp_path / ".venv" / "bin"))
    monkeypatch.setattr(module, "STAMP", str(tmp_path / ".venv" / "stamp"))
    return module


def test_constraints_name_no_host(constraints: str) -> None:
    assert "://" not in constraints
    assert not re.search(r"(?m)^\s*(-i|-f|--index|--extra-index|--find-links|--trusted)", constraints)


def test_every_constraint_is_exact_and_has_hashes(constraints: str) -> None:
    entries = [entry for entry in re.split(r"(?m)^(?=\S)", constraints) if entry.strip()]
    assert len(entries) > 40
    assert [entry.split()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_constraints_cover_the_project(constraints: str, project: dict[str, Any]) -> None:
    pinned = {
        canonicalize_name(name): version for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==(\S+)", constraints)
    }
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"`make lock`: {requirement} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"`make lock`: {requirement} is pinned to {version}"


def test_bootstrap_is_understood_by_old_pythons(root: Path) -> None:
    source = (root / "tools" / "bootstrap.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    assert "from __future__ import annotations" not in source  # a syntax error before 3.7


def test_bootstrap_needs_nothing_but_python(root: Path) -> None:
    tree = ast.parse((root / "tools" / "bootstrap.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= set(sys.stdlib_module_names)
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


@pytest.mark.parametrize("module", ["ensurepip", "venv"])
def test_bootstrap_says_how_to_get_a_missing_module(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = bootstrap.missing_modules()
    assert module in message
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in message


def test_bootstrap_says_what_an_old_python_lacks(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "NEEDED", (99, 0))
    assert bootstrap.main() == 2
    assert "needs Python 99.0 or later" in capsys.readouterr().err


def test_bootstrap_sets_up_again_when_the_constraints_change(bootstrap: ModuleType, tmp_path: Path) -> None:
    assert bootstrap.stamped() is None
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    (tmp_path / ".venv" / "stamp").write_text(bootstrap.stamp())
    assert bootstrap.stamped() == bootstrap.stamp()
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert bootstrap.stamped() != bootstrap.stamp()


def test_every_make_target_is_explained(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?m)^([a-z%-]+):(?!=)(.*)$", makefile)
    assert {"demo", "test", "unit", "acceptance", "crash", "lock", "clean"} <= {name for name, _ in targets}
    assert [name for name, rest in targets if "## " not in rest] == []
    shown = subprocess.run(["make", "-s", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert [name for name, _ in targets if name not in shown] == []


def test_ci_runs_what_the_readme_says(root: Path) -> None:
    script = (root / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("make test")
    assert "set -euo pipefail" in script
