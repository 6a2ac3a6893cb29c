"""Every gate weighed at once says what each cell weighed by itself says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import exp, isclose

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sendwave.rules import evidence
from sendwave.rules.board import Board, Judged
from sendwave.rules.cells import Book, Mail
from sendwave.rules.gates import Gate, judge, levels
from sendwave.rules.maturity import CURVES, Tempo
from sendwave.rules.signals import SIGNALS

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
MOST = {"hard_bounce": 900, "complaint": 40, "block": 30_000, "soft_bounce": 2}
LANES = ("gmail", "orange", "yahoo")
MAIL = st.lists(
    st.builds(
        Mail,
        wave=st.integers(1, 3),
        provider=st.sampled_from(LANES),
        sent_at=st.integers(0, 3_000).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        accepted=st.integers(0, 30_000),
        refused=st.just(0),
        tallies=st.fixed_dictionaries({name: st.integers(0, most) for name, most in MOST.items()}),
        stage=st.integers(0, 3),
    ),
    min_size=1,
    max_size=15,
)
JUDGED = [
    Judged("hard_bounce", Gate.model_validate({"hold": "2%", "halt": "5%"}), CURVES["bounce"], Tempo(0.7, 1.0, 1.4)),
    Judged("complaint", Gate.model_validate({"halt": "0.1%"}), CURVES["complaint"]),
    Judged("block", Gate.model_validate({"halt": "100%"}), CURVES["bounce"]),
    Judged("soft_bounce", Gate.model_validate({"halt": "0%"}), CURVES["bounce"]),
]


def _board(mail: list[Mail]) -> Board:
    book = Book(mail, NOW, waves=(1, 2, 3), mute=("gmail",))
    return Board(book, JUDGED, waves=(2, 3), open_lanes=LANES, now=NOW, tested=8)


@settings(max_examples=25)
@given(MAIL)
def test_the_board_says_what_the_judge_of_a_single_cell_says(mail: list[Mail]) -> None:
    board = _board(mail)
    for name, wave, lane in board.cells():
        one = board.judged[board.names.index(name)]
        cell, weighed = board.cell(name, wave, lane, apart=True), board.balance(name, wave, lane)
        alone = judge(cell, one.gate, NOW, curve=one.curve, tempo=one.tempo, soaked=True)
        told = judge(cell, one.gate, NOW, curve=one.curve, tempo=one.tempo, soaked=True, weighed=weighed)
        assert told.decision is alone.decision, (told.sentence, alone.sentence)
        for ours, theirs in ((told.above, alone.above), (told.alarm, alone.alarm), (told.below, alone.below)):
            assert isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-9)


@settings(max_examples=25)
@given(MAIL)
def test_every_cell_with_something_to_tell_is_told(mail: list[Mail]) -> None:
    board = _board(mail)
    loud = set(board.telling(3.0))
    for cell in board.cells():
        weighed = board.balance(*cell)
        most = max(weighed.halt.value, weighed.alarm.value, weighed.hold.value)
        assert (cell in loud) == (most >= 3.0) or isclose(most, 3.0, rel_tol=1e-9)


@settings(max_examples=25)
@given(MAIL)
def test_slots_of_mail_bear_out_what_a_bet_on_each_of_them_wins(mail: list[Mail]) -> None:
    """From the best of the restart points; a slot that owes less than an event goes with its neighbours."""
    board = _board(mail)
    limit, points = levels(JUDGED[0].gate)[1], 3 * evidence.STAGES
    best = 0.0
    for point in range(points):
        rest = [one for one in mail if (one.wave - 1) * evidence.STAGES + one.stage >= point]
        slots = []
        for slot in sorted({_slot(one) for one in rest}):
            told = [one for one in rest if _slot(one) == slot]
            counts = Book(told, NOW, waves=(1, 2, 3), mute=()).counts(
                SIGNALS["hard_bounce"], JUDGED[0].curve, JUDGED[0].tempo
            )
            slots.append((counts[1].sum(), evidence.allowance(limit, counts[2].sum())))
        best = max(best, _won([pair for pair in slots if pair[1] > 0]))
    assert isclose(board.borne_out("hard_bounce", 0, ""), min(best, exp(evidence.MOST)), rel_tol=1e-6)


def _won(slots: list[tuple[float, float]]) -> float:
    groups: list[list[float]] = []
    before, place = 0.0, -1
    for seen, owed in slots:
        if (whole := int(before + 1e-9)) > place:
            groups.append([0.0, 0.0])
            place = whole
        groups[-1][0] += seen
        groups[-1][1] += owed
        before += owed
    if len(groups) > 1 and groups[-1][1] < 1:
        seen, owed = groups.pop()
        groups[-1][0] += seen
        groups[-1][1] += owed
    return float(np.mean([np.prod([1 + bet * (n / a - 1) for n, a in groups]) for bet in (0.25, 0.5, 0.75, 0.9)]))


def _slot(mail: Mail) -> int:
    return int(mail.sent_at.timestamp() // 120)
