from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sendwave.cli.gates import answers, replay

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

HELLO: dict[str, Any] = {
    "type": "hello", "v": 1, "run": "healthy#1", "tick_s": 300,
    "campaign": {"id": "c1", "n": 80_000, "pace_per_min": 10_000, "waves": [
        {"wave": number, "tier": f"t{number}", "planned": {"gmail": 20_000, "yahoo": 10_000, "orange": 10_000}}
        for number in (1, 2)]},
    "lanes": {"gmail": {"fbl": False}, "yahoo": {"fbl": True}, "orange": {"fbl": True}},
    "policy": {"hard_bounce": {"threshold": 0.02, "halts": True}, "deferral": {"threshold": 0.1, "halts": True},
               "complaint": {"threshold": 0.001, "halts": True}, "unsubscribe": {"threshold": 0.01, "halts": False}},
    "alpha": 0.01, "beta": 0.1, "soak_max_min": 1440,
}  # fmt: skip
END = {"type": "end"}


def tick(t: int, *, wave: int = 1, done: bool = False, fed: bool = True, **bad: dict[str, int]) -> dict[str, Any]:
    """Five minutes of sending, unless the wave is done, with so many events per lane."""
    sizes = {} if done else {"gmail": 5_000, "yahoo": 2_500, "orange": 2_500}
    return {
        "type": "tick", "t": t,
        "sent": [{"wave": wave, "lane": lane, "batch": f"{wave}.{lane}.{t}", "t": t - 150, "n": n}
                 for lane, n in sizes.items()],
        "delivered": [{"wave": wave, "lane": lane, "n": int(n * 0.98)} for lane, n in sizes.items() if fed],
        "events_agg": [{"type": kind, "lane": lane, "wave": wave, "batch": f"{wave}.{lane}.{t}", "n": n}
                       for lane, counts in bad.items() for kind, n in counts.items()],
        "state": {"campaign": "running", "wave": wave, "wave_done": done, "lanes": {}},
    }  # fmt: skip


def play(*told: dict[str, Any], hello: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return list(answers(iter([json.dumps(line) for line in (hello or HELLO, *told, END)])))


def done(found: list[dict[str, Any]]) -> list[str]:
    return [" ".join(map(str, (a["do"], *[a[k] for k in ("wave", "lane", "factor") if k in a])))
            for answer in found for a in answer.get("actions", [])]  # fmt: skip


def test_a_healthy_wave_is_followed_by_the_next_once_its_feedback_is_in() -> None:
    sending = [tick(t, gmail={"hard_bounce": 15}, orange={"complaint": 1}) for t in (300, 600, 900, 1200)]
    found = play(*sending, *[tick(t, done=True) for t in range(1500, 60_000, 300)])
    assert done(found) == ["release_wave 1", "release_wave 2"]
    assert (found[0]["type"], found[-1]) == ("ready", {"type": "bye"})
    assert len(found) == 1 + 4 + 195 + 1


def test_one_bad_lane_is_suspended_alone() -> None:
    found = play(*[tick(t, yahoo={"hard_bounce": 300}) for t in (300, 600)])
    assert done(found) == ["release_wave 1", "suspend_lane yahoo"]


def test_a_bad_list_is_halted_once_and_says_why() -> None:
    bad = {"hard_bounce": 400}
    found = play(*[tick(t, gmail=bad, yahoo=bad, orange=bad) for t in (300, 600, 900)])
    assert done(found) == ["release_wave 1", "halt_campaign"]
    assert "to 1 that the rate is above the limit, from the start" in found[1]["actions"][0]["reason"]


def test_a_burst_slows_its_lane_first() -> None:
    found = play(*[tick(t, orange={"deferral": 900 if t < 700 else 40}) for t in range(300, 3_000, 300)])
    assert done(found) == ["release_wave 1", "throttle_lane orange 0.25", "throttle_lane orange 1.0"]


def test_a_silent_feed_pauses_the_wave_until_it_speaks_again() -> None:
    silent = [tick(t, fed=t < 700) for t in range(300, 2_400, 300)]
    back = tick(2_400)
    back["delivered"] = [{"wave": 1, "lane": lane, "n": n} for lane, n in
                         (("gmail", 29_000), ("yahoo", 14_500), ("orange", 14_500))]  # fmt: skip
    assert done(play(*silent, back)) == ["release_wave 1", "pause_wave", "resume_wave"]


def test_after_an_override_only_what_is_sent_later_is_judged() -> None:
    bad = {"hard_bounce": 400}
    halted = [tick(300, gmail=bad, yahoo=bad, orange=bad)]
    override = {"type": "override", "t": 600, "do": "resume_campaign", "by": "ops"}
    good, again = [tick(t) for t in (900, 1200)], tick(1500, gmail=bad, yahoo=bad, orange=bad)
    slow = [f"throttle_lane {lane} 0.25" for lane in ("gmail", "yahoo", "orange")]
    assert done(play(*halted, override, *good)) == ["release_wave 1", "halt_campaign", *slow]
    assert done(play(*halted, override, *good, again)) == ["release_wave 1", "halt_campaign", *slow, "halt_campaign"]


def test_events_told_twice_and_in_any_order_count_once() -> None:
    def told(order: int, copies: int) -> dict[str, Any]:
        line = tick(300)
        line["events"] = [
            {"id": f"e{i}.{copy}", "type": "hard_bounce", "lane": "yahoo", "wave": 1, "batch": "1.yahoo.300",
             "msg": f"m{i}", "t": 200, "sent_t": 150}
            for copy in range(copies) for i in range(60)
        ][::order]  # fmt: skip
        return line

    assert play(told(1, 1)) == play(told(-1, 3))
    assert done(play(told(1, 5))) == ["release_wave 1"]


def _changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(HELLO), **fields}


ODD = {
    "zero sent": tick(300) | {"sent": [{"wave": 1, "lane": "gmail", "batch": "b", "t": 0, "n": 0}]},
    "all bounced": tick(300, gmail={"hard_bounce": 5_000}),
    "events before their send": tick(300, done=True, gmail={"hard_bounce": 3}),
    "more events than mails": tick(300, gmail={"hard_bounce": 99_000}),
    "an unknown lane": tick(300, nobody={"hard_bounce": 900, "complaint": 4}),
    "an unknown event": tick(300, gmail={"mood": 900}),
    "nothing": {"type": "tick", "t": 300},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_ticks_are_answered(name: str) -> None:
    back = {**copy.deepcopy(ODD[name]), "t": 100}  # and then the clock steps back
    found = play(ODD[name], back, tick(600))
    assert [answer["type"] for answer in found] == ["ready", *["decision"] * 3, "bye"]
    assert not {a.get("lane") for answer in found for a in answer.get("actions", [])} - {None, *HELLO["lanes"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"policy": {"hard_bounce": {"threshold": 0, "halts": True}, "complaint": {"threshold": 1, "halts": True}}},
        {"policy": {"mood": {"threshold": 0.1, "halts": True}}, "delay_curves": {"mood": [[1, 1]]}},
        {"delay_curves": {"complaint": [[60, 0.5], [360, 0.2], [0, 0.1]], "hard_bounce": []}},
        {"campaign": {"id": "c", "waves": [{"wave": 1, "planned": {"gmail": 1, "yahoo": 0}}, {"wave": 2}]}},
        {"campaign": {"id": "c", "waves": []}},
        {"lanes": {}},
    ],
)
def test_odd_campaigns_are_judged(fields: dict[str, Any]) -> None:
    found = play(tick(300, gmail={"hard_bounce": 1}), tick(600, done=True), hello=_changed(**fields))
    assert [answer["type"] for answer in found] == ["ready", "decision", "decision", "bye"]


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["{"], "line 1: not JSON"),
        (["[]"], "line 1: a message is a JSON object, not list"),
        (['{"type": "tick", "t": 1}'], "begins with a hello"),
        ([json.dumps(HELLO), '{"type": "dance"}'], "line 2: .*the types are"),
        ([json.dumps(HELLO), '{"type": "tick"}'], "line 2: .*lacks 't'"),
        ([json.dumps(_changed(policy={"hard_bounce": {"threshold": 2}}))], "from 0 to 1"),
        ([json.dumps({"type": "hello"})], "lacks 'policy'|lacks 'campaign'"),
    ],
)
def test_what_cannot_be_understood_is_answered_with_its_line(lines: list[str], what: str) -> None:
    found = list(answers(iter([*lines, json.dumps(END)])))
    assert len(found) == len(lines) + 1
    assert re.search(what, found[len(lines) - 1]["error"])
    assert found[-1] == {"type": "bye"}


def test_an_entry_without_what_it_needs_is_left_out_and_counted() -> None:
    odd = tick(300)
    odd["sent"] += [{"lane": "gmail"}, 7]
    odd["events"] = [{"type": "hard_bounce"}, {"id": "e", "type": "hard_bounce", "lane": "gmail", "wave": "x"}]
    found = play(odd, tick(600))
    assert [answer["why"]["skipped"] for answer in found[1:3]] == [4, 4]
    assert done(found) == ["release_wave 1"]


@pytest.mark.parametrize("name", ["bounces 6 x, 5k", "orange: bounces 6 x from wave 2 on"])
def test_simulated_campaigns_end_as_their_world_says(name: str) -> None:
    """The simulator of the benchmark, through the very lines."""
    from gates.campaign import Campaign
    from gates.worlds import worlds

    class Lines:
        def __init__(self, hello: dict[str, Any]) -> None:
            self.told = [json.dumps(hello)]
            self.answers = answers(self._feed())
            next(self.answers)

        def _feed(self) -> Iterator[str]:
            while self.told:
                yield self.told.pop()

        def look(self, told: dict[str, Any]) -> list[dict[str, Any]]:
            self.told.append(json.dumps(told))
            answer = next(self.answers)
            assert (answer["type"], answer["t"]) == ("decision", told["t"])
            found: list[dict[str, Any]] = answer["actions"]
            return found

    world = replace(next(world for world in worlds() if world.name == name), size=20_000)
    outcome = Campaign(world, Lines, np.random.default_rng(7)).play()
    assert outcome.illegal == 0
    assert (outcome.halted, outcome.suspended) == ((False, {"orange"}) if "orange" in name else (True, set()))
    assert outcome.bad_sent < 0.3 * outcome.bad_planned


def test_what_a_person_resumes_grows_from_small_and_is_judged_afresh() -> None:
    bad = {"hard_bounce": 400}
    halted = [tick(300, gmail=bad, yahoo=bad, orange=bad)]
    override = {"type": "override", "t": 600, "do": "resume_campaign", "by": "ops"}
    good = [tick(t, gmail={"hard_bounce": 10}) for t in range(900, 3_000, 300)]
    found = [what for what in done(play(*halted, override, *good)) if "orange" in what]
    assert found == [f"throttle_lane orange {pace}" for pace in (0.25, 0.5, 1.0)]
    again = [tick(t, orange={"hard_bounce": 600 if t > 900 else 0}) for t in range(900, 2_100, 300)]
    found = [what for what in done(play(*halted, override, *again)) if "orange" in what]
    assert found == ["throttle_lane orange 0.25", "suspend_lane orange"], "and slowed no more once it is stopped"


def test_a_reopened_lane_grows_alone() -> None:
    stopped = [tick(t, yahoo={"hard_bounce": 300}) for t in (300, 600)]
    override = {"type": "override", "t": 900, "do": "resume_lane", "lane": "yahoo", "by": "ops"}
    found = done(play(*stopped, override, *[tick(t) for t in range(1_200, 3_300, 300)]))
    assert found == ["release_wave 1", "suspend_lane yahoo", *(f"throttle_lane yahoo {p}" for p in (0.25, 0.5, 1.0))]


def test_mail_that_is_told_after_its_events_is_not_held_against_its_lane() -> None:
    """A ledger read a tick later than the feed: 30 bounces of 2,500 mails, of which nobody was told yet."""
    early, late = tick(300, yahoo={"hard_bounce": 30}), tick(600)
    late["sent"] += early["sent"]
    early["sent"] = []
    assert done(play(early, late, tick(900))) == ["release_wave 1"]
    never = [tick(t, done=True) for t in range(300, 3_000, 300)]
    never[0]["events_agg"] = [{"type": "hard_bounce", "lane": "yahoo", "wave": 1, "batch": "b", "n": 30}]
    assert done(play(*never)) == ["release_wave 1", "release_wave 2"], "nor where a lane had no mail at all"
    more = [tick(300, yahoo={"hard_bounce": 30}), *(tick(t) for t in range(600, 3_000, 300))]
    more[1]["events_agg"] = [{"type": "hard_bounce", "lane": "yahoo", "wave": 1, "batch": "gone", "n": 9_000}]
    assert "suspend_lane yahoo" in done(play(*more)), "but for ever it does not wait"


def test_a_wave_a_person_reopened_in_that_moment_is_not_followed_by_the_next() -> None:
    """The state of the tick is older than the override: what the lane has left makes the wave unfinished again."""
    sending = [tick(t, yahoo={"hard_bounce": 600 if t < 700 else 0}) for t in (300, 600, 900, 1_200)]
    waiting = [tick(t, done=True) for t in range(1_500, 60_000, 300)]
    opened = next(answer["t"] for answer in play(*sending, *waiting) if {"do": "release_wave", "wave": 2} in
                  answer.get("actions", []))  # fmt: skip
    override = {"type": "override", "t": opened, "do": "resume_lane", "lane": "yahoo", "by": "ops"}
    before = [line for line in waiting if line["t"] < opened]
    at, later = tick(opened, done=True), tick(opened + 300)
    assert done(play(*sending, *before, override, at, later)) == [
        "release_wave 1", "suspend_lane yahoo", "throttle_lane yahoo 0.25"
    ]  # fmt: skip


def test_a_lane_is_not_suspended_twice_while_the_other_side_catches_up() -> None:
    bad = [tick(t, yahoo={"hard_bounce": 300}) for t in (300, 600, 900)]
    for line in bad:
        line["state"]["lanes"] = {"gmail": "active", "yahoo": "active", "orange": "active"}
    assert done(play(*bad[:2])) == ["release_wave 1", "suspend_lane yahoo"]
    assert done(play(*bad)).count("suspend_lane yahoo") == 2, "asked again where it was not done"


@pytest.mark.parametrize(
    "state",
    [None, [], "running", 7, {}, {"wave": "one", "lanes": ["gmail"]}, {"wave": None, "lanes": None, "wave_done": None},
     {"wave": -3}, {"wave": 1e300}, {"lanes": {"gmail": None}}],
)  # fmt: skip
def test_a_state_nobody_can_read_leaves_things_as_they_were(state: Any) -> None:
    sending = [tick(t, gmail={"hard_bounce": 15}) for t in (300, 600, 900, 1_200)]
    waiting = [tick(t, done=True) for t in range(1_500, 60_000, 300)]
    for line in (sending[1], waiting[0], waiting[3]):
        line["state"] = state
    found = play(*sending, *waiting)
    assert {answer["type"] for answer in found[1:-1]} == {"decision"}
    assert done(found) == ["release_wave 1", "release_wave 2"]


@pytest.mark.parametrize("t", ["NaN", "Infinity", "1e300", "null", '"soon"'])
def test_a_time_that_is_none_is_refused_and_does_not_stay(t: str) -> None:
    lines = [json.dumps(HELLO), f'{{"type": "tick", "t": {t}}}', json.dumps(tick(600)), json.dumps(END)]
    assert [answer["type"] for answer in answers(iter(lines))] == ["ready", "error", "decision", "bye"]


@pytest.mark.parametrize("curve", [None, [], {}, 7, "fast", [[1]], [[None, 1]], [[float("nan"), 0.5]], [{"f": 1}]])
def test_a_curve_that_is_none_is_left_to_the_shipped_one(curve: Any) -> None:
    told = [tick(t, yahoo={"complaint": 8}) for t in (300, 600, 900)]
    odd, none = (_changed(delay_curves=curves) for curves in ({"complaint": curve}, None))
    assert done(play(*told, hello=odd)) == done(play(*told, hello=none))


@pytest.mark.parametrize(
    "override",
    [
        {"do": "resume_campaign", "lane": None, "wave": None}, {"do": "resume_campaign", "lane": "yahoo"},
        {"do": "resume_lane", "lane": "yahoo"}, {"do": "resume_lane", "lane": ""}, {"do": "resume_lane"},
        {"do": "resume_lane", "lane": "nobody"}, {"do": "release_wave", "wave": 2, "lane": None},
        {"do": "release_wave", "wave": 99}, {"do": "release_wave"}, {"do": "dance"}, {"t": None, "do": None}, {},
    ],
)  # fmt: skip
def test_every_form_of_an_override_is_answered_and_nothing_illegal_follows(override: dict[str, Any]) -> None:
    bad = tick(300, yahoo={"hard_bounce": 400})
    lines = [bad, {"type": "override", "t": 450, "by": "ops", **override}, tick(600), tick(900, done=True)]
    found = play(*lines, *[tick(t, done=True) for t in range(1_200, 9_000, 300)])
    assert [answer["type"] for answer in found[1:-1]] == ["decision"] * (len(found) - 2)
    acts = [act for answer in found for act in answer.get("actions", [])]
    assert [act["wave"] for act in acts if act["do"] == "release_wave"] in ([1], [1, 2])
    assert {act["lane"] for act in acts if "lane" in act} <= {*HELLO["lanes"]}


def test_names_no_terminal_can_write_and_nests_no_parser_can_read_are_answered() -> None:
    lane = "\ud800"
    odd = tick(300)
    odd["sent"].append({"wave": 1, "lane": lane, "batch": "b", "t": 0, "n": 5_000})
    odd["events_agg"] = [{"type": "hard_bounce", "lane": lane, "wave": 1, "batch": "b", "n": 4_000}]
    hello = _changed(lanes={**HELLO["lanes"], lane: {"fbl": True}})
    lines = [json.dumps(hello), json.dumps(odd), "[" * 100_000, json.dumps(tick(600)), json.dumps(END)]
    told = CliRunner().invoke(replay, input="\n".join(lines) + "\n")
    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert [answer["type"] for answer in found] == ["ready", "decision", "error", "decision", "bye"]
    assert {"do": "suspend_lane", "lane": lane} in found[1]["actions"]


LEAVES = st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(allow_nan=False) | st.text(max_size=4)
ENTRY = st.dictionaries(st.sampled_from(["wave", "lane", "batch", "t", "n", "type", "msg", "id", "sent_t"]),
                        LEAVES | st.sampled_from(["gmail", "hard_bounce", "1"]), max_size=6)  # fmt: skip
LINE = st.fixed_dictionaries(
    {"type": st.sampled_from(["tick", "override", "hello", "mood", "", "tick"])},
    optional={
        "t": LEAVES, "do": st.sampled_from(["resume_lane", "resume_campaign", "release_wave", "x"]), "lane": LEAVES,
        "wave": LEAVES, "state": LEAVES | ENTRY, "by": LEAVES,
        **{name: LEAVES | st.lists(ENTRY | LEAVES, max_size=3) for name in
           ("sent", "delivered", "events", "events_agg")},
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(LINE.map(json.dumps) | st.text(st.characters(exclude_characters="\r\n"), max_size=20), max_size=6))
def test_whatever_is_written_every_line_is_answered(lines: list[str]) -> None:
    written = [line for line in lines if line.strip()]
    found = list(answers(iter([json.dumps(HELLO), *written, json.dumps(tick(900)), json.dumps(END)])))
    assert len(found) == len(written) + 3
    assert {answer["type"] for answer in found} <= {"ready", "decision", "error", "bye"}
    assert found[-1] == {"type": "bye"}
    legal = {"release_wave", "pause_wave", "resume_wave", "throttle_lane", "suspend_lane", "halt_campaign"}
    assert all(act["do"] in legal for answer in found for act in answer.get("actions", []))
