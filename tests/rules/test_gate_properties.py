"""What is true of the gates whatever the counts: the five promises, each tested on the whole chain of the replay.

Property by property: more events never turn a halt into a pass; new names of lanes change nothing; a batch split in two
changes nothing; order and duplication of events change nothing; on its limit the evidence is a supermartingale
(test_evidence.py simulates the latter and tests the first three on the daemon's own batches as well).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sendwave.rules import evidence
from sendwave.rules.replay import Replay

LANES = ("gmail", "orange", "yahoo", "free")
SIGNALS = ("hard_bounce", "complaint", "deferral")


@dataclass(frozen=True)
class Batch:
    lane: str
    minute: int  # when it left
    people: int
    events: tuple[tuple[str, int, int], ...]  # signal, whose mail, how many minutes later


BATCH = st.integers(2, 4_000).flatmap(
    lambda people: st.builds(
        Batch,
        st.sampled_from(LANES),
        st.integers(0, 60),
        st.just(people),
        st.lists(
            st.tuples(st.sampled_from(SIGNALS), st.integers(0, people - 1), st.integers(0, 40)),
            max_size=60,
            unique=True,
        ).map(tuple),
    )
)
BATCHES = st.lists(BATCH, min_size=1, max_size=5)


def _hello(lanes: tuple[str, ...] = LANES) -> dict[str, Any]:
    return {
        "campaign": {"waves": [{"wave": n, "planned": dict.fromkeys(lanes, 20_000)} for n in (1, 2)]},
        "lanes": {lane: {"fbl": lane != lanes[0]} for lane in lanes}, "tick_s": 300,
        "policy": {"hard_bounce": {"threshold": 0.02}, "complaint": {"threshold": 0.001},
                   "deferral": {"threshold": 0.1}},
    }  # fmt: skip


def _events(number: int, batch: Batch) -> list[dict[str, Any]]:
    return [
        {"id": f"{number}.{who}.{signal}.{late}", "msg": f"{number}.{who}", "type": signal, "lane": batch.lane,
         "wave": 1, "batch": str(number), "t": 60 * (batch.minute + late), "sent_t": 60 * batch.minute}
        for signal, who, late in batch.events
    ]  # fmt: skip


def _sent(number: int, batch: Batch) -> dict[str, Any]:
    return {"wave": 1, "lane": batch.lane, "batch": str(number), "t": 60 * batch.minute, "n": batch.people}


def _told(
    sent: list[dict[str, Any]], events: list[dict[str, Any]], lanes: tuple[str, ...] = LANES, *, done: bool = True
) -> dict[str, Any]:
    """What is decided at one look, two hours after the start, the wave sent or not; deliveries are complete."""
    replay = Replay.of(_hello(lanes))
    delivered = [{"wave": 1, "lane": row["lane"], "n": row["n"]} for row in sent]
    replay.hear({"t": 7_200, "sent": sent, "delivered": delivered, "events": events,
                 "state": {"wave": 1, "wave_done": done}})  # fmt: skip
    actions, ruling = replay.decide()
    return {
        "acts": sorted((a["do"], a.get("lane", "")) for a in actions),
        "odds": sorted(
            (v.cell.signal, v.cell.wave, v.cell.provider, round(np.log1p(v.above), 6)) for v in ruling.verdicts
        ),
    }


def _severity(told: dict[str, Any], lane: str) -> int:
    """How hard a decision is on a lane: 3 halted with everybody, 2 suspended, 1 slowed or held."""
    acts = told["acts"]
    if ("halt_campaign", "") in acts:
        return 3
    return 2 if ("suspend_lane", lane) in acts else int(("throttle_lane", lane) in acts)


def _rows(batches: list[Batch]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    numbered = list(enumerate(batches))
    return [_sent(*one) for one in numbered], [event for one in numbered for event in _events(*one)]


COMPLAINTS = (("complaint", 0, 0), ("complaint", 1, 0))


@settings(max_examples=30)
@given(BATCHES, st.integers(1, 400), st.booleans())
@example([Batch("yahoo", 0, 4, COMPLAINTS), Batch("orange", 0, 2, COMPLAINTS)], 4, False)  # its bounces are no excuse
def test_more_events_never_turn_a_halt_into_a_pass(batches: list[Batch], more: int, done: bool) -> None:
    """Whoever was stopped stays stopped, and no wave opens, when more of them bounce."""
    before = _told(*_rows(batches), done=done)
    first = batches[0]
    known = {who for signal, who, _ in first.events if signal == "hard_bounce"}
    fresh = [("hard_bounce", who, 5) for who in range(first.people) if who not in known][:more]
    after = _told(*_rows([replace(first, events=(*first.events, *fresh)), *batches[1:]]), done=done)
    stopped = {"halt_campaign", "suspend_lane"} & {what for what, _ in before["acts"]}
    if stopped:
        assert {"halt_campaign", "suspend_lane"} & {what for what, _ in after["acts"]}
        assert _severity(after, first.lane) >= _severity(before, first.lane)


@settings(max_examples=30)
@given(BATCHES, st.permutations(["a", "b", "y", "z"]))
def test_new_names_of_lanes_change_nothing(batches: list[Batch], names: list[str]) -> None:
    new = dict(zip(LANES, names, strict=True))
    before = _told(*_rows(batches))
    after = _told(*_rows([replace(batch, lane=new[batch.lane]) for batch in batches]), lanes=tuple(names))
    assert sorted((what, new.get(lane, "")) for what, lane in before["acts"]) == after["acts"]
    assert sorted((s, w, new.get(lane, ""), odds) for s, w, lane, odds in before["odds"]) == after["odds"]


@settings(max_examples=30)
@given(BATCHES)
def test_a_batch_split_in_two_changes_nothing(batches: list[Batch]) -> None:
    sent, events = _rows(batches)
    parts = []
    for row in sent:
        parts += [{**row, "n": row["n"] // 2}, {**row, "batch": f"{row['batch']}b", "n": row["n"] - row["n"] // 2}]
    moved = [{**event, "batch": event["batch"] + "b" * (n % 2)} for n, event in enumerate(events)]
    assert _told(sent, events) == _told(parts, moved)


@settings(max_examples=30)
@given(BATCHES, st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_duplication_of_events_change_nothing(batches: list[Batch], shuffle: Any, copies: int) -> None:
    """Retries come under a new id; what counts is the message and the type."""
    sent, events = _rows(batches)
    again = [{**event, "id": f"{event['id']}.{copy}"} for copy in range(copies) for event in events]
    firsts = {(event["msg"], event["type"]): event for event in events}  # one delay each, whichever comes first
    single = [event for event in again if event["t"] == firsts[event["msg"], event["type"]]["t"]]
    mixed = list(single)
    shuffle.shuffle(mixed)
    assert _told(sent, mixed) == _told(sent, list(firsts.values()))


def test_on_the_limit_the_evidence_is_a_supermartingale() -> None:
    """2,000 senders on a limit of 2 %, looked at after each of 60 batches: the mean evidence is never above 1.

    Beyond the noise of the simulation: the bar of 4 standard errors; and few ever reach a bar (Ville).
    """
    draw, limit, senders, waves = np.random.default_rng(20_260_310), 0.02, 2_000, 3
    looks, size = 60, 40
    points = np.arange(looks) * waves * evidence.STAGES // looks
    seen = draw.binomial(size, limit, (senders, looks)).astype(np.float64)
    weight, tops = np.asarray(evidence.weights(waves)), np.zeros(senders)
    for look in range(1, looks + 1):
        events, owed = np.zeros((senders, waves * evidence.STAGES)), np.zeros(waves * evidence.STAGES)
        for batch in range(look):
            events[:, points[batch]] += seen[:, batch]
            owed[points[batch]] += size
        owed = np.broadcast_to(evidence.onward(owed), events.shape)
        values = np.exp(evidence.log_against(evidence.onward(events), owed, np.full(senders, limit), weight))
        assert values.mean() <= 1 + 4 * values.std() / np.sqrt(senders)
        tops = np.maximum(tops, values)
    assert (tops >= 10).mean() <= 0.10
    assert (tops >= 200).mean() <= 0.005
