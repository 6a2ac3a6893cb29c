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
def test_without_the_worst_is_the_least_evidence_left_without_any_one_slot(mail: list[Mail]) -> None:
    board = _board(mail)
    limit, weight = levels(JUDGED[0].gate)[1], np.asarray(evidence.weights(3))
    slots = sorted({_slot(one) for one in mail})
    found, left = board.without_the_worst("hard_bounce", 0, "")
    assert found == len(slots)
    if found < 2:
        assert left == 1.0
        return
    curve, signal = JUDGED[0].curve, SIGNALS["hard_bounce"]
    each = []
    for slot in slots:
        rest = [one for one in mail if _slot(one) != slot]
        counts = Book(rest, NOW, waves=(1, 2, 3), mute=()).counts(signal, curve, JUDGED[0].tempo).sum(axis=1)
        onward = evidence.onward(counts)
        each.append(exp(float(evidence.log_against(onward[1], onward[2], limit, weight))))
    assert isclose(left, min(each), rel_tol=1e-6)


def _slot(mail: Mail) -> int:
    return int(mail.sent_at.timestamp() // 120)
