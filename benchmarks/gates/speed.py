"""How long one evaluation takes: six lanes, six signals, thirty waves."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np

from gates.worlds import LANES
from sendwave.rules.cells import Sheet
from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.gates import GateSet
from sendwave.rules.rulings import Ruling
from sendwave.rules.waves import WavePlan

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SIGNALS = ("hard_bounce", "soft_bounce", "block", "deferral", "complaint", "unsubscribe")


def facts(waves: int = 30, rows: int = 20) -> Facts:
    """A campaign of healthy waves four hours apart, the last one in flight, so many rows of mail per wave and lane."""
    draw, lanes = np.random.default_rng(1), tuple(LANES)
    place = np.repeat(np.arange(waves), len(lanes) * rows)
    lane = np.tile(np.repeat(np.arange(len(lanes)), rows), waves)
    part = np.tile(np.arange(rows), waves * len(lanes))
    minute = NOW.timestamp() / 60 - (waves - place) * 240 + 2.0 * part
    sent = np.full(len(place), 1_000.0)
    tallies = {name: draw.binomial(1_000, 0.002, len(place)).astype(np.float64) for name in SIGNALS}
    sheet = Sheet(
        lanes, tuple(range(1, waves + 1)), lane, place, part * 4 // rows, (minute // 2).astype(np.int64), minute, sent,
        np.zeros_like(sent), {**tallies, "delivered": 0.97 * sent},
    )  # fmt: skip
    planned = dict.fromkeys(lanes, 1_000 * rows)
    flight = [WaveFacts(n, "sending" if n == waves else "cleared", None, planned) for n in range(1, waves + 1)]
    return Facts(
        gates=GateSet.model_validate({"signals": {name: {"halt": "5%"} for name in SIGNALS}}),
        plan=WavePlan.model_validate({"ramp": (Decimal(1),)}), waves=flight, lanes=lanes, suspended={}, mail=sheet,
        waiting=(), mute=(), reports_delivery=True,
    )  # fmt: skip


def speed(looks: int = 30) -> tuple[float, list[str]]:
    """Milliseconds of the quickest decision, and in words: alone, and with a verdict in words for every cell."""
    told, least, words = facts(), [], []
    for what in ("decision", "decision and all verdicts"):
        times = []
        for _ in range(looks):
            began, ruling = time.process_time(), Ruling(told, NOW)
            ruling.halt, ruling.suspensions, ruling.alarm, ruling.slow, ruling.restored, ruling.blind, ruling.cleared  # noqa: B018
            if what != "decision":
                ruling.verdicts  # noqa: B018
            times.append(1e3 * (time.process_time() - began))
        least.append(min(times))
        words.append(f"6 lanes x 6 signals x 30 waves, {what}: {min(times):.1f} ms (median {np.median(times):.1f})")
    return least[0], words
