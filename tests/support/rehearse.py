"""What a first campaign needs around it: a CRM's export, a mail relay, and an Internet that refuses some addresses.

`python tests/support/rehearse.py FOLDER` makes a workspace in FOLDER and keeps relay and Internet up until Ctrl-C;
docs/guides/first-campaign.md walks through it, and an acceptance test does the same walk.

The refusals are written into the addresses (`+gone`, `+full`, `+policy`, `+later`), more of them the colder the tier,
so that a test knows the truth without asking sendwave.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import postfix_server
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from ports import free_port

REPLIES = {
    "gone": "550 5.1.1 <{address}>: Recipient address rejected: User unknown",
    "full": "552 5.2.2 <{address}>: Mailbox is full",
    "policy": "554 5.7.1 <{address}>: Message rejected by local policy",
    "later": "451 4.3.0 <{address}>: Temporary lookup failure, try again later",
}
SETTINGS = """\
time_zone: Europe/Paris
routes:
  relay:
    esp: smtp
    host: 127.0.0.1
    port: {port}
    tls: none
    bounce_domain: bounces.example
    bounces: {{maildir: mail/bounces, listen: "lmtp://127.0.0.1:{bounces}"}}
"""

TYPE = """\
type: newsletter
importance: 40
tiers:
  burning: {share: 100%}
  hot:     {share: 100%, cap: 3 per 7d}
  warm:    {share: 100%, cap: 2 per 7d}
  cool:    {share: 100%, cap: 2 per 7d}
  cold:    {share: 100%, cap: 1 per 7d}
caps: [{max: 1 per 1d, counts: channel}]
control: 5%
waves: {ramp: [5%, 25%, 20%, 25%, 25%], soak: 8s, soak_max: 20s, on_inconclusive: release}
gates:
  use: default
  signals:                # people take hours to complain or to leave; this rehearsal waits seconds
    complaint:   {hold: 0.1%, halt: 0.3%, mode: observe}
    unsubscribe: {hold: 1%, mode: observe}
"""

CAMPAIGN = """\
name: soldes
title: Soldes d'hiver
type: newsletter
route: relay
sender: "Maison Lune <news@maisonlune.example>"
subject: "{{ first_name }}, les soldes commencent"
content: content/soldes
unsubscribe: "https://maisonlune.example/u/{token}"
"""

TEXT = "Bonjour {{ first_name }},\n\nLes soldes commencent.\n\nSe désinscrire : {{ unsubscribe_url }}\n"

PROVIDERS = ("gmail.com", "orange.fr", "hotmail.fr", "free.fr", "laposte.net", "sfr.fr", "entreprise.example")


@dataclass(frozen=True, slots=True)
class Export:
    """The files of one export."""

    contacts: Path
    consents: Path
    suppressions: Path
    scores: Path

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return iter((kind, getattr(self, kind)) for kind in self.__slots__)


def _draw(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


def fate(number: int, score: int) -> str:
    """What the Internet will do with this address: '' or a key of REPLIES; the colder, the worse."""
    gone = 0.002 if score >= 60 else 0.004 if score >= 30 else 0.14
    draw = _draw(f"fate {number}")
    for word, share in (("gone", gone), ("full", 0.003), ("policy", 0.002), ("later", 0.002)):
        if draw < share:
            return word
        draw -= share
    return ""


def write_export(folder: Path, contacts: int = 20_000) -> Export:
    """A CRM's export: contacts, consents, suppressions and scores, the same each time."""
    folder.mkdir(parents=True, exist_ok=True)
    export = Export(*(folder / f"{kind}.csv" for kind in Export.__slots__))
    people = [_person(number) for number in range(1, contacts + 1)]
    _write(export.contacts, ("contact_id", "email", "first_name", "timezone"), (p[:4] for p in people))
    _write(
        export.consents,
        ("contact_id", "channel", "purpose", "status", "basis", "recorded_at", "proof"),
        (
            (p[0], "email", "marketing", "withdrawn" if _draw(f"consent {p[0]}") < 0.05 else "granted", "consent",
             "2025-06-01T10:00:00Z", "web form")
            for p in people
            if _draw(f"known {p[0]}") < 0.97
        ),
    )  # fmt: skip
    _write(
        export.suppressions,
        ("email", "channel", "scope", "reason", "since"),
        ((p[1], "email", "all", "complaint", "2025-09-01T10:00:00Z") for p in people if _draw(f"listed {p[0]}") < 0.01),
    )
    _write(export.scores, ("contact_id", "score", "scored_at"), ((p[0], p[4], "2026-01-01T04:00:00Z") for p in people))
    return export


def _person(number: int) -> tuple[str, str, str, str, int]:
    score = int(100 * _draw(f"score {number}") ** 1.3)
    tag = fate(number, score)
    domain = PROVIDERS[int(_draw(f"domain {number}") * len(PROVIDERS))]
    address = f"person{number}{'+' + tag if tag else ''}@{domain}"
    return f"C{number:05d}", address, "Zoé" if number % 2 else "Loïc", "Europe/Paris", score


def _write(path: Path, header: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(header)
        writer.writerows(rows)


@dataclass
class Internet:
    """All mailbox providers in one SMTP server: refuses by the word in the address, remembers who got mail."""

    port: int
    arrived: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    repaired: bool = False  # from then on it takes everything
    _controller: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        handler = self

        class _Server(Controller):
            def factory(self) -> SMTP:
                return SMTP(handler, hostname="internet.example", enable_SMTPUTF8=True)

        self._controller = _Server(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        word = address.partition("@")[0].partition("+")[2]
        if word in REPLIES and not self.repaired:
            self.refused[word] += 1
            return REPLIES[word].format(address=address)
        envelope.rcpt_tos.append(address)
        await asyncio.sleep(0)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        with self._lock:
            for address in envelope.rcpt_tos:
                self.arrived[address] += 1
        return "250 2.0.0 Ok: delivered"


@contextmanager
def world(home: Path) -> Iterator[Internet]:
    """A workspace in `home` whose route leads to a real Postfix, and the Internet behind it."""
    out, back = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="relay-") as folder, Internet(out) as internet:
        root = Path(folder)
        root.chmod(0o755)
        with postfix_server.running(root / "postfix", internet=out, bounces=back) as relay:
            files = {
                "sendwave.yaml": SETTINGS.format(port=relay.port, bounces=back),
                "policies/types/newsletter.yaml": TYPE,
                "campaigns/soldes.yaml": CAMPAIGN,
                "content/soldes/body.txt": TEXT,
            }
            for name, text in files.items():
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                (home / name).write_text(text, encoding="utf-8")
            yield internet


def main(folder: str) -> None:
    """Keep the world up; Enter repairs the directory, Ctrl-C ends."""
    home = Path(folder)
    write_export(home / "data")
    with world(home) as internet, suppress(KeyboardInterrupt, EOFError):
        print(f"workspace in {home}. Press Enter to mend the relay's directory, Ctrl-C to end.")
        input()
        internet.repaired = True
        print("mended: from now on every address is taken. Ctrl-C to end.")
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1])
