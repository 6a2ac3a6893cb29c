"""The command line, run in this process, and workspaces of made-up people for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from sendwave import cli
from sendwave.clock import SystemClock
from sendwave.demo.people import make

KINDS = ("contacts", "consents", "suppressions", "scores", "sends")

TYPE = """\
type: newsletter
tiers:
  burning: {share: 100%}
  hot:     {share: 100%}
  warm:    {share: 100%}
control: 0%
waves: {ramp: [20%, 80%], soak: 1s, soak_max: 1s, on_inconclusive: release}
"""
"""No caps, no window, hardly any soak and nothing waited for: what a real daemon can finish within a test."""


@dataclass(frozen=True)
class Answer:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Types commands for one workspace."""

    home: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, expect: int = 0) -> Answer:
        """Run a command in the workspace; fails when it ends with another code."""
        return self.plain(*arguments, "--home", self.home, expect=expect)

    def json(self, *arguments: object, expect: int = 0) -> Any:
        """The document a command prints."""
        return self(*arguments, "--json", expect=expect).document

    def plain(self, *arguments: object, expect: int = 0) -> Answer:
        """Run a command that belongs to no workspace."""
        self.capture.readouterr()
        with own_logs():
            code = cli.run([str(argument) for argument in arguments])
        answer = Answer(code, *self.capture.readouterr())
        assert code == expect, f"sendwave {' '.join(map(str, arguments))}: {code}\n{answer.out}\n{answer.err}"
        return answer


@contextmanager
def own_logs() -> Iterator[None]:
    """Give the log set-up back as it was: commands point it at the standard error of their moment."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()


def populated(shell: Shell, people: int = 400) -> Shell:
    """That many made-up people imported, and the campaign `first` as a draft; the workspace is made where it is not."""
    if not (shell.home / "sendwave.yaml").exists():
        shell.plain("init", shell.home)
    make(shell.home / "data", contacts=people, seed=1, now=SystemClock().now())
    for kind in KINDS:
        shell("import", kind, shell.home / "data" / f"{kind}.csv")
    (shell.home / "policies/types/newsletter.yaml").write_text(TYPE, encoding="utf-8")
    shell("campaign", "create", shell.home / "campaigns/first.yaml")
    return shell
