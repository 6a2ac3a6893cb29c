"""Policy files on disk: the shipped ones, the user's over them, every mistake of every file at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sendwave.errors import BadInput, NotFound
from sendwave.flow import policies
from sendwave.rules.gates import Rule
from sendwave.rules.pressure import Counts, contacted

TOP = Path(__file__).parent.parent.parent
NEWSLETTER = """\
type: newsletter
tiers:
  burning: {share: 100%}
waves: {ramp: [100%]}
"""
TYPES = {"flash_sale", "newsletter", "brand", "partner", "reactivation", "service"}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files under a policies folder, `types__newsletter` meaning types/newsletter.yaml; returns the folder."""

    def _write(**files: str) -> Path:
        folder = tmp_path / "policies"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            path = folder / (name.replace("__", "/") + ".yaml")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return folder

    return _write


def findings(folder: Path) -> list[str]:
    """The first lines of everything wrong in the folder, without the folder's own path."""
    with pytest.raises(BadInput) as wrong:
        policies.load_policies(folder)
    return [finding.splitlines()[0].removeprefix(f"{folder}/") for finding in wrong.value.findings]


def warnings(folder: Path) -> list[str]:
    return [warning.splitlines()[0].removeprefix(f"{folder}/") for warning in policies.read(folder).warnings]


# --- what comes with sendwave


def test_the_defaults_are_without_fault() -> None:
    reading = policies.read(None)
    assert reading.warnings == ()
    assert set(reading.policy.types) == TYPES
    assert reading.policy.tiers.keys == ("burning", "hot", "warm", "cool", "cold", "frozen")


@pytest.mark.parametrize("example", policies.EXAMPLES)
def test_examples_are_without_fault_also_as_the_files_of_a_workspace(example: str, tmp_path: Path) -> None:
    assert policies.read(policies.shipped(example)).warnings == ()
    for name, text in policies.starter(example).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert policies.read(tmp_path).warnings == ()
    assert policies.read(tmp_path).policy == policies.load_policies(policies.shipped(example))
    for path in tmp_path.rglob("*.yaml"):
        schema = path.read_text(encoding="utf-8").splitlines()[0].partition("$schema=")[2]
        assert (path.parent / schema).resolve() == tmp_path / "schema" / (tmp_path / schema).name
        assert (path.parent / schema).exists()


def test_finance_has_three_levels_and_a_rest() -> None:
    policy = policies.load_policies(policies.shipped("finance"))
    assert [(tier.key, tier.min_score) for tier in policy.tiers.tiers] == [
        ("high", 50), ("medium", 25), ("low", 1), ("asleep", None),
    ]  # fmt: skip
    assert set(policy.types) == TYPES


@pytest.mark.parametrize("example", policies.EXAMPLES)
def test_the_most_engaged_get_everything_the_cold_are_left_alone(example: str) -> None:
    policy = policies.load_policies(policies.shipped(example))
    best, coldest = policy.tiers.keys[0], policy.tiers.keys[-1]
    for name, kind in policy.types.items():
        if name in {"reactivation", "service"}:
            continue
        assert kind.tiers[best].share == 1
        assert coldest not in contacted(kind.tiers)
        shares = [kind.tiers[key].share for key in policy.tiers.keys if key in kind.tiers]
        assert shares == sorted(shares, reverse=True)
        assert set(shares) <= {Decimal(1), Decimal("0.5"), Decimal("0.1")}
        assert any(cap.counts is Counts.ALL for cap in kind.caps)


def test_the_gates_carry_the_limits_of_the_industry() -> None:
    gates = policies.load_policies(None).gates
    levels = {
        (name, signal): (gate.hold, gate.halt)
        for name, found in gates.items()
        for signal, gate in found.signals.items()
    }
    assert levels["default", "hard_bounce"] == (Decimal("0.02"), Decimal("0.05"))
    assert levels["default", "complaint"] == (Decimal("0.001"), Decimal("0.003"))
    assert levels["default", "unsubscribe"] == (Decimal("0.01"), None)
    assert levels["default", "deferral"] == (Decimal("0.15"), Decimal("0.25"))
    assert gates["default"].signals["deferral"].persist == timedelta(minutes=10), "slowed first: it comes in bursts"
    assert {gate.rule for found in gates.values() for gate in found.signals.values()} == {Rule.EVIDENCE}
    for signal, gate in gates["default"].signals.items():
        strict = gates["strict"].signals[signal]
        assert strict.hold is not None
        assert gate.hold is not None
        assert strict.hold < gate.hold


def test_the_lanes_know_the_mailbox_providers_of_the_world() -> None:
    providers = policies.load_policies(None).lanes.providers
    assert list(providers)[-1] == "other"
    assert not providers["google"].feedback_loop
    owners = {domain: key for key, provider in providers.items() for domain in provider.domains}
    assert len(owners) > 650
    for domain, owner in {
        "gmail.com": "google", "hotmail.fr": "microsoft", "yahoo.fr": "yahoo", "wanadoo.fr": "orange",
        "free.fr": "free", "neuf.fr": "sfr", "laposte.net": "laposte", "bbox.fr": "bouygues",
        "gmx.de": "united_internet",
    }.items():  # fmt: skip
        assert owners[domain] == owner


def test_schemas_and_the_reference_say_what_the_models_say() -> None:
    script = TOP / "tools" / "policy_reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_schema_per_kind_of_file() -> None:
    for kind in policies.KINDS:
        assert policies.schema(kind)["$schema"].endswith("2020-12/schema")
    with pytest.raises(NotFound, match="Did you mean 'tiers'"):
        policies.schema("tier")
    with pytest.raises(NotFound, match="no example 'bank'"):
        policies.shipped("bank")


# --- layers


def test_an_empty_folder_is_the_defaults(write: Write) -> None:
    assert policies.load_policies(write()) == policies.load_policies(None)


def test_comments_and_the_order_of_keys_do_not_change_the_version(write: Write) -> None:
    first = policies.load_policies(write(types__newsletter=NEWSLETTER)).version
    swapped = "# a comment\nwaves:\n  ramp: [100.0%]   # all\ntiers: {burning: {share: 100 %}}\ntype: newsletter\n"
    assert policies.load_policies(write(types__newsletter=swapped)).version == first
    assert policies.load_policies(write(types__newsletter=NEWSLETTER + "importance: 1\n")).version != first


def test_types_replace_type_by_type(write: Write) -> None:
    policy = policies.load_policies(write(types__newsletter=NEWSLETTER))
    assert list(policy.types["newsletter"].tiers) == ["burning"]
    assert policy.types["brand"] == policies.load_policies(None).types["brand"]


def test_gates_replace_set_by_set_and_say_what_is_lost(write: Write) -> None:
    folder = write(gates="default:\n  signals:\n    complaint: {halt: 0.2%}\n")
    policy = policies.load_policies(folder)
    assert list(policy.gates["default"].signals) == ["complaint"]
    assert policy.gates["strict"] == policies.load_policies(None).gates["strict"]
    assert warnings(folder) == [
        (
            "gates.yaml:1:1: default: replaces the shipped set and drops its gates on "
            "block, deferral, hard_bounce, soft_bounce, unsubscribe: add them, or `mode: off`"
        )
    ]


def test_lanes_merge_provider_by_provider_and_key_by_key(write: Write) -> None:
    text = """\
        providers:
          orange: {pace: 2000 per 1h}
          corporate: {domains: [maisonlune.example]}
        routes:
          relay: {pace: 6000 per 1m, warm_up: [1000, 2000]}
    """
    lanes = policies.load_policies(write(lanes=text)).lanes
    shipped = policies.load_policies(None).lanes
    assert lanes.providers["orange"].domains == shipped.providers["orange"].domains
    assert str(lanes.providers["orange"].pace) == "2000 per 1h"
    assert lanes.providers["corporate"].label == "corporate"
    assert list(lanes.providers)[-2:] == ["corporate", "other"]
    assert lanes.routes["relay"].warm_up == (1000, 2000)


def test_own_tiers_leave_out_the_shipped_types_that_do_not_fit(write: Write) -> None:
    tiers = "tiers:\n  - {key: high, label: High, min_score: 50}\n  - {key: low, label: Low}\n"
    own = "type: newsletter\ntiers: {high: {share: 100%}}\nwaves: {ramp: [100%]}\n"
    folder = write(tiers=tiers, types__newsletter=own)
    assert set(policies.load_policies(folder).types) == {"newsletter", "service"}
    assert warnings(folder) == [
        (
            "tiers.yaml:1:1: has other tiers than the shipped campaign types brand, flash_sale, partner, reactivation: "
            "they are left out, write types/brand.yaml to have one"
        ),
        "tiers.yaml:3:5: tiers[1]: no campaign type writes to the tier 'low'",
    ]


def test_a_file_named_otherwise_than_its_type_is_worth_a_word(write: Write) -> None:
    folder = write(types__letter=NEWSLETTER)
    assert warnings(folder) == ["types/letter.yaml:1:7: type: a file is best named after its type: newsletter.yaml"]


# --- mistakes


def test_the_mistakes_of_all_files_come_at_once(write: Write) -> None:
    folder = write(
        tiers="tiers:\n  - {key: hot, label: Hot}\n",
        gates="default:\n  signals:\n    complaint: {hold: 0.3}\n    spam: {halt: 1%}\n",
        lanes="providers:\n  mine: {domains: [gmail.com]}\n",
        types__newsletter="type: newsletter\ntiers: {hott: {share: 100%}}\nwaves: {ramp: [50%]}\n",
        types__brand="type: brand\ntiers: {}\nwaves: {ramp: [100%]}\ngates: {use: strickt}\n",
        types__broken="type: [",
    )
    assert findings(folder) == [
        "tiers.yaml:2:3: tiers: needs at least 2, has 1",
        (
            "gates.yaml:3:23: default.signals.complaint.hold: a share or rate needs its unit: write 0.3% or 30%, "
            "whichever is meant"
        ),
        "types/broken.yaml:1:8: the file ends in the middle of something",
        "types/newsletter.yaml:3:8: waves: the ramp adds up to 50%, it must be 100%",
        "types/brand.yaml:2:1: tiers: no tier gets a share above 0%: this campaign type reaches nobody",
        "types/brand.yaml:4:14: gates.use: gates.yaml has no set 'strickt'. Did you mean 'strict'?",
        "lanes.yaml:2:20: providers.mine.domains[0]: gmail.com belongs to the provider 'google' already",
    ]


def test_a_tier_that_does_not_exist(write: Write) -> None:
    folder = write(types__newsletter=NEWSLETTER.replace("burning", "burnin"))
    with pytest.raises(BadInput, match="a mistake in the policies of") as wrong:
        policies.load_policies(folder)
    (finding,) = wrong.value.findings
    assert finding.splitlines() == [
        f"{folder}/types/newsletter.yaml:3:3: tiers.burnin: tiers.yaml has no tier 'burnin'. Did you mean 'burning'?",
        "      burnin: {share: 100%}",
        "      ^",
    ]


def test_two_files_that_define_one_type(write: Write) -> None:
    folder = write(types__newsletter=NEWSLETTER, types__news=NEWSLETTER)
    assert findings(folder) == [
        (
            "types/newsletter.yaml:1:7: type: the campaign type 'newsletter' is defined in "
            f"{folder}/types/news.yaml already: keep one of the two"
        )
    ]


def test_a_broken_file_does_not_accuse_the_others(write: Write) -> None:
    folder = write(
        tiers="tiers: [",
        gates="mine:\n  signals: {complaint: {halt: 10}}\n",
        types__newsletter=NEWSLETTER.replace("burning", "high") + "gates: {use: mine}\n",
    )
    assert findings(folder) == [
        "tiers.yaml:1:9: the file ends in the middle of something",
        "gates.yaml:2:31: mine.signals.complaint.halt: a share or rate needs its unit: write 10%",
    ]


def test_an_unknown_tier_is_named_beside_the_other_mistakes_of_its_file(write: Write) -> None:
    folder = write(types__newsletter=NEWSLETTER.replace("burning: {share: 100%", "burnin: {share: 100"))
    assert findings(folder) == [
        "types/newsletter.yaml:3:19: tiers.burnin.share: a share or rate needs its unit: write 100%",
        "types/newsletter.yaml:3:3: tiers.burnin: tiers.yaml has no tier 'burnin'. Did you mean 'burning'?",
    ]


def test_an_unknown_signal_and_an_unknown_zone(write: Write) -> None:
    folder = write(
        gates="mine:\n  signals: {hard_bouncing: {halt: 5%}}\n",
        types__newsletter=NEWSLETTER.replace("[100%]", "[100%], window: '08:00-20:00 Europe/Pari'"),
    )
    assert findings(folder) == [
        "types/newsletter.yaml:4:31: waves.window: unknown time zone 'Europe/Pari'. Did you mean 'Europe/Paris'?",
        "gates.yaml:2:13: mine.signals.hard_bouncing: there is no signal 'hard_bouncing'. Did you mean 'hard_bounce'?",
    ]


def test_files_nobody_would_read(write: Write, tmp_path: Path) -> None:
    folder = write(tier="tiers: []", type__newsletter=NEWSLETTER)
    (folder / "types").mkdir()
    (folder / "types" / "brand.yml").write_text(NEWSLETTER, encoding="utf-8")
    (folder / "README.md").write_text("for people", encoding="utf-8")
    assert findings(folder) == [
        "tier.yaml:1:1: no policy file has this name, it would not be read. Did you mean 'tiers.yaml'?",
        "type/newsletter.yaml:1:1: no policy folder is called 'type'. Did you mean 'types'?",
        "types/brand.yml:1:1: it would not be read: name it brand.yaml",
    ]
    assert findings(tmp_path / "nowhere")[0].endswith(
        "nowhere:1:1: there is no such folder; make it, it may stay empty"
    )


def test_a_bad_edit_does_not_touch_what_is_loaded(write: Write) -> None:
    folder = write(types__newsletter=NEWSLETTER)
    loaded = policies.load_policies(folder)
    version = loaded.version
    write(types__newsletter=NEWSLETTER.replace("100%", "100", 1))
    with pytest.raises(BadInput):
        policies.load_policies(folder)
    assert loaded.version == version
    assert loaded.types["newsletter"].waves.soak == timedelta(hours=4)


def test_the_shipped_files_are_plain_yaml_1_2() -> None:
    for path in [*policies.shipped().rglob("*.yaml")]:
        YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=")
