"""The size and manners of the code, measured."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

from sendwave import faults

LONGEST_MODULE = 400
LONGEST_FUNCTION_OF_NINE_IN_TEN = 30

Modules = dict[str, ast.Module]


def functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, its docstring apart: an explanation must never be a reason to split."""
    assert function.end_lineno is not None
    first = function.body[0]
    docstring = ast.get_docstring(function) is not None
    explained = (first.end_lineno or 0) - first.lineno + 1 if docstring else 0
    return function.end_lineno - function.lineno + 1 - explained


def test_functions_stay_short(modules: Modules) -> None:
    lengths = {
        f"{path}:{function.lineno} {function.name}": length(function)
        for path, tree in modules.items()
        for function in functions(tree)
    }
    ninth = statistics.quantiles(lengths.values(), n=10)[8]
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:10]
    assert ninth <= LONGEST_FUNCTION_OF_NINE_IN_TEN, longest


def test_modules_stay_short(root: Path, modules: Modules) -> None:
    lines = {path: len((root / path).read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {path: count for path, count in lines.items() if count > LONGEST_MODULE} == {}


def test_no_module_is_a_drawer_for_everything(modules: Modules) -> None:
    drawers = {"utils", "util", "helpers", "common", "misc", "shared"}
    assert [path for path in modules if drawers & set(Path(path).with_suffix("").parts)] == []


def test_every_public_name_is_explained(modules: Modules) -> None:
    missing = []
    for path, tree in modules.items():
        if "/migrations/versions/" in path:
            continue  # Alembic names their functions
        if not ast.get_docstring(tree):
            missing.append(path)
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_"
            if public and not ast.get_docstring(node):
                missing.append(f"{path}:{node.lineno} {node.name}")
    assert missing == []


def test_adapters_are_found_by_name_and_never_imported(modules: Modules) -> None:
    adapters = {
        "sendwave." + ".".join(Path(path).with_suffix("").parts[1:])
        for path, tree in modules.items()
        if path.startswith("sendwave/esp/")
        and any(isinstance(node, ast.ClassDef) and node.name == "Adapter" for node in tree.body)
    }
    imported = {
        f"{path} imports {name}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        for name in imports(node)
        if name in adapters
    }
    assert imported == set()


def imports(node: ast.AST) -> list[str]:
    """The modules an import statement may name."""
    if isinstance(node, ast.ImportFrom):
        return [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_nothing_is_left_for_later(texts: dict[str, str]) -> None:
    later = re.compile(
        r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|NotImplemented" r"Error|pytest\.(mark\.)?(sk" r"ip|xf" r"ail)"
    )
    found = [
        f"{path}:{number}"
        for path, text in texts.items()
        if path.endswith((".py", ".toml", "Makefile"))
        for number, line in enumerate(text.splitlines(), 1)
        if later.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("point", faults.POINTS)
def test_every_fault_point_is_passed_somewhere(modules: Modules, point: str) -> None:
    places = [
        f"{path}:{node.lineno}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("point")
        and [argument.value for argument in node.args if isinstance(argument, ast.Constant)] == [point]
    ]
    assert places, f"nothing calls faults.point({point!r})"
