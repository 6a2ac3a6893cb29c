"""`sendwave doctor`: one line per check, exit code 1 for problems only."""

from __future__ import annotations

from command_line import Shell


def test_a_workspace_just_made_is_well(bare: Shell) -> None:
    bare.plain("init", bare.home)
    told = bare.json("doctor")
    assert (told["problems"], told["warnings"]) == (0, 0)
    assert {"check", "state", "detail", "next"} == set(told["checks"][0])
    assert bare("doctor").out.endswith("all well\n")


def test_warnings_are_no_findings_and_problems_are(bare: Shell) -> None:
    bare.plain("init", bare.home)
    settings = bare.home / "sendwave.yaml"
    web = "web: {public_url: 'http://localhost:8484'}\n"
    relay = "  by_http: {esp: brevo, api_key: x, webhook_token: secret}\n"
    settings.write_text(settings.read_text() + relay + web)
    told = bare.json("doctor")
    assert (told["problems"], told["warnings"]) == (0, 1)

    (bare.home / "policies/gates.yaml").write_text("a: [")
    told = bare.json("doctor", expect=1)
    assert (told["problems"], told["warnings"]) == (1, 1)
    answer = bare("doctor", expect=1)
    assert "problems: 1, warnings: 1" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "Traceback" not in answer.out + answer.err


def test_where_there_is_no_workspace(bare: Shell) -> None:
    answer = bare("doctor", expect=1)
    assert "sendwave init" in answer.out
    assert answer.err == ""
