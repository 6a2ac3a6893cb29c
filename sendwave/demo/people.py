"""Made-up but plausible contacts of a French retailer, the same for the same seed.

Shares of mailbox providers, tiers, consents and past pressure are of the order a French retail base shows; names are
common French first and last names put together at random. Nobody here exists, and every domain of `other` ends in
`.example` (RFC 2606).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

FIRST: Final = tuple(
    """
    Camille Léa Manon Chloé Emma Inès Jade Louise Sarah Julie Marie Claire Anaïs Élodie Céline Nathalie Sylvie
    Isabelle Françoise Hélène Zoé Agathe Margaux Noémie Amélie Lucas Hugo Louis Gabriel Arthur Jules Adam Paul
    Antoine Nicolas Thomas Julien Mathieu Pierre Michel Alain Éric Laurent Stéphane Rémi Loïc François Benoît Karim
    Mehdi
    """.split()
)
LAST: Final = tuple(
    """
    Martin Bernard Thomas Petit Robert Richard Durand Dubois Moreau Laurent Simon Michel Lefebvre Leroy Roux David
    Bertrand Morel Fournier Girard Bonnet Dupont Lambert Fontaine Rousseau Vincent Muller Lefèvre Faure André
    Mercier Blanc Guérin Boyer Garnier Chevalier François Legrand Gauthier Garcia Perrin Robin Clément Morin Nicolas
    Henry Roussel Mathieu Gautier Masson Marchand Duval Denis Dumont Marie Lemaire Noël Meyer Dufour Meunier Brun
    Blanchard
    """.split()
)
DOMAINS: Final = {
    "gmail.com": 0.36,
    "hotmail.fr": 0.09,
    "outlook.fr": 0.05,
    "live.fr": 0.03,
    "orange.fr": 0.11,
    "wanadoo.fr": 0.05,
    "free.fr": 0.07,
    "sfr.fr": 0.05,
    "neuf.fr": 0.02,
    "yahoo.fr": 0.07,
    "laposte.net": 0.04,
    "icloud.com": 0.02,
    "atelier-dupuis.example": 0.015,
    "mairie-stlegat.example": 0.015,
    "cabinet-morel.example": 0.01,
}
DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Files:
    """The CSV files of a made-up base, ready for `sendwave import`."""

    contacts: Path
    consents: Path
    suppressions: Path
    scores: Path
    sends: Path


def make(folder: Path, *, contacts: int, seed: int, now: datetime) -> Files:
    """Write the five files into `folder`; `now` dates the history, `seed` decides everything else."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    ids = np.char.add("C", np.char.zfill(np.arange(1, contacts + 1).astype(str), 7))
    files = Files(*(folder / f"{name}.csv" for name in Files.__slots__))
    emails = _contacts(draw, files.contacts, ids, now)
    _consents(draw, files.consents, ids, now)
    _suppressions(draw, files.suppressions, emails, now)
    score = _scores(draw, files.scores, ids, now)
    _sends(draw, files.sends, ids, score, now)
    return files


def _write(path: Path, **columns: Any) -> None:
    csv.write_csv(pa.table(columns), path)


def _dates(draw: np.random.Generator, now: datetime, count: int, oldest_days: int) -> NDArray[Any]:
    """ISO instants, more of them recent than old."""
    age = (draw.random(count) ** 2 * oldest_days * DAY).astype("int64")
    stamps = (np.datetime64(int(now.timestamp()), "s") - age.astype("timedelta64[s]")).astype(str)
    return np.char.add(stamps, "Z")


def _contacts(draw: np.random.Generator, path: Path, ids: NDArray[Any], now: datetime) -> NDArray[Any]:
    count = len(ids)
    first, last = draw.choice(FIRST, count), draw.choice(LAST, count)
    shares = np.array(list(DOMAINS.values()))
    domain = draw.choice(list(DOMAINS), count, p=shares / shares.sum())
    number = draw.integers(1, 10_000_000, count).astype(str)
    plain = [np.array([_ascii(n) for n in names]) for names in (FIRST, LAST)]
    local = np.char.add(np.char.add(_pick(plain[0], FIRST, first), "."), _pick(plain[1], LAST, last))
    emails = np.char.add(np.char.add(np.char.add(local, number), "@"), domain)
    emails[draw.random(count) < 0.006] = ""  # lost in some migration
    broken = draw.random(count) < 0.003
    if broken.any():  # of a handful of people perhaps nobody; numpy replaces nothing in nothing by an error
        emails[broken] = np.char.replace(emails[broken], "@", " at ")
    doubled = np.flatnonzero(draw.random(count) < 0.004)
    emails[doubled] = emails[draw.integers(0, count, len(doubled))]  # the same person twice in the CRM
    _write(
        path,
        contact_id=ids,
        email=emails,
        first_name=first,
        last_name=last,
        timezone=draw.choice(["Europe/Paris", ""], count, p=[0.93, 0.07]),
        language=np.full(count, "fr"),
        signed_up=_dates(draw, now, count, 3000),
    )
    return emails


def _ascii(name: str) -> str:
    return name.lower().translate(str.maketrans("éèêëàâîïôûüç", "eeeeaaiiouuc"))


def _pick(values: NDArray[Any], names: tuple[str, ...], chosen: NDArray[Any]) -> NDArray[Any]:
    """`values` at the place each chosen name has in `names`."""
    order = np.argsort(names)
    return values[order[np.searchsorted(np.array(names)[order], chosen)]]


def _consents(draw: np.random.Generator, path: Path, ids: NDArray[Any], now: datetime) -> None:
    known = ids[draw.random(len(ids)) < 0.97]
    count = len(known)
    _write(
        path,
        contact_id=known,
        channel=np.full(count, "email"),
        purpose=np.full(count, "marketing"),
        status=draw.choice(["granted", "withdrawn", "pending"], count, p=[0.925, 0.06, 0.015]),
        basis=draw.choice(["consent", "soft_opt_in"], count, p=[0.7, 0.3]),
        recorded_at=_dates(draw, now, count, 2500),
        proof=draw.choice(["formulaire site", "caisse magasin", "jeu concours"], count),
    )


def _suppressions(draw: np.random.Generator, path: Path, emails: NDArray[Any], now: datetime) -> None:
    listed = emails[(draw.random(len(emails)) < 0.012) & (np.char.find(emails, "@") > 0)]
    count = len(listed)
    _write(
        path,
        email=listed,
        channel=np.full(count, "email"),
        scope=np.full(count, "all"),
        reason=draw.choice(["hard_bounce", "complaint", "unsubscribe"], count, p=[0.55, 0.1, 0.35]),
        since=_dates(draw, now, count, 1500),
    )


def _scores(draw: np.random.Generator, path: Path, ids: NDArray[Any], now: datetime) -> NDArray[Any]:
    score = np.round(100 * draw.beta(1.2, 1.3, len(ids)) - 4).astype(int)
    scored = draw.random(len(ids)) >= 0.002
    night = now.replace(hour=4, minute=0, second=0, microsecond=0)
    stamp = (night if night <= now else night - timedelta(days=1)).isoformat()
    _write(path, contact_id=ids[scored], score=score[scored], scored_at=np.full(int(scored.sum()), stamp))
    return score


def _sends(draw: np.random.Generator, path: Path, ids: NDArray[Any], score: NDArray[Any], now: datetime) -> None:
    """Seven campaigns of the last weeks; the more engaged somebody is, the more they got."""
    past = [
        ("soldes-1", "flash_sale", 1.2, 0.08),
        ("lettre-08", "newsletter", 5.1, 0.35),
        ("marque-02", "brand", 9.3, 0.25),
        ("lettre-07", "newsletter", 12.1, 0.5),
        ("soldes-0", "flash_sale", 15.2, 0.4),
        ("lettre-06", "newsletter", 19.1, 0.55),
        ("lettre-05", "newsletter", 26.1, 0.55),
    ]
    warmth = np.clip(score / 60, 0.05, 1.0)
    columns: dict[str, list[NDArray[Any]]] = {
        "contact_id": [],
        "campaign": [],
        "type": [],
        "channel": [],
        "sent_at": [],
    }
    for name, kind, days, share in past:
        reached = ids[draw.random(len(ids)) < share * warmth]
        at = np.datetime64(int(now.timestamp() - days * DAY), "s") + draw.integers(0, 3600, len(reached)).astype(
            "timedelta64[s]"
        )
        for column, values in zip(
            columns,
            (reached, np.full(len(reached), name), np.full(len(reached), kind), np.full(len(reached), "email"), at),
            strict=True,
        ):
            columns[column].append(values if column != "sent_at" else np.char.add(values.astype(str), "Z"))
    _write(path, **{name: np.concatenate(parts) for name, parts in columns.items()})
