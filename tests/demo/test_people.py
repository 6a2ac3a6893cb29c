"""The made-up base: the same for the same seed, and of the proportions it promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import datetime
from pathlib import Path

import pytest
from pyarrow import Table, csv

from sendwave.demo.people import DOMAINS, Files, make

PEOPLE = 20_000


def _read(path: Path) -> Table:
    return csv.read_csv(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    from datetime import UTC

    now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    return make(tmp_path_factory.mktemp("people"), contacts=PEOPLE, seed=7, now=now)


def test_a_seed_decides_everything(tmp_path: Path, now: datetime) -> None:
    one, same, other = (
        make(tmp_path / name, contacts=500, seed=seed, now=now) for name, seed in (("a", 7), ("b", 7), ("c", 8))
    )
    for field in fields(Files):
        text = [getattr(made, field.name).read_bytes() for made in (one, same, other)]
        assert text[0] == text[1]
        assert text[0] != text[2]


@pytest.mark.parametrize("people", [1, 2, 50])
def test_even_a_handful_of_people_is_a_base(tmp_path: Path, now: datetime, people: int) -> None:
    assert _read(make(tmp_path, contacts=people, seed=1, now=now).contacts).num_rows == people


def test_mailbox_providers_in_their_shares(files: Files) -> None:
    emails = [email for email in _read(files.contacts)["email"].to_pylist() if email and "@" in email]
    domains = Counter(email.partition("@")[2] for email in emails)
    assert set(domains) == set(DOMAINS)
    for domain, share in DOMAINS.items():
        assert domains[domain] / len(emails) == pytest.approx(share / sum(DOMAINS.values()), abs=0.012)


def test_a_few_addresses_are_missing_broken_or_doubled(files: Files) -> None:
    emails = _read(files.contacts)["email"].to_pylist()
    assert 0.003 < sum(not email for email in emails) / PEOPLE < 0.010
    assert 0.001 < sum(bool(email) and "@" not in email for email in emails) / PEOPLE < 0.006
    doubled = Counter(email for email in emails if email)
    assert 0.001 < sum(n - 1 for n in doubled.values()) / PEOPLE < 0.008


def test_consents_are_mostly_granted_and_some_are_not_known(files: Files) -> None:
    statuses = Counter(_read(files.consents)["status"].to_pylist())
    assert set(statuses) == {"granted", "withdrawn", "pending"}
    assert 0.96 < statuses.total() / PEOPLE < 0.98
    assert 0.91 < statuses["granted"] / statuses.total() < 0.94


def test_scores_spread_over_all_tiers(files: Files) -> None:
    scores = _read(files.scores)["score"].to_pylist()
    assert min(scores) < 5
    assert max(scores) > 85
    assert 30 < sum(scores) / len(scores) < 55


def test_past_sends_are_past_and_never_later_than_now(files: Files, now: datetime) -> None:
    at = _read(files.sends)["sent_at"].to_pylist()
    assert len(at) > PEOPLE
    assert all(str(instant) < now.isoformat() for instant in (min(map(str, at)),))


def test_nobody_here_can_be_written_to_outside_known_providers(files: Files) -> None:
    """Domains of companies end in `.example` (RFC 2606); the others are those whose lanes the demo shows."""
    shown = {"gmail.com", "hotmail.fr", "outlook.fr", "live.fr", "orange.fr", "wanadoo.fr", "free.fr", "sfr.fr"}
    shown |= {"neuf.fr", "yahoo.fr", "laposte.net", "icloud.com"}
    assert {domain for domain in DOMAINS if not domain.endswith(".example")} == shown
