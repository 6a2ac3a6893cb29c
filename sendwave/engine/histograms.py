"""How many contacts have which score, for those who cut tiers."""

from __future__ import annotations

from sendwave.engine.base import Session
from sendwave.rules import distribution as rules
from sendwave.rules.cutoffs import Histogram
from sendwave.rules.tiers import Tiers


def score_histogram(session: Session, tiers: Tiers) -> Histogram:
    """Contacts per score: every distinct score, or up to `rules.distribution.BINS` bins where they are too many.

    The session has `contacts` and `scores`.
    """
    extent = session.read(rules.extent(tiers)).to_pylist()[0]
    width = None
    if extent["distinct"] > rules.BINS:
        width = (extent["high"] - extent["low"]) / rules.BINS
    statement = rules.histogram(tiers, low=extent["low"] or 0.0, width=width)
    return Histogram.of([(row["score"], row["contacts"]) for row in session.read(statement).to_pylist()])
