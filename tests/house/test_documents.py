"""Documents that would otherwise grow old unseen."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import sendwave


def test_the_architecture_page_names_every_contract(root: Path, project: dict[str, Any]) -> None:
    page = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    names = [contract["id"] for contract in project["tool"]["importlinter"]["contracts"]]
    assert re.findall(r"(?m)^\| \*\*(\w+)\*\* \|", page) == names


def test_the_lifecycle_is_drawn_as_the_code_has_it(root: Path) -> None:
    specification = importlib.util.spec_from_file_location("diagram", root / "tools" / "lifecycle_diagram.py")
    assert specification is not None
    assert specification.loader is not None
    diagram = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(diagram)
    page = (root / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert diagram.with_diagrams(page) == page, "rules/lifecycle.py changed: run `make diagram`"


def test_no_layer_is_optional(project: dict[str, Any]) -> None:
    contracts = project["tool"]["importlinter"]["contracts"]
    optional = [layer for contract in contracts for layer in contract.get("layers", []) if "(" in layer]
    assert optional == [], "parentheses let a module disappear unnoticed"


def test_the_changelog_knows_this_version(root: Path, project: dict[str, Any]) -> None:
    assert project["project"]["version"] == sendwave.__version__
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"(?m)^## \[{re.escape(sendwave.__version__)}\]", changelog)


def test_decisions_are_numbered_and_short(root: Path) -> None:
    pages = sorted((root / "docs" / "decisions").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 40, page.name
        assert lines[0].startswith(f"# {page.name[:4]} · "), page.name


def test_links_between_documents_lead_somewhere(root: Path, texts: dict[str, str]) -> None:
    broken = [
        f"{name}: {target}"
        for name, text in texts.items()
        if name.endswith(".md")
        for target in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)[^)]*\)", text)
        if not ((root / name).parent / target).exists()
    ]
    assert broken == []


def test_the_licence_is_the_whole_apache_2(root: Path) -> None:
    text = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text[:200]
    assert "END OF TERMS AND CONDITIONS" in text


def test_nothing_names_one_machine_or_a_package_host(texts: dict[str, str]) -> None:
    hosts = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "yarn" + "pkg.com"]
    places = [r"(?<![\w.~-])/" + place + "/" for place in ("work", "ro" + "ot", "ho" + "me", "Us" + "ers")]
    pattern = re.compile("|".join([re.escape(host) for host in hosts] + places))
    found = [
        f"{name}:{number} {line.strip()[:80]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
