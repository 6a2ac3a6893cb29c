"""`sendwave route`: one ESP stopped and freed for every campaign."""

from __future__ import annotations

import pytest
from command_line import Shell


@pytest.mark.usefixtures("soon_idle")
def test_a_route_is_paused_by_a_person_and_freed_by_one(shell: Shell) -> None:
    (name,) = [one["route"] for one in shell.json("route", "list")]
    assert shell.json("route", "list")[0]["holds"] == []
    shell.json("campaign", "plan", "first")
    shell.json("campaign", "approve", "first")

    assert shell.json("route", "pause", name, "--reason", "the ESP moves house") == {"route": name, "done": "paused"}
    (hold,) = shell.json("route", "list")[0]["holds"]
    assert (hold["kind"], hold["detail"]) == ("pause", "the ESP moves house")
    shell("run", "--until", "idle")
    assert shell.json("campaign", "audit", "first")["sent"] == 0, "a route that is paused takes nothing"

    freed = shell.json("route", "free", name)
    assert freed == {"route": name, "done": "freed", "lifted": [hold["reason"]]}
    shell("run", "--until", "idle")
    assert shell.json("campaign", "audit", "first")["sent"] > 0


def test_what_cannot_be_done_is_said(shell: Shell) -> None:
    (name,) = [one["route"] for one in shell.json("route", "list")]
    assert f"nothing holds route {name}" in shell("route", "free", name, expect=3).err
    shell.json("route", "pause", name, "--reason", "maintenance")
    assert "is paused already" in shell("route", "pause", name, "--reason", "maintenance", expect=3).err
    assert f"Did you mean '{name}'?" in shell("route", "pause", name + "s", "--reason", "x", expect=4).err
