"""The policy as a whole: its version, its look-ups, what contradicts itself, what an edit changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.errors import NotFound
from sendwave.rules import policy as rules
from sendwave.rules.gates import GateSet
from sendwave.rules.policy import CampaignType, PolicySet, differences
from sendwave.rules.throttle import Lanes
from sendwave.rules.tiers import Tiers


def document() -> dict[str, Any]:
    return {
        "tiers": {"tiers": [{"key": "hot", "label": "Hot", "min_score": 50}, {"key": "cold", "label": "Cold"}]},
        "types": {"newsletter": newsletter()},
        "gates": {"default": {"signals": {"hard_bounce": {"hold": "2%", "halt": "5%"}}}},
        "lanes": {"providers": {"google": {"label": "Gmail", "domains": ["gmail.com"]}, "other": {"label": "Other"}}},
    }


def newsletter(**changes: Any) -> dict[str, Any]:
    return {
        "type": "newsletter",
        "tiers": {"hot": {"share": "100%"}, "cold": {"share": "10%", "cap": "1 per 14d"}},
        "caps": [{"max": "1 per 1d"}],
        "waves": {"ramp": ["10%", "90%"]},
    } | changes


def kind(**changes: Any) -> CampaignType:
    return CampaignType.model_validate(newsletter(**changes))


def said(contradictions: Any) -> list[tuple[str, str]]:
    return [(".".join(str(part) for part in loc), problem) for loc, problem, _ in contradictions]


@given(st.data())
def test_the_version_ignores_the_order_of_keys(data: st.DataObject) -> None:
    shuffled = PolicySet.model_validate(_shuffled(document(), data))
    assert shuffled.version == PolicySet.model_validate(document()).version


def _shuffled(value: Any, data: st.DataObject) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _shuffled(value[key], data) for key in data.draw(st.permutations(list(value)))}


def test_the_version_ignores_how_a_value_is_spelt() -> None:
    other = document()
    other["types"]["newsletter"] = newsletter(caps=[{"max": "1 per 24h", "counts": "channel"}], control="0.0%")
    assert PolicySet.model_validate(other).version == PolicySet.model_validate(document()).version


def test_the_version_changes_with_any_value() -> None:
    other = document()
    other["types"]["newsletter"]["tiers"]["cold"]["cap"] = "2 per 14d"
    assert PolicySet.model_validate(other).version != PolicySet.model_validate(document()).version


def test_the_document_makes_the_same_policy_again_also_through_json() -> None:
    policy = PolicySet.model_validate(document())
    again = PolicySet.model_validate(json.loads(json.dumps(policy.document())))
    assert again == policy
    assert again.version == policy.version


def test_a_campaign_type_is_found_by_name_or_named_by_what_was_meant() -> None:
    policy = PolicySet.model_validate(document())
    assert policy.type_of("newsletter") is policy.types["newsletter"]
    with pytest.raises(NotFound, match=r"there is no campaign type 'newsleter'\. Did you mean 'newsletter'\?"):
        policy.type_of("newsleter")
    with pytest.raises(NotFound, match=r"there is no campaign type 'sms'\. Known: newsletter\."):
        policy.type_of("sms")


def test_a_type_changes_single_gates_of_its_set() -> None:
    other = document()
    other["types"]["newsletter"]["gates"] = {"signals": {"complaint": {"halt": "0.1%"}}}
    policy = PolicySet.model_validate(other)
    assert set(policy.gates_of(policy.types["newsletter"]).signals) == {"hard_bounce", "complaint"}


def test_unknown_tiers_are_named_with_the_one_meant() -> None:
    tiers = Tiers.model_validate(document()["tiers"])
    wrong = kind(tiers={"hott": {"share": "100%"}, "cold": "never"})
    assert said(rules.unknown_tiers(wrong.tiers, tiers)) == [
        ("tiers.hott", "tiers.yaml has no tier 'hott'. Did you mean 'hot'?")
    ]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"tiers": {}}, [("tiers", "no tier gets a share above 0%: this campaign type reaches nobody")]),
        (
            {"tiers": {"hot": {"share": "0%"}, "cold": "never"}},
            [("tiers", "no tier gets a share above 0%: this campaign type reaches nobody")],
        ),
        ({"purpose": "service", "tiers": {}, "caps": []}, []),
        ({"purpose": "service", "tiers": {"hot": {"share": "100%"}}, "caps": []}, []),
        (
            {"purpose": "service", "tiers": {"hot": {"share": "50%"}}, "control": "5%"},
            [
                ("caps", "service messages are never capped: take it out, or choose another purpose"),
                ("control", "service messages know no control group: everybody has to get them"),
                ("tiers.hot", "service messages know no share, cap or rest: write {share: 100%} or never"),
            ],
        ),
    ],
)
def test_what_a_type_says_without_effect(changes: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert said(rules.pointless(kind(**changes))) == found


def test_gate_sets_and_signals_have_to_exist() -> None:
    gates = {"default": GateSet.model_validate({"signals": {"hard_bounces": {"halt": "5%"}}})}
    assert said(rules.unknown_signals(gates)) == [
        ("default.signals.hard_bounces", "there is no signal 'hard_bounces'. Did you mean 'hard_bounce'?")
    ]
    wrong = kind(gates={"use": "defualt", "signals": {"complaints": {"halt": "5%"}}})
    assert said(rules.unknown_gates(wrong, gates)) == [
        ("gates.use", "gates.yaml has no set 'defualt'. Did you mean 'default'?"),
        ("gates.signals.complaints", "there is no signal 'complaints'. Did you mean 'complaint'?"),
    ]


def test_a_domain_belongs_to_one_provider_and_is_spelt_as_addresses_spell_it() -> None:
    lanes = Lanes.model_validate(
        {
            "providers": {
                "google": {"domains": ["gmail.com", "GoogleMail.com"]},
                "ours": {"domains": ["gmail.com", "@maison.example", "société.example"]},
            }
        }
    )
    assert said(rules.claimed_twice(lanes)) == [
        ("providers.google.domains.1", "'GoogleMail.com' is no domain: lower case, IDN as xn--, without @"),
        ("providers.ours.domains.0", "gmail.com belongs to the provider 'google' already"),
        ("providers.ours.domains.1", "'@maison.example' is no domain: lower case, IDN as xn--, without @"),
        ("providers.ours.domains.2", "'société.example' is no domain: lower case, IDN as xn--, without @"),
    ]


def test_differences_are_lines_a_person_reads() -> None:
    other = document()
    other["tiers"]["tiers"].insert(1, {"key": "warm", "label": "Warm", "min_score": 25})
    other["types"]["newsletter"]["tiers"]["cold"]["cap"] = "2 per 14d"
    other["types"]["newsletter"]["tiers"]["warm"] = {"share": "50%", "min_gap": "48h"}
    other["types"]["newsletter"]["waves"]["ramp"] = ["5%", "95%"]
    other["gates"] = {"default": {"signals": {"complaint": {"halt": "0.3%"}}}}
    other["lanes"]["providers"]["google"]["feedback_loop"] = False
    found = differences(PolicySet.model_validate(document()), PolicySet.model_validate(other))
    gate = "min_sample: 500, min_events: 1, confidence: 99%, clearing: 10%, rule: evidence, mode: enforce}"
    assert [tuple(difference) for difference in found] == [
        ("tiers (order)", "hot > cold", "hot > warm > cold"),
        ("tiers.warm", "", "{key: warm, label: Warm, min_score: 25}"),
        ("types.newsletter.tiers.cold.cap", "1 per 14d", "2 per 14d"),
        ("types.newsletter.tiers.warm", "", "{share: 50%, min_gap: 2d}"),
        ("types.newsletter.waves.ramp", "[10%, 90%]", "[5%, 95%]"),
        ("gates.default.signals.hard_bounce", "{hold: 2%, halt: 5%, " + gate, ""),
        ("gates.default.signals.complaint", "", "{halt: 0.3%, " + gate),
        ("lanes.providers.google.feedback_loop", "true", "false"),
    ]


def test_a_policy_does_not_differ_from_itself() -> None:
    assert differences(PolicySet.model_validate(document()), PolicySet.model_validate(document())) == []
