from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.cells import Handed, Mail, cell, feed, gather
from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.gates import Decision, GateSet
from sendwave.rules.rulings import INCONCLUSIVE, Ruling
from sendwave.rules.signals import SIGNALS
from sendwave.rules.waves import WavePlan

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=4)
LANES = ("gmail", "orange", "sfr", "free")
GATES = GateSet.model_validate(
    {
        "signals": {
            "hard_bounce": {"hold": "2%", "halt": "5%"},
            "complaint": {"hold": "0.1%", "halt": "0.3%", "min_sample": 2000},
            "unsubscribe": {"hold": "1%"},
        }
    }
)
PLAN = WavePlan.model_validate({"ramp": ["50%", "50%"], "soak": "4h", "soak_max": "24h"})


def mail(provider: str = "gmail", sent: int = 4_000, wave: int = 1, at: datetime = LONG_AGO, **tallies: int) -> Mail:
    return Mail(wave, provider, at, sent, 0, tallies)


def healthy(wave: int = 1, at: datetime = LONG_AGO) -> list[Mail]:
    return [mail(lane, wave=wave, at=at, delivered=3_950, hard_bounce=20) for lane in LANES]


def facts(told: list[Mail], status: str = "soaking", *, soaked: float = 5, **fields: Any) -> Facts:
    waves = (
        WaveFacts(1, status, NOW - timedelta(hours=soaked), dict.fromkeys(LANES, 4000)),
        WaveFacts(2, "waiting", None, dict.fromkeys(LANES, 4000)),
    )
    base = Facts(
        gates=GATES,
        plan=PLAN,
        waves=waves,
        lanes=LANES,
        suspended={},
        mail=told,
        waiting=(),
        mute=(),
        reports_delivery=True,
    )
    return replace(base, **fields)


def rule(told: list[Mail], status: str = "soaking", *, soaked: float = 5, **fields: Any) -> Ruling:
    return Ruling(facts(told, status, soaked=soaked, **fields), NOW)


def _with(**bad: dict[str, int]) -> list[Mail]:
    """Healthy mail, apart from these lanes."""
    return [mail(lane, **{"delivered": 3_900, "hard_bounce": 20, **bad.get(lane, {})}) for lane in LANES]


def test_a_healthy_wave_is_cleared_after_its_soak_and_not_before() -> None:
    ruling = rule(healthy())
    assert (ruling.halt, ruling.suspensions, ruling.blind, ruling.cleared) == (None, {}, None, [1])
    assert not ruling.complete
    assert rule(healthy(), soaked=3.9).cleared == []
    assert rule(healthy(), "sending").cleared == []


def test_one_bad_lane_is_suspended_and_the_others_go_on() -> None:
    ruling = rule(_with(orange={"hard_bounce": 900}), "sending")
    assert ruling.halt is None
    assert [(lane, stop.reason) for lane, stop in ruling.suspensions.items()] == [("orange", "hard_bounce")]


def test_a_bad_list_halts_the_campaign() -> None:
    ruling = rule([mail(lane, hard_bounce=500) for lane in LANES], "sending")
    assert ruling.halt is not None
    assert ruling.halt.reason == "hard_bounce"
    assert ruling.halt.verdict.cell.provider == ""


def test_half_of_the_mail_in_suspended_lanes_halts_the_campaign() -> None:
    two = rule(_with(orange={"hard_bounce": 900}, sfr={"hard_bounce": 900}), "sending")
    assert two.halt is not None
    later = rule(_with(sfr={"hard_bounce": 900}), "sending", suspended={"orange": NOW})
    assert later.halt is not None
    assert rule(_with(), "sending", suspended={"orange": NOW, "sfr": NOW}).halt is None  # a person let it go on


def test_a_suspended_lane_weighs_on_nobody_else() -> None:
    ruling = rule(_with(orange={"hard_bounce": 2_000}), suspended={"orange": NOW})
    assert (ruling.halt, ruling.suspensions, ruling.cleared) == (None, {}, [1])
    own = [v for v in ruling.verdicts if v.cell.provider == "orange" and v.cell.signal == "hard_bounce"]
    assert {v.decision for v in own} == {Decision.HALT}


CONFIRM = GateSet.model_validate({"signals": {"hard_bounce": {"halt": "5%", "confirm": True}}})


class TestConfirmed:
    """`confirm: true`: what may be a burst slows its lane, and fresh mail decides."""

    def test_a_lane_in_doubt_after_its_wave_is_slowed_and_holds_nobody_else(self) -> None:
        doubtful = _with(orange={"hard_bounce": 260})
        ruling = rule(doubtful, gates=CONFIRM)
        assert (ruling.cleared, [*ruling.slow], ruling.suspensions, ruling.halt) == ([1], ["orange"], {}, None)
        assert rule(doubtful).cleared == [], "without it a person decides"

    def test_one_slot_of_mail_is_no_proof_while_more_is_to_come(self) -> None:
        bad = _with(orange={"hard_bounce": 500})
        sending, sent = rule(bad, "sending", gates=CONFIRM), rule(bad, gates=CONFIRM)
        assert ([*sending.slow], [*sending.suspensions]) == (["orange"], [])
        assert [*sent.suspensions] == ["orange"], "nothing of the wave is left to wait for"

    def test_a_wave_does_not_wait_for_the_fresh_mail_it_needs(self) -> None:
        """Twice the limit in two slots of millions, minutes old: more of the same tells, at a quarter of the pace."""
        gates = GateSet.model_validate({"signals": {"complaint": {"halt": "0.1%", "confirm": True}}})
        told = [
            mail(lane, 400_000, at=NOW - timedelta(minutes=age), delivered=300_000, complaint=40)
            for lane in LANES for age in (6, 8)
        ]  # fmt: skip
        ruling = rule(told, "sending", gates=gates)
        assert (ruling.alarm, ruling.halt, {*ruling.slow}) == (None, None, {*LANES})
        fewer = [replace(one, tallies={"delivered": 300_000, "complaint": 25}) for one in told]
        assert rule(fewer, "sending", gates=gates).alarm is not None, "below the bar it waits for feedback"

    def test_a_wave_does_not_wait_because_of_the_burst_of_a_slowed_lane(self) -> None:
        bounces = (4, 400, 4, 4, 4)
        slots = [
            mail("orange", 800, at=LONG_AGO + timedelta(minutes=4 * n), delivered=790 - bounced, hard_bounce=bounced)
            for n, bounced in enumerate(bounces)
        ]
        others = [mail(lane, delivered=3_800, hard_bounce=190) for lane in LANES if lane != "orange"]
        ruling = rule([*slots, *others], gates=CONFIRM)
        assert (ruling.cleared, [*ruling.slow], ruling.suspensions, ruling.halt) == ([1], ["orange"], {}, None)
        worse = [replace(one, tallies={"delivered": 3_000, "hard_bounce": 260}) for one in others]
        assert rule([*slots, *worse], gates=CONFIRM).cleared == [], "the others are no better"

    def test_what_no_fresh_mail_will_settle_is_halted_once_the_wave_has_soaked(self) -> None:
        """Three times the limit in the last two slots of a wave, in all lanes: it keeps the next wave shut itself."""
        told = [
            Mail(1, lane, LONG_AGO + timedelta(minutes=4 * n), 4_000, 0, {"delivered": 3_900 - bounced,
                 "hard_bounce": bounced}, stage=min(n, 3))
            for lane in LANES
            for n, bounced in enumerate((80, 80, 80, 600, 600))
        ]  # fmt: skip
        sending, soaking = rule(told, "sending", gates=CONFIRM), rule(told, soaked=1, gates=CONFIRM)
        assert (sending.halt, {*sending.slow}) == (None, {*LANES})
        assert (soaking.halt, soaking.cleared) == (None, []), "its soak is not over"
        soaked = rule(told, gates=CONFIRM)
        assert soaked.halt is not None
        assert (soaked.halt.reason, soaked.halt.verdict.cell.provider) == ("hard_bounce", "")
        mild = [replace(m, tallies={**m.tallies, "hard_bounce": min(260, m.tallies["hard_bounce"])}) for m in told]
        assert rule(mild, gates=CONFIRM).halt is None, "1.3 times the limit in two slots may be a burst"


def test_an_observing_gate_says_so_and_does_nothing() -> None:
    gates = GateSet.model_validate({"signals": {"hard_bounce": {"hold": "2%", "halt": "5%", "mode": "observe"}}})
    ruling = rule([mail(lane, hard_bounce=900, delivered=3_000) for lane in LANES], gates=gates)
    assert Decision.HALT in {v.decision for v in ruling.verdicts}
    assert (ruling.halt, ruling.suspensions, ruling.cleared) == (None, {}, [1])
    off = GateSet.model_validate({"signals": {"hard_bounce": {"mode": "off"}, "made_up": {"halt": "1%"}}})
    assert {v.cell.signal for v in rule(healthy(), gates=off).verdicts} == {"feed"}


class TestHold:
    MAIL = staticmethod(lambda: [mail(lane, hard_bounce=110, delivered=3_800) for lane in LANES])

    def test_above_the_hold_level_the_wave_is_not_cleared(self) -> None:
        ruling = rule(self.MAIL())
        assert (ruling.halt, ruling.suspensions, ruling.cleared) == (None, {}, [])

    def test_at_soak_max_a_person_is_needed(self) -> None:
        assert rule(self.MAIL(), soaked=23.9).halt is None
        ruling = rule([mail(lane, sent=400, hard_bounce=11, delivered=380) for lane in LANES], soaked=24)
        assert ruling.halt is not None
        assert ruling.halt.reason == INCONCLUSIVE

    def test_a_single_lane_on_hold_is_suspended_then(self) -> None:
        told = _with(orange={"hard_bounce": 130})
        assert rule(told).cleared == []
        late = rule(told, soaked=24)
        assert late.halt is None
        assert [(lane, stop.reason) for lane, stop in late.suspensions.items()] == [("orange", INCONCLUSIVE)]
        assert rule(told, soaked=24, suspended={"orange": NOW}).cleared == [1]


class TestFeed:
    def test_silence_is_blind_and_clears_nothing(self) -> None:
        ruling = rule([mail(lane) for lane in LANES])
        assert ruling.blind is not None
        assert ruling.blind.decision is Decision.BLIND
        assert (ruling.cleared, ruling.halt) == ([], None)
        assert rule([mail(lane) for lane in LANES], soaked=99).halt is None

    def test_bounces_alone_are_answers_too(self) -> None:
        assert rule([mail("gmail", soft_bounce=4_000)]).blind is None

    def test_a_route_that_reports_no_deliveries_cannot_be_blind(self) -> None:
        ruling = rule([mail(lane) for lane in LANES], reports_delivery=False)
        assert (ruling.blind, ruling.feeds, ruling.cleared) == (None, [], [1])

    def test_answers_that_are_missing_are_told_and_asked_about_when_the_longest_soak_is_over(self) -> None:
        """Between a silence and enough: it used to wait for ever without a word."""
        few = [mail(lane, delivered=1_400) for lane in LANES]
        ruling = rule(few)
        assert (ruling.blind, ruling.cleared, ruling.halt) == (None, [], None)
        assert [v.sentence for v in ruling.waits] == [
            "feed, all lanes, wave 1: 5,600 of 16,000 answers owed have come; too few to go by yet"
        ]
        late = rule(few, soaked=24).halt
        assert late is not None
        assert (late.reason, late.verdict.cell.signal) == (INCONCLUSIVE, "feed")
        asking = WavePlan.model_validate({**PLAN.model_dump(), "on_inconclusive": "hold"})
        assert rule(few, soaked=24, plan=asking).undecided[1].cell.signal == "feed"

    def test_a_lane_that_tells_nothing_at_all_is_no_good_mail(self) -> None:
        deaf = [mail("gmail", 7_000), *(mail(lane, delivered=3_900, hard_bounce=20) for lane in LANES[1:])]
        ruling = rule(deaf)
        assert (ruling.blind, ruling.cleared) == (None, [1]), "the others go on"
        told = {v.cell.provider: v.decision for v in ruling.verdicts if v.cell.signal == "feed" and not v.cell.wave}
        assert told == {"gmail": Decision.BLIND, **dict.fromkeys(LANES[1:], Decision.PASS)}
        whole = [v for v in ruling.verdicts if (v.cell.signal, v.cell.provider) == ("hard_bounce", "")]
        assert {v.cell.sent for v in whole} == {12_000}, "and are judged without it"
        planned = {"gmail": 30_000, **dict.fromkeys(LANES[1:], 4_000)}
        deaf[0] = mail("gmail", 30_000)
        most = rule(deaf, waves=(WaveFacts(1, "soaking", LONG_AGO, planned), WaveFacts(2, "waiting", None, planned)))
        assert most.cleared == [], "not where half of the mail and more tells nothing"


class TestComplete:
    def _last(self, **fields: Any) -> Ruling:
        waves = (
            WaveFacts(1, "cleared", LONG_AGO, {}),
            WaveFacts(2, "soaking", NOW - timedelta(hours=5), {}),
            WaveFacts(3, "skipped", None, {}),
        )
        return rule(healthy(wave=2), waves=waves, **fields)

    def test_the_last_wave_cleared_ends_the_campaign(self) -> None:
        assert self._last().complete

    def test_not_while_somebody_waits_in_an_open_lane(self) -> None:
        assert not self._last(waiting={"gmail"}).complete

    @pytest.mark.parametrize(
        ("since", "over"),
        [(NOW - timedelta(hours=71), False), (NOW - timedelta(hours=72), True), (None, False)],
    )
    def test_a_suspended_lane_waits_for_a_person_within_reason(self, since: datetime | None, over: bool) -> None:
        assert self._last(waiting={"orange"}, suspended={"orange": since}).complete is over

    def test_not_while_a_wave_is_out(self) -> None:
        for status in ("waiting", "released", "sending", "held", "halted"):
            assert not rule([], waves=(WaveFacts(1, status, None, {}),)).complete


def test_nothing_sent_yet_says_nothing() -> None:
    ruling = rule([], "released")
    assert (ruling.verdicts, ruling.halt, ruling.suspensions, ruling.cleared) == ([], None, {}, [])


def test_a_lane_nobody_planned_is_judged_all_the_same() -> None:
    ruling = rule([*healthy(), mail("new.example", hard_bounce=2_000, delivered=1_000)], "sending")
    assert list(ruling.suspensions) == ["new.example"]


def test_providers_without_feedback_loop_leave_both_sides_of_the_complaint_rate() -> None:
    told = [mail("gmail", sent=50_000, delivered=49_000), mail("orange", delivered=3_900, complaint=60)]
    by_cell = {
        (v.cell.signal, v.cell.provider): v for v in rule(told, "sending", mute={"gmail"}).verdicts if v.cell.wave
    }
    assert ("complaint", "gmail") not in by_cell
    assert (by_cell["complaint", ""].cell.sent, by_cell["complaint", ""].decision) == (4_000, Decision.HALT)
    assert by_cell["hard_bounce", ""].cell.sent == 54_000


HANDED = st.builds(
    Handed,
    wave=st.integers(1, 2),
    provider=st.sampled_from(LANES),
    handed_at=st.integers(0, 6_000).map(lambda m: NOW - timedelta(minutes=m, seconds=17)),
    accepted=st.integers(0, 1_000),
    refused=st.integers(0, 50),
    unknown=st.integers(0, 50),
    tallies=st.dictionaries(st.sampled_from(["hard_bounce", "delivered", "complaint"]), st.integers(0, 300)),
)


@given(st.lists(HANDED, max_size=20))
def test_gathering_loses_and_invents_nobody(batches: list[Handed]) -> None:
    found = gather(batches, NOW)
    heard = sum(b.unknown for b in batches if any(b.tallies.values()))
    assert sum(m.accepted for m in found) == sum(b.accepted for b in batches) + heard
    assert sum(m.refused for m in found) == sum(b.refused for b in batches)
    for tally in ("hard_bounce", "delivered"):
        assert sum(m.tallies.get(tally, 0) for m in found) == sum(b.tallies.get(tally, 0) for b in batches)
    assert found == gather(batches[::-1], NOW)
    for m in found:
        near = min((b.handed_at - m.sent_at) / (NOW - b.handed_at + timedelta(minutes=64)) for b in batches)
        assert near < 1 / 30


def test_what_was_refused_at_hand_over_counts_as_handed_over() -> None:
    told = [Mail(1, "orange", LONG_AGO, 600, 400, {"hard_bounce": 400, "delivered": 500})]
    assert cell(told, SIGNALS["hard_bounce"]).sent == 1_000
    assert cell(told, SIGNALS["unsubscribe"]).sent == 600
    assert cell(told, SIGNALS["open"]).sent == 500
    assert (feed(told).sent, feed(told).events) == (600, 600)


@pytest.mark.parametrize("status", ["waiting", "released"])
def test_a_campaign_of_which_nothing_left_yet_stops_nothing_and_stops_no_judge(status: str) -> None:
    """Found by simulation: the judge failed at every tick from a campaign's start to its first mail, for all."""
    ruling = rule([], status)
    assert (ruling.halt, ruling.suspensions, ruling.verdicts) == (None, {}, [])
