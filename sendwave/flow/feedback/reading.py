"""Reading: stored reports in our words, each by the adapter of its route."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from sendwave.errors import NotFound
from sendwave.esp.base import EspAdapter, RawReport
from sendwave.rules.arrivals import Numbers, epoch
from sendwave.rules.events import CONTENT_TYPE, Event, decode_events
from sendwave.store.inbox import Received


@contextmanager
def uncollected() -> Iterator[None]:
    """While events are made by the ten thousand, nobody looks for cycles among them: there are none.

    Python's collector would walk all of them again and again, a fifth of the processor time of a digest. Whatever
    other threads leave behind meanwhile is collected afterwards.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Read:
    """Reports in our words: event i came with report `owner[i]`."""

    reports: Sequence[Received]
    events: list[Event]
    owner: Numbers
    failures: Mapping[int, str]  # report id -> why
    found: Mapping[int, int]  # report id -> events

    def report(self, event: int) -> Received:
        """The report an event came with."""
        return self.reports[int(self.owner[event])]

    def ids(self) -> Numbers:
        """The report each event came with, by its id."""
        return np.array([report.id for report in self.reports], dtype=np.int64)[self.owner]

    def received(self) -> Numbers:
        """When each event was received, in epoch seconds."""
        return np.array([epoch(report.received_at) for report in self.reports], dtype=np.int64)[self.owner]


def read(reports: Sequence[Received], adapters: Mapping[str, EspAdapter]) -> Read:
    """The events of these reports. One nobody can read is a failure with its reason, and the feed goes on."""
    events: list[Event] = []
    failures: dict[int, str] = {}
    found: dict[int, int] = {}
    for report in reports:
        try:
            told = _normalise(report, adapters)
        except Exception as fault:  # noqa: BLE001  # whatever is wrong with one report, the feed goes on
            failures[report.id] = f"{type(fault).__name__}: {fault}"
        else:
            events += told
            found[report.id] = len(told)
    owner = np.repeat(np.arange(len(reports)), [found.get(report.id, 0) for report in reports])
    return Read(reports, events, owner, failures, found)


def _normalise(report: Received, adapters: Mapping[str, EspAdapter]) -> Sequence[Event]:
    if report.headers.get("content-type", "").partition(";")[0].strip() == CONTENT_TYPE:
        return decode_events(report.body)
    if report.route not in adapters:
        raise NotFound(f"no route {report.route!r} is set up, so nobody can read its reports")
    return adapters[report.route].normalise(RawReport(report.body, report.headers), report.received_at)
