from __future__ import annotations

import json

from command_line import Shell

AUDIENCE = """\
audience: readers
label: Readers
who:
  - language in fr, en
  - not bought within 30d
"""


def test_counts_as_you_write(shell: Shell) -> None:
    folder = shell.home / "policies" / "audiences"
    folder.mkdir(parents=True)
    (folder / "readers.yaml").write_text(AUDIENCE)
    told = json.loads(shell("audience", "count", "readers", "--by", "tier", "--json").out)
    assert told["total"] == 400
    assert [line["clause"] for line in told["clauses"]] == ["language in fr, en", "not bought within 30d"]
    assert all(line["yes"] + line["no"] + line["unknown"] == 400 for line in told["clauses"])
    assert sum(row["people"] for row in told["by"]) == told["people"] == told["clauses"][-1]["so_far"]
    assert "not bought within 30d" in shell("audience", "count", str(folder / "readers.yaml")).out
    compared = json.loads(shell("audience", "count", "--where", "tier exists", "--baseline", "readers", "--json").out)
    assert compared["baseline"]["kept"] + compared["baseline"]["gained"] == compared["people"]


def test_what_nobody_has_is_told_with_its_place(shell: Shell) -> None:
    file = shell.home / "a.yaml"
    file.write_text("any:\n  - langage in fr\n  - did purchas within 30d\n")
    answer = shell("audience", "count", str(file), expect=2)
    assert "a.yaml:2:5: any[0]: no contact has a field 'langage'. Did you mean 'language'?" in answer.err
    assert "a.yaml:3:9: any[1]: there are no interactions of the kind 'purchas'. Did you mean 'purchase'?" in answer.err
    shell("audience", "count", "nobody", expect=4)
    shell("audience", "count", expect=2)
