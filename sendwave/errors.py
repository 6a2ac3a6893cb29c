"""Every error sendwave raises on purpose, in one tree.

    SendwaveError
    ├── BadInput             a file, policy, setting or argument is wrong        exit 2
    ├── NotFound             the thing named does not exist                      exit 4
    ├── NotAllowed           the lifecycle or a role forbids it                  exit 3
    │   └── StaleTransition  somebody moved the row first: re-read and decide again
    ├── Busy                 another process holds what we need                  exit 5
    ├── Unreachable          the storage of the lake does not answer; nothing changed   exit 5
    ├── FullDisk             no room left; nothing half-written stays            exit 2
    └── HandOverError        what an adapter raises instead of a receipt
        ├── Transient        nothing was handed over; the same batch may go later
        │   └── Held         the ESP stopped the account, or its quota is used up: the route waits for that
        ├── Permanent        nothing was handed over; it never will be as it is
        └── Unknown          it may have been handed over; never repeat it blindly

Messages say what happened and what to do next; exceptions carry their data as attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SendwaveError(Exception):
    """Base of all; `exit_code` is what the command line returns for it."""

    exit_code = 2


class BadInput(SendwaveError):
    """Input that cannot be used. `findings` holds every mistake found, one line each."""

    def __init__(self, message: str, findings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class NotFound(SendwaveError):
    """The campaign, contact, file or policy named does not exist."""

    exit_code = 4


class NotAllowed(SendwaveError):
    """The lifecycle or a role forbids the action."""

    exit_code = 3


class StaleTransition(NotAllowed):
    """A compare-and-set update touched no row: its state had already changed."""


class Busy(SendwaveError):
    """Another process holds the workspace, a lease or the database."""

    exit_code = 5


class Unreachable(SendwaveError):
    """The storage that has the lake does not answer, or asks to be called later; what was under way changed nothing."""

    exit_code = 5


class FullDisk(SendwaveError):
    """The disk is full; the file being written was removed and nothing was registered."""


class HandOverError(SendwaveError):
    """An adapter could not return a receipt for a batch."""


class Transient(HandOverError):
    """Nothing was handed over. `retry_after` is the wait the ESP asked for, in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Held(Transient):
    """Nothing was handed over: the ESP itself stopped this account, or a quota of it is used up.

    `reason` is the word of the hold on the route, the message what the ESP says of it.
    """

    def __init__(self, message: str, retry_after: float | None = None, *, reason: str = "esp_account_stopped") -> None:
        super().__init__(message, retry_after)
        self.reason = reason


class Permanent(HandOverError):
    """Nothing was handed over and repeating it as it is cannot help."""


class Unknown(HandOverError):
    """The request left and no answer came: the ESP may or may not have taken the batch."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word nobody knows: ` Did you mean 'x'?`, else the known words when they are few."""
    words = sorted(set(known))
    plain = {w.lower(): w for w in words}
    if close := get_close_matches(word.lower(), plain, n=1, cutoff=0.6):
        return f" Did you mean {plain[close[0]]!r}?"
    return f" Known: {', '.join(words)}." if 0 < len(words) <= 12 else ""
