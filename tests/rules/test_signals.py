from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.maturity import CURVES
from sendwave.rules.signals import SIGNALS, Scope, Tally, proof, suppression_of, tally_of

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HARD, SOFT, UNSURE = Permanence.HARD, Permanence.SOFT, Permanence.UNKNOWN


@pytest.mark.parametrize(
    ("kind", "permanence", "cause", "expected"),
    [
        (EventType.BOUNCE, HARD, Cause.UNKNOWN_USER, Tally.HARD_BOUNCE),
        (EventType.BOUNCE, HARD, Cause.BAD_DOMAIN, Tally.HARD_BOUNCE),
        (EventType.BOUNCE, HARD, None, Tally.HARD_BOUNCE),
        (EventType.BOUNCE, UNSURE, Cause.UNKNOWN_USER, Tally.HARD_BOUNCE),
        (EventType.BOUNCE, HARD, Cause.MAILBOX_FULL, Tally.SOFT_BOUNCE),
        (EventType.BOUNCE, SOFT, Cause.MAILBOX_FULL, Tally.SOFT_BOUNCE),
        (EventType.BOUNCE, SOFT, Cause.UNKNOWN_USER, Tally.SOFT_BOUNCE),
        (EventType.BOUNCE, UNSURE, Cause.BAD_DOMAIN, Tally.SOFT_BOUNCE),
        (EventType.BOUNCE, UNSURE, None, Tally.SOFT_BOUNCE),
        (EventType.BOUNCE, HARD, Cause.EXPIRED, Tally.SOFT_BOUNCE),
        (EventType.BOUNCE, HARD, Cause.BLOCKED_REPUTATION, Tally.BLOCK),
        (EventType.BOUNCE, SOFT, Cause.POLICY, Tally.BLOCK),
        (EventType.BOUNCE, HARD, Cause.CONTENT, Tally.BLOCK),
        (EventType.BOUNCE, HARD, Cause.SUPPRESSED, Tally.SUPPRESSED),
        (EventType.BOUNCE, SOFT, Cause.THROTTLED, Tally.DEFERRAL),
        (EventType.DEFERRED, SOFT, Cause.THROTTLED, Tally.DEFERRAL),
        (EventType.DEFERRED, SOFT, Cause.BLOCKED_REPUTATION, Tally.BLOCK),
        (EventType.DEFERRED, UNSURE, None, Tally.DEFERRAL),
        (EventType.REJECT, HARD, Cause.SUPPRESSED, Tally.SUPPRESSED),
        (EventType.REJECT, HARD, Cause.UNKNOWN_USER, Tally.HARD_BOUNCE),
        (EventType.REJECT, HARD, Cause.POLICY, Tally.BLOCK),
        (EventType.REJECT, HARD, Cause.OTHER, Tally.FAIL),
        (EventType.REJECT, UNSURE, None, Tally.FAIL),
        (EventType.FAIL, HARD, None, Tally.FAIL),
        (EventType.COMPLAINT, UNSURE, None, Tally.COMPLAINT),
        (EventType.UNKNOWN, HARD, Cause.UNKNOWN_USER, Tally.UNKNOWN),
    ],
)
def test_each_event_counts_in_one_tally(
    kind: EventType, permanence: Permanence, cause: Cause | None, expected: Tally
) -> None:
    assert tally_of(Event(kind, AT, permanence, cause)) is expected


@pytest.mark.parametrize(
    ("tally", "proves", "of_put_off", "of_refused"),
    [
        (Tally.DELIVERED, True, True, True),
        (Tally.OPEN, True, True, True),
        (Tally.HARD_BOUNCE, True, True, False),
        (Tally.SOFT_BOUNCE, True, False, False),
        (Tally.DEFERRAL, True, False, False),
        (Tally.BLOCK, True, False, False),
        (Tally.SUPPRESSED, True, False, False),
        (Tally.FAIL, True, False, False),
    ],
)
def test_what_proves_that_the_esp_had_somebody(
    tally: Tally, *, proves: bool, of_put_off: bool, of_refused: bool
) -> None:
    assert (tally in proof(put_off=False)) is proves
    assert (tally in proof(put_off=True)) is of_put_off
    assert [tally in proof(put_off=put_off, refused=True) for put_off in (False, True)] == [of_refused] * 2


@pytest.mark.parametrize(("machine", "expected"), [(True, Tally.MACHINE_OPEN), (False, Tally.OPEN), (None, Tally.OPEN)])
def test_machine_opens_stand_apart(machine: bool | None, expected: Tally) -> None:
    assert tally_of(Event(EventType.OPEN, AT, machine_open=machine)) is expected
    assert tally_of(Event(EventType.CLICK, AT, machine_open=machine)) is Tally.CLICK


def test_every_combination_has_a_tally_and_only_addresses_or_people_suppress() -> None:
    for kind, permanence, cause in product(EventType, Permanence, [None, *Cause]):
        counted = tally_of(Event(kind, AT, permanence, cause))
        stopped = suppression_of(counted, cause)
        if counted in {Tally.SOFT_BOUNCE, Tally.BLOCK, Tally.DEFERRAL, Tally.FAIL, Tally.UNKNOWN}:
            assert stopped is None
        if stopped is not None:
            assert counted in {Tally.HARD_BOUNCE, Tally.COMPLAINT, Tally.UNSUBSCRIBE, Tally.SUPPRESSED}


@pytest.mark.parametrize(
    ("counted", "cause", "expected"),
    [
        (Tally.HARD_BOUNCE, Cause.UNKNOWN_USER, ("hard_bounce", Scope.ALL)),
        (Tally.HARD_BOUNCE, Cause.BAD_DOMAIN, ("hard_bounce", Scope.ALL)),
        (Tally.HARD_BOUNCE, Cause.OTHER, None),
        (Tally.HARD_BOUNCE, None, None),
        (Tally.SOFT_BOUNCE, Cause.MAILBOX_FULL, None),
        (Tally.COMPLAINT, None, ("complaint", Scope.ALL)),
        (Tally.UNSUBSCRIBE, None, ("unsubscribe", Scope.PURPOSE)),
        (Tally.SUPPRESSED, Cause.SUPPRESSED, ("suppressed", Scope.ALL)),
        (Tally.OPEN, None, None),
    ],
)
def test_what_stops_further_mail(counted: Tally, cause: Cause | None, expected: tuple[str, Scope] | None) -> None:
    assert suppression_of(counted, cause) == expected


def test_signals_name_themselves_a_curve_and_tallies_of_their_own() -> None:
    for name, signal in SIGNALS.items():
        assert signal.name == name
        assert signal.curve in CURVES
        assert len(name) <= 24
    counted = [tally for signal in SIGNALS.values() for tally in signal.tallies]
    assert len(counted) == len(set(counted)), "one event would count in two signals"
