"""Bounce and complaint mails waiting in a Maildir, put there by a mail server or by our own listener.

Maildir is the plain convention every mail server knows: a mail appears in new/ by an atomic rename, so a reader never
sees half of one. Acknowledged mails move to cur/, where people can still read them; empty it at leisure.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from sendwave.errors import Busy
from sendwave.esp.base import RawReport
from sendwave.rules.units import Policy

_LARGEST: Final = 2_000_000  # bytes of a mail that are read; a bounce that returns a whole mailing stays far below
_FLAGS: Final = ":2,S"  # Maildir's mark for "seen"


class MailboxSettings(Policy):
    """Where bounces and complaints arrive."""

    maildir: Path = Field(description="Maildir folder, relative to the workspace; made when missing.")
    listen: str | None = Field(
        None, description="Take mail in ourselves: lmtp://127.0.0.1:2424 or smtp://127.0.0.1:2525."
    )
    accept: tuple[str, ...] = Field((), description="Addresses the listener takes besides b-…@bounce_domain.")

    @field_validator("listen")
    @classmethod
    def _is_listenable(cls, value: str | None) -> str | None:
        if value is not None:
            url = urlsplit(value)
            if url.scheme not in {"lmtp", "smtp"} or not url.hostname or url.port is None:
                raise ValueError("write lmtp://HOST:PORT or smtp://HOST:PORT, for instance lmtp://127.0.0.1:2424")
        return value


def deliver(folder: Path, mail: bytes) -> str:
    """Write one mail durably into the Maildir and return its name. The same mail twice is one file.

    Raises OSError when it could not be made durable: the sender must keep it then.
    """
    name = f"{hashlib.sha256(mail).hexdigest()[:40]}.sendwave"
    temporary = folder / "tmp" / f"{name}.{os.getpid()}.{threading.get_ident()}"
    with temporary.open("wb") as file:
        file.write(mail)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / "new" / name)
    directory = os.open(folder / "new", os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return name


class Mailbox:
    """A Maildir as a feed of reports, with a listener of its own if the settings ask for one."""

    def __init__(self, settings: MailboxSettings, home: Path, bounce_domain: str | None) -> None:
        """Nothing is read and nobody listens before the first `waiting`."""
        self._settings, self._bounce_domain = settings, bounce_domain
        self._folder = home / settings.maildir
        self._listener: Any = None
        self._lock = threading.Lock()

    def waiting(self) -> Iterator[RawReport]:
        """Mails not acknowledged yet, by name. Raises Busy when the listener's port is taken."""
        with self._lock:
            for part in ("tmp", "new", "cur"):
                (self._folder / part).mkdir(parents=True, exist_ok=True)
            if self._settings.listen is not None and self._listener is None:
                self._listener = self._listening(self._settings.listen)
        for path in sorted((self._folder / "new").iterdir()):
            with suppress(FileNotFoundError), path.open("rb") as file:  # another node may have taken it
                yield RawReport(body=file.read(_LARGEST), ref=path.name)

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        """Move them to cur/. One that is gone already is no error; were the move lost, it is only read again."""
        for report in reports:
            with suppress(FileNotFoundError):
                name = report.ref.partition(":")[0]
                (self._folder / "new" / report.ref).rename(self._folder / "cur" / f"{name}{_FLAGS}")

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            if self._listener is not None:
                self._listener.stop()
                self._listener = None

    def _listening(self, url: str) -> Any:
        from sendwave.esp.listener import Listener

        where = urlsplit(url)
        host, port = where.hostname or "127.0.0.1", where.port or 0
        domain = re.escape(self._bounce_domain) if self._bounce_domain else "[^@]+"
        wanted = "|".join([rf"b-[0-9a-f]+@{domain}", *map(re.escape, self._settings.accept)])
        try:
            with socket.create_server((host, port)):
                pass  # asked here, because the listener's own thread says no only after a time-out
            listener = Listener(
                host=host,
                port=port,
                lmtp=where.scheme == "lmtp",
                wanted=re.compile(wanted, re.IGNORECASE),
                store=lambda mail: deliver(self._folder, mail),
            )
            listener.start()
        except OSError as taken:
            raise Busy(f"cannot listen for bounces on {url}: {taken}") from taken
        return listener
