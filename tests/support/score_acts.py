"""Acts and people drawn at random from a seed: the same for every engine that is asked to score them."""

from __future__ import annotations

import numpy as np
from score_by_hand import DAY, Act, at

AS_OF = at("2026-03-02T09:00:00")
KINDS = (
    "purchase", "email_open", "email_click", "sms_click", "visit", "product_view", "product_page", "survey", "social",
    "service", "quote_request", "download", "asset_download", "contact_form", "event_registration", "video_view",
    "event_attendance", "unsubscribe", "open", "click", "unheard_of",
)  # fmt: skip
EDGES = (0, 2, 3, 4, 5, 7, 8, 9, 30, 89, 90, 91, 135, 179, 180, 364, 365)
ATTRIBUTES = (
    {}, {}, {"link_kind": "unsubscribe"}, {"status": "open"}, {"status": "résolu"}, {"sentiment": "negative"},
    {"place": "l'entrée \\ %"},
)  # fmt: skip


def people(count: int, seed: int = 1) -> dict[int, int | None]:
    """Contacts with sign-up instants, a third of them unknown."""
    draw = np.random.default_rng(seed)
    return {n: None if draw.random() < 0.3 else AS_OF - int(draw.integers(-1, 400)) * DAY for n in range(1, count + 1)}


def acts(count: int, contacts: int, seed: int = 1) -> list[Act]:
    """Acts on and beside the edges of bands and windows, in bursts that imply one another, some of them twice."""
    draw = np.random.default_rng(seed + 1000)
    made: list[Act] = []
    while len(made) < count:
        who = int(draw.integers(1, contacts + 1))
        edge = int(draw.choice(EDGES)) * DAY if draw.random() < 0.7 else int(draw.integers(-DAY, 400 * DAY))
        start, campaign = AS_OF - edge, str(draw.choice(["a", "b", "%"]))
        near = draw.choice([0, 1, -1, 600, 1800, -1800], int(draw.integers(1, 4)))
        made += [_act(draw, who, start + int(apart), campaign, number) for number, apart in enumerate(near)]
        if draw.random() < 0.2:
            made.append(made[-1])
    return made


def _act(draw: np.random.Generator, who: int, ts: int, campaign: str, number: int) -> Act:
    return Act(
        contact=who,
        kind=str(draw.choice(KINDS)),
        ts=ts,
        value=[None, 0.0, 6.0, 6.5, 9.0, 10.0, float("nan"), float("inf")][int(draw.integers(0, 8))],
        campaign=campaign if draw.random() < 0.8 else None,
        message_id=f"{campaign}-{who}" if draw.random() < 0.7 else None,
        machine=[None, False, True][int(draw.integers(0, 3))],
        attributes=ATTRIBUTES[int(draw.integers(0, len(ATTRIBUTES)))],
        interaction_id=f"{who}-{ts}-{number}-{int(draw.integers(0, 1 << 30))}",
    )
