"""What the simulated ESP remembers on disk: who was written to, and which of its events we acknowledged.

Two files of JSON lines, each written with one append and made durable before the call returns, so that a SIGKILL of our
process takes nothing away from what "the Internet" has seen. `arrivals` is the truth crash tests compare with.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from sendwave.esp.base import Recipients, Submission


class Acknowledged(NamedTuple):
    """Rows of a batch's fate that we may forget."""

    batch: int
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One batch that arrived; `accepted` are the positions that will be written to."""

    batch: int
    key: str
    campaign: int
    wave: int
    provider: str
    at: datetime
    people: Recipients
    accepted: Sequence[int]

    @classmethod
    def of(cls, submission: Submission, accepted: Sequence[int]) -> Self:
        """What arrived with that submission."""
        return cls(
            submission.batch_id,
            submission.key,
            submission.campaign_id,
            submission.wave,
            submission.provider,
            submission.now,
            submission.recipients,
            accepted,
        )

    @property
    def written_to(self) -> list[str]:
        """Contact ids of the people this batch wrote to."""
        return [self.people.contact_ids[position] for position in self.accepted]

    def line(self) -> dict[str, Any]:
        """As it stands in arrivals.jsonl."""
        people = self.people
        return {
            "batch": self.batch,
            "key": self.key,
            "campaign": self.campaign,
            "wave": self.wave,
            "provider": self.provider,
            "at": self.at.isoformat(),
            "addresses": list(people.addresses),
            "tokens": list(people.tokens),
            "contacts": list(people.contact_ids),
            "tiers": list(people.tiers),
            "accepted": list(self.accepted),
        }

    @classmethod
    def read(cls, line: dict[str, Any]) -> Self:
        """The reverse of `line`."""
        people = Recipients(line["addresses"], line["tokens"], line["contacts"], line["tiers"])
        return cls(
            line["batch"],
            line["key"],
            line["campaign"],
            line["wave"],
            line["provider"],
            datetime.fromisoformat(line["at"]),
            people,
            line["accepted"],
        )


class _Log:
    """A file of JSON lines that several processes append to and each reads on from where it stopped."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def append(self, *lines: dict[str, Any]) -> None:
        """Durable when it returns. Begins on a new line: a killed writer may have left half of one."""
        text = "".join(f"\n{json.dumps(line, separators=(',', ':'))}\n" for line in lines)
        with self._path.open("ab", buffering=0) as file:
            file.write(text.encode())
            os.fsync(file.fileno())

    def fresh(self) -> Iterator[dict[str, Any]]:
        """Whole lines appended since the last call; half a line that a killed writer left is nothing."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._read += end
        for line in data[:end].splitlines():
            try:
                found = json.loads(line) if line else None
            except ValueError:
                continue
            if found is not None:
                yield found


class State:
    """The folder of one simulated ESP."""

    def __init__(self, folder: Path) -> None:
        """Made when missing."""
        self._arrivals, self._done = _Log(folder / "arrivals.jsonl"), _Log(folder / "acknowledged.jsonl")

    def arrived(self, arrival: Arrival) -> None:
        """Remember a batch; durable when this returns."""
        self._arrivals.append(arrival.line())

    def acknowledged(self, rows: Sequence[Acknowledged]) -> None:
        """Remember what need not be reported again."""
        self._done.append(*({"batch": one.batch, "rows": list(one.rows)} for one in rows))

    def fresh(self) -> Iterator[tuple[Arrival, frozenset[int]]]:
        """Batches that arrived since the last call, by this process or another, with the rows already acknowledged."""
        found = [Arrival.read(line) for line in self._arrivals.fresh()]
        done: dict[int, set[int]] = defaultdict(set)
        for line in self._done.fresh():
            done[line["batch"]].update(line["rows"])
        for arrival in found:
            yield arrival, frozenset(done.get(arrival.batch, ()))


def arrivals(folder: Path) -> list[Arrival]:
    """Everything that ever arrived at the simulated ESP whose `state` that folder is, oldest first."""
    return [Arrival.read(line) for line in _Log(folder / "arrivals.jsonl").fresh()]
