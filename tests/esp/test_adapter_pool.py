"""One route's adapters and the threads that want one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sendwave.esp.adapter_pool import Lending
from sendwave.esp.base import Capabilities, Receipt


class Fake:
    """An adapter that waits until as many threads as expected are in it, or in its like."""

    def __init__(self, meeting: threading.Barrier, *, concurrent: bool) -> None:
        self.capabilities = Capabilities(batch_size=1, concurrent=concurrent)
        self.meeting, self.calls, self.inside, self.closed = meeting, 0, 0, False

    def submit(self, _submission: Any) -> Receipt:
        self.calls += 1
        self.inside += 1
        assert self.inside == 1 or self.capabilities.concurrent
        self.meeting.wait(timeout=20)
        self.inside -= 1
        return Receipt()

    def close(self) -> None:
        self.closed = True


def submit_from_three_threads(lending: Lending) -> None:
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lending.submit, [None] * 3))  # type: ignore[arg-type]


def test_one_adapter_each_where_they_cannot_share() -> None:
    meeting = threading.Barrier(3)
    own, made = Fake(meeting, concurrent=False), []

    def make() -> Any:
        made.append(Fake(meeting, concurrent=False))
        return made[-1]

    lending = Lending(own, 3, make)  # type: ignore[arg-type]
    submit_from_three_threads(lending)
    assert [fake.calls for fake in (own, *made)] == [1, 1, 1]
    lending.close()
    assert [fake.closed for fake in (own, *made)] == [False, True, True]


def test_one_for_all_where_they_can() -> None:
    own = Fake(threading.Barrier(3), concurrent=True)
    submit_from_three_threads(Lending(own, 3, lambda: Fake(own.meeting, concurrent=True)))  # type: ignore[arg-type]
    assert own.calls == 3
