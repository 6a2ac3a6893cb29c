"""What goes wrong at the command line: a code scripts can read, and words that say what to do."""

from __future__ import annotations

import fcntl
from pathlib import Path

import click
import pytest
from command_line import Shell
from sqlalchemy import create_engine, text

from sendwave import cli


def test_ok_is_0_and_findings_are_1(shell: Shell) -> None:
    shell("check")
    (shell.home / "sendwave.yaml").write_text("routes: {mail: {esp: smpt}}\n")
    found = shell("check", expect=1)
    assert "smtp" in found.out


def test_a_misspelt_policy_key_is_2_and_names_its_place(shell: Shell) -> None:
    path = shell.home / "policies/types/newsletter.yaml"
    path.write_text(path.read_text().replace("control:", "contorl:"))
    told = shell("campaign", "plan", "first", expect=2)
    line = next(n for n, row in enumerate(path.read_text().splitlines(), 1) if row.startswith("contorl"))
    assert f"newsletter.yaml:{line}:1" in told.err
    assert "control" in told.err
    assert told.out == ""
    checked = shell.json("check", expect=1)
    assert not checked["ok"]
    assert f"newsletter.yaml:{line}:1" in checked["findings"][0]


def test_all_mistakes_of_all_files_are_told_at_once(shell: Shell) -> None:
    (shell.home / "policies/lanes.yaml").write_text("routes: {rehearsal: {pace: 100}}\n")
    (shell.home / "policies/types/brand.yaml").write_text("type: brand\nimportence: 3\n")
    findings = shell.json("check", expect=1)["findings"]
    assert any("lanes.yaml" in finding for finding in findings)
    assert any("brand.yaml" in finding and "importance" in finding for finding in findings)


def test_a_mistake_is_told_once(shell: Shell) -> None:
    path = shell.home / "policies/types/newsletter.yaml"
    path.write_text(path.read_text().replace("control:", "contorl:"))
    assert len(shell.json("check", expect=1)["findings"]) == 1


def test_policies_that_are_not_there_do_not_become_the_shipped_ones(shell: Shell) -> None:
    settings = shell.home / "sendwave.yaml"
    settings.write_text(settings.read_text().replace("policies: policies", "policies: polices"))
    assert "no folder polices" in shell("check", expect=2).err
    settings.write_text("time_zone: Europe/Paris\n")
    shell("check")


def test_a_place_nobody_can_write_to_is_2_and_no_traceback(bare: Shell) -> None:
    told = bare.plain("init", "/proc/sendwave/here", expect=2).err
    assert "/proc/sendwave" in told
    assert "who may write there" in told


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["campain", "list"], "'campaign'"),
        (["campaign", "aprove", "first"], "'approve'"),
        (["polcy"], "'policy'"),
        (["tiers", "sugest"], "'suggest'"),
        (["campaign", "list", "--jsn"], "--json"),
        (["import", "contact", "x.csv"], "contacts"),
    ],
)
def test_a_slip_of_the_finger_is_2_and_gets_a_hint(bare: Shell, words: list[str], hint: str) -> None:
    assert hint in bare.plain(*words, expect=2).err


@pytest.mark.parametrize("until", ["tomorrow", "2026-03-02T10:00"])
def test_until_wants_an_instant_with_its_zone(shell: Shell, until: str) -> None:
    assert "+01:00" in shell("run", "--until", until, expect=2).err


def test_resuming_a_cancelled_campaign_is_3(shell: Shell) -> None:
    shell("campaign", "cancel", "first")
    assert "cancelled" in shell("campaign", "resume", "first", expect=3).err


def test_approving_without_a_plan_is_3(shell: Shell) -> None:
    assert "no plan yet" in shell("campaign", "approve", "first", expect=3).err


def test_approving_a_plan_that_an_import_made_stale_is_3(shell: Shell) -> None:
    shell("campaign", "plan", "first")
    file = shell.home / "new.csv"
    file.write_text("contact_id,email\nN1,newcomer@lune.example\n")
    shell("import", "contacts", file)
    told = shell("campaign", "approve", "first", expect=3).err
    assert "stale" in told
    assert "contacts" in told
    shell("campaign", "plan", "first")
    shell("campaign", "approve", "first")


def test_approving_after_the_policies_changed_is_3(shell: Shell) -> None:
    shell("campaign", "plan", "first")
    path = shell.home / "policies/types/newsletter.yaml"
    path.write_text(path.read_text().replace("control: 0%", "control: 5%"))
    assert "policies" in shell("campaign", "approve", "first", expect=3).err


@pytest.mark.parametrize(
    "words",
    [("show", "fisrt"), ("plan", "fisrt"), ("approve", "fisrt"), ("audit", "fisrt"), ("pause", "fisrt")],
    ids=lambda words: words[0],
)
def test_an_unknown_campaign_is_4_with_a_hint(shell: Shell, words: tuple[str, ...]) -> None:
    told = shell("campaign", *words, expect=4)
    assert "'first'" in told.err
    assert told.out == ""


def test_an_unknown_contact_is_4(shell: Shell) -> None:
    assert "C9999999" in shell("explain", "first", "C9999999", expect=4).err


def test_no_workspace_is_4(bare: Shell) -> None:
    assert "sendwave init" in bare("campaign", "list", expect=4).err


def test_a_second_daemon_on_a_sqlite_workspace_is_5_and_names_the_first(shell: Shell) -> None:
    with (shell.home / "state/sendwave.lock").open("w") as lock:
        lock.write("pid 4711 on atelier since 2026-03-02 09:00:00 UTC")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = shell("run", "--until", "idle", expect=5).err
    assert "pid 4711" in told
    shell("run", "--until", "idle")


def test_a_store_of_a_newer_version_is_2_and_asks_for_an_upgrade(shell: Shell) -> None:
    store = create_engine(f"sqlite:///{shell.home}/state/sendwave.db")
    with store.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.dispose()
    assert "upgrade" in shell("campaign", "list", expect=2).err


@pytest.mark.parametrize("fault", [KeyboardInterrupt, click.Abort])
def test_ctrl_c_is_130(bare: Shell, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(cli.cli, "invoke", interrupted)
    bare.plain("check", expect=130)


@pytest.mark.parametrize("example", ["retail", "finance"])
def test_a_new_workspace_passes_its_check(bare: Shell, example: str) -> None:
    made = bare.plain("init", bare.home, "--example", example, "--json").document
    assert all((bare.home / file).is_file() for file in made["files"])
    assert bare.json("check")["findings"] == []


def test_init_overwrites_nothing(bare: Shell) -> None:
    kept = bare.home / "policies/tiers.yaml"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    assert "policies/tiers.yaml" in bare.plain("init", bare.home, expect=2).err
    assert kept.read_text() == "mine"
    assert [path for path in bare.home.rglob("*") if path.is_file()] == [kept]


def test_init_again_changes_nothing(bare: Shell) -> None:
    bare.plain("init", bare.home)
    before = _contents(bare.home)
    assert "already" in bare.plain("init", bare.home, "--example", "finance", expect=2).err
    assert _contents(bare.home) == before


def _contents(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
