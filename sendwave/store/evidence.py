"""Of whom ESPs told something by the tokens of a batch: such a word proves that the ESP had them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
from sqlalchemy import Connection, bindparam, select

from sendwave.rules.signals import Tally
from sendwave.store.tables import tallies

_LOOK_UP: Final = 500

_BITS: Final = select(tallies.c.batch_id, tallies.c.bits).where(
    tallies.c.batch_id.in_(bindparam("ids", expanding=True)), tallies.c.tally.in_(bindparam("kinds", expanding=True))
)

Told = dict[int, np.ndarray[tuple[int], np.dtype[np.uint8]]]
"""By batch, one byte per position: 1 for those told about."""


def told(conn: Connection, ids: Collection[int], of: Collection[Tally] = frozenset(Tally)) -> Told:
    """Those of these batches an event of these tallies told about."""
    found: Told = {}
    wanted = sorted(ids)
    for start in range(0, len(wanted), _LOOK_UP):
        for row in conn.execute(_BITS, {"ids": wanted[start : start + _LOOK_UP], "kinds": sorted(of)}):
            bits = np.unpackbits(np.frombuffer(row.bits, np.uint8), bitorder="little")
            found[row.batch_id] = found[row.batch_id] | bits if row.batch_id in found else bits
    return found


def has(found: Told, batch: int, position: int) -> bool:
    """Whether somebody is among them."""
    return batch in found and bool(found[batch][position])
