"""Tables for people: whole words in a narrow terminal, titles on one line, figures as long as they say something."""

from __future__ import annotations

import sys

import click
import pytest

from sendwave.cli.output import figures, table

NAMES = ("signal", "wave", "provider", "events", "matured", "rate", "surely within", "limit", "verdict")
ROW = ("hard_bounce", "all", "microsoft", 212, 60179, "11.9 %", "9.24 – 15.0 %", "5.00 %", "halt")


@pytest.mark.parametrize(("columns", "lined"), [(80, False), (120, True)])
def test_every_value_stands_whole_on_its_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, lined: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table("Signals, all waves [of one campaign]", NAMES, [ROW, ROW])
    said = click.unstyle(capsys.readouterr().out).splitlines()
    assert all(len(line) <= columns for line in said)
    assert "Signals, all waves [of one campaign]" in said[0]
    assert (
        sum(all(str(cell) in line for cell in ("hard_bounce", "microsoft", "9.24 – 15.0 %", "halt")) for line in said)
        == 2
    )
    assert any("┃" in line for line in said) is lined


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, ""), (0.0, "0.000"), (0.00042, "0.042"), (0.0924, "9.24"), (0.15, "15.0"), (1.0, "100.0")],
)
def test_figures_are_as_long_as_they_say_something(value: float | None, told: str) -> None:
    assert figures(value) == told
