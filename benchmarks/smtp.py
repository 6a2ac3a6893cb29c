"""The smtp adapter against Postfix's own `smtp-source`, both into `smtp-sink` over kept connections.

    python benchmarks/smtp.py [--mails 20000] [--rounds 3] [--sessions 1]

Prints mails per second of both and their ratio (budget: at least 60 %). The adapter does what it does in life: a Jinja
body per person, personal headers, quoted-printable where it must, one transaction each with its receipt. smtp-source
repeats one ready-made text of the same size. Both on the loopback, taking turns, so that a noisy machine hits both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from sendwave import esp
from sendwave.esp.base import EspAdapter, Message, Recipients, Submission
from sendwave.rules.token import sign

BUDGET = 0.60
BATCH = 200
KEY = b"benchmark-key-16"
TEXT = "Bonjour {{ first_name }},\n\n" + "Les nouveautés de mars vous attendent.\n" * 12 + "{{ unsubscribe_url }}\n"
HTML = "<p>Bonjour {{ first_name }},</p>\n" + "<p>Les nouveautés de mars vous attendent.</p>\n" * 12
FIRST_NAMES = ["Zoé", "Anaïs", "Luc", "Marie", "François", "Inès", "Paul", "Élodie"]


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/libexec/postfix")
    if found is None:
        sys.exit(f"{name} is missing: it comes with Postfix (Debian package postfix)")
    return found


@contextmanager
def sink() -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([tool("smtp-sink"), *as_nobody(), f"127.0.0.1:{port}", "100"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def as_nobody() -> list[str]:
    """Postfix's test tools drop privileges when there are any."""
    import os

    return ["-u", "nobody"] if os.getuid() == 0 else []


def batches(mails: int) -> list[Submission]:
    message = Message(
        "lettre-mars", "newsletter", "Maison Lune <news@maisonlune.example>", "{{ first_name }}, les nouveautés",
        "content", unsubscribe="https://maisonlune.example/u/{token}",
    )  # fmt: skip
    now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    made = []
    for number in range(1, mails // BATCH + 1):
        people = Recipients(
            [f"p{number}.{i}@orange.fr" for i in range(BATCH)],
            [sign(KEY, number, i) for i in range(BATCH)],
            [f"C{i}" for i in range(BATCH)],
            ["hot"] * BATCH,
            {"first_name": [FIRST_NAMES[i % len(FIRST_NAMES)] for i in range(BATCH)]},
        )
        made.append(Submission(number, f"k{number}", 1, 1, "orange", message, people, now))
    return made


def adapter_rate(adapter: EspAdapter, work: list[Submission], sessions: int) -> tuple[float, float]:
    """Mails per second, and CPU microseconds of ours per mail."""
    started, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(sessions) as threads:
        for receipt in threads.map(adapter.submit, work):
            assert [*receipt.refused, *receipt.deferred, *receipt.unknown] == [], "the sink takes everything"
    mails = len(work) * BATCH
    return mails / (time.perf_counter() - started), (time.process_time() - cpu) / mails * 1e6


def source_rate(port: int, mails: int, size: int, sessions: int) -> float:
    command = [tool("smtp-source"), "-d", "-s", str(sessions), "-m", str(mails), "-l", str(size),
               "-f", "a@b.example", "-t", "c@d.example", f"127.0.0.1:{port}"]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return mails / (time.perf_counter() - started)


def mail_size(work: Submission, home: Path) -> int:
    """Bytes of one mail as it leaves."""
    from sendwave.esp.content import Content
    from sendwave.esp.mime import Letters

    letters = Letters(
        work.message, Content(home / "content", work.message.subject), wave=1, now=work.now,
        bounce_domain=None, unsubscribe_mailbox=None,
    )  # fmt: skip
    return len(letters.write(work.recipients.addresses[0], work.recipients.tokens[0], {"first_name": "Zoé"}).data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mails", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=1, help="connections of each")
    asked = parser.parse_args()
    work = batches(asked.mails)
    with tempfile.TemporaryDirectory() as folder, sink() as port:
        home = Path(folder)
        (home / "content").mkdir()
        (home / "content" / "body.txt").write_text(TEXT, encoding="utf-8")
        (home / "content" / "body.html").write_text(HTML, encoding="utf-8")
        size = mail_size(work[0], home)
        settings = {"esp": "smtp", "host": "127.0.0.1", "port": port, "tls": "none"}
        adapter = esp.make(settings, route="benchmark", home=home, token_key=KEY)
        adapter_rate(adapter, work[:5], 1)
        ours, theirs, costs = [], [], []
        for _ in range(asked.rounds):
            theirs.append(source_rate(port, len(work) * BATCH, size, asked.sessions))
            rate, cost = adapter_rate(adapter, work, asked.sessions)
            ours.append(rate)
            costs.append(cost)
        adapter.close()
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    result = {
        "mails": len(work) * BATCH,
        "bytes_per_mail": size,
        "sessions": asked.sessions,
        "smtp_source_per_s": round(median(theirs)),
        "sendwave_per_s": round(median(ours)),
        "cpu_us_per_mail": round(median(costs)),
        "ratio": round(ratio, 2),
        "budget": BUDGET,
        "met": ratio >= BUDGET,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
