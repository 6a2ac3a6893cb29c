from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.flow import feedback
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import release
from sendwave.store.database import Database

OURS = "https://mail.lune.example/u/{token}"


def test_who_unsubscribes_between_two_batches_is_not_in_the_second(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """Their link is of the first batch; the second one, of another campaign, was frozen with them in it."""
    sendable.write_base(database, lake, 60, now)
    policy, esp = sendable.policy_set(ramp=["100%"]), sendable.MemoryEsp()
    dispatcher = Dispatcher(database, engine, lake, {"main": esp}, sendable.KEY, "me", at_once=1000)
    for name in ("spring", "summer"):
        sendable.approved(database, engine, lake, policy, now, name=name)
    release(database, engine, lake, now=now, batch_sizes={"main": 20})
    once = Dispatcher(database, engine, lake, {"main": esp}, sendable.KEY, "me", at_once=1)
    once.step(now)
    first = esp.submissions[0].recipients
    address, token = first.addresses[0], first.tokens[0]
    assert esp.arrived[address] == 1

    later = now + timedelta(seconds=1)
    person = feedback.whose(database, sendable.KEY, token)
    feedback.unsubscribe(database, engine, lake, person, everything=False, now=later)
    while dispatcher.step(later).batches:
        pass

    assert esp.arrived[address] == 1
    assert sum(esp.arrived.values()) == 2 * 60 - 1


@pytest.mark.parametrize("purpose", ["marketing", "service"])
def test_a_campaign_without_a_url_gets_ours_unless_it_is_service_mail(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, purpose: str
) -> None:
    db, esp = sqlite_database, sendable.MemoryEsp()
    sendable.write_base(db, lake, 9, now)
    told = sendable.policy_set(ramp=["100%"])
    policy = told.model_copy(
        update={"types": {"newsletter": told.types["newsletter"].model_copy(update={"purpose": purpose})}}
    )
    sendable.approved(db, engine, lake, policy, now)
    release(db, engine, lake, now=now, batch_sizes={"main": 20})
    Dispatcher(db, engine, lake, {"main": esp}, sendable.KEY, "me", unsubscribe=OURS).step(now)
    assert {s.message.unsubscribe for s in esp.submissions} == {OURS if purpose == "marketing" else None}


def test_a_campaign_keeps_the_url_it_names(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db, esp = sqlite_database, sendable.MemoryEsp()
    sendable.write_base(db, lake, 3, now)
    own = "https://elsewhere.example/?who={token}"
    sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), now, unsubscribe=own)
    release(db, engine, lake, now=now, batch_sizes={"main": 20})
    Dispatcher(db, engine, lake, {"main": esp}, sendable.KEY, "me", unsubscribe=OURS).step(now)
    assert esp.submissions[0].message.unsubscribe == own
