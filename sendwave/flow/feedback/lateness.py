"""How late each event that is news came after its hand-over, in bins: what delay curves are learnt from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sendwave.rules.arrivals import WORDS, Arrivals, Numbers
from sendwave.rules.maturity import EDGES, bin_of
from sendwave.store.delays import Lateness
from sendwave.store.tallies import Target

_BINS = len(EDGES)


def lateness(new: Arrivals, handed: Numbers, targets: Mapping[int, Target]) -> dict[Lateness, int]:
    """Events per lane of a wave, tally and bin of their delay. `handed` (epoch seconds) is 0 where it is not known."""
    told = handed > 0
    if not told.any():
        return {}
    batch, tally = new.batch[told], new.tally[told]
    late = bin_of((new.at[told] - handed[told]) / 60)
    ids, place = np.unique(batch, return_inverse=True)
    lanes: dict[tuple[int, int, str], int] = {}
    keys = [(targets[one].campaign_id, targets[one].wave, targets[one].provider) for one in ids.tolist()]
    lane = np.array([lanes.setdefault(key, len(lanes)) for key in keys], dtype=np.int64)[place]
    groups, counts = np.unique((lane * len(WORDS) + tally) * _BINS + late, return_counts=True)
    names, found = list(lanes), {}
    for group, n in zip(groups.tolist(), counts.tolist(), strict=True):
        kind, late_bin = divmod(group, _BINS)
        campaign, wave, provider = names[kind // len(WORDS)]
        found[Lateness(campaign, wave, provider, WORDS[kind % len(WORDS)].value, late_bin)] = n
    return found
