"""Blocks of a guide, pasted: shell lines by a real shell, commands of sendwave in this process."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Shell

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


class Page:
    """A guide, and the workspace its reader makes with it."""

    def __init__(self, name: str, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        self.text = (GUIDES / name).read_text(encoding="utf-8")
        self.shell, self._patch = shell, monkeypatch
        shell.home.parent.mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(shell.home.parent)

    def section(self, heading: str) -> str:
        """Everything below a heading, up to the next one of its level."""
        found = self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        assert found, f"no section {heading!r}"
        return found

    def blocks(self, heading: str, kind: str) -> list[str]:
        """The blocks of one kind in a section."""
        return re.findall(rf"```{kind}\n(.*?)```", self.section(heading), re.DOTALL)

    def paste(self, heading: str) -> None:
        """Everything of a section in its order: `sh` is pasted; `console` must print what it shows, in its order."""
        for kind, block in re.findall(r"```(sh|console)\n(.*?)```", self.section(heading), re.DOTALL):
            self.sh(block) if kind == "sh" else self.console(block)

    def sh(self, block: str) -> None:
        """A block as the shell reads it."""
        lines: list[str] = []
        for line in block.replace("\\\n", " ").splitlines():
            if not _OURS.match(line):
                lines.append(line)
                continue
            self._bash(lines)
            lines = []
            for command in _unrolled(line):
                self._ours(command)
        self._bash(lines)

    def console(self, block: str) -> None:
        """Commands behind `$`, each with lines it must print, in their order; `(exit 2)` is the code they end with."""
        for part in block.replace("\\\n", " ").split("$ sendwave ")[1:]:
            command, *shown = part.splitlines()
            left = _EXIT.fullmatch(shown[-1]) if shown else None
            expect, shown = (int(left[1]), shown[:-1]) if left else (0, shown)
            answer = self.shell(*shlex.split(command), expect=expect)
            out, at = (answer.out + answer.err).replace("\u202f", " ").replace("\u00a0", " "), 0
            for line in shown:
                at = out.find(line, at)
                assert at >= 0, f"{command}: {line!r} is not (or not there) in\n{out}"

    def _ours(self, command: str) -> None:
        if match := re.fullmatch(r"sendwave init (\S+) && cd \1", command):
            self.shell.plain("init", self.shell.home)
            self._patch.chdir(self.shell.home)
            assert match
            return
        self.shell(*shlex.split(command)[1:])

    def _bash(self, lines: list[str]) -> None:
        if any(line.strip() for line in lines):
            text = f'python3() {{ "{sys.executable}" "$@"; }}\n' + "\n".join(lines)
            subprocess.run(["bash", "-euc", text], check=True, cwd=Path.cwd(), timeout=60)


_EXIT = re.compile(r"\(exit (\d+)\)")
_OURS = re.compile(r"(for \w+ in [^;]+; do )?sendwave ")


def _unrolled(line: str) -> list[str]:
    """A loop over commands of ours as the commands it makes."""
    loop = re.fullmatch(r"for (\w+) in ([^;]+); do (.*?);? done", line)
    if loop is None:
        return [line]
    parts = [part.strip() for part in loop[3].split(";") if part.strip()]
    return [part.replace(f"${loop[1]}", value) for value in loop[2].split() for part in parts]
