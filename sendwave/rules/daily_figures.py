"""Daily figures as providers give them: which mailbox provider, whose mail, what day, how many, in one row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from ipaddress import ip_address
from typing import Final

from sendwave.errors import did_you_mean
from sendwave.rules.imports import word
from sendwave.rules.signals import SIGNALS
from sendwave.rules.throttle import Lanes

_DATES: Final = ("%Y-%m-%d", "%Y%m%d", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d")
_EARLIEST: Final = date(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Telling:
    """One day's figure: `n` events, or a `rate` (0 to 1) of the day's mail. Scopes left '' are of all mail."""

    source: str
    signal: str
    provider: str
    sender: str  # domain of the From header
    route: str
    ip: str
    day: date
    n: int | None
    rate: float | None


def read(row: Mapping[str, str], lanes: Lanes, today: date) -> Telling:
    """One row by our field names, values as text. Raises ValueError, in words a person can act upon."""
    given = {name: value.strip() for name, value in row.items() if value and value.strip()}
    signal = word(given.get("signal", "complaint"))
    if signal not in SIGNALS:
        raise ValueError(f"there is no signal {signal!r}.{did_you_mean(signal, SIGNALS)}")
    day = _day(given.get("day", ""), today)
    ip = _ip(given.get("ip", ""))
    n, rate = _count(given.get("n")), _rate(given.get("rate"), given.get("unit", ""))
    if (n is None) == (rate is None):
        raise ValueError(
            "a row tells a count or a rate, one of them" if n is None else "a count and a rate: leave one out"
        )
    return Telling(
        source=given.get("source", "import"),
        signal=signal,
        provider=_provider(given.get("provider", ""), lanes),
        sender=given.get("sender", "").lower().rpartition("@")[2],
        route=_route(ip, lanes) if ip else "",
        ip=ip,
        day=day,
        n=n,
        rate=rate,
    )


def _day(text: str, today: date) -> date:
    for shape in _DATES:
        try:
            day = datetime.strptime(text[:10].strip(), shape).date()  # noqa: DTZ007  # a day has no zone
        except ValueError:
            continue
        if day > today:
            raise ValueError(f"{day} is still to come: no mail of that day can have been complained about")
        if day < _EARLIEST:
            raise ValueError(f"{day} is before anybody sent by this route")
        return day
    raise ValueError(f"{text!r} is no day: write 2026-03-02" if text else "no day")


def _provider(text: str, lanes: Lanes) -> str:
    """The lane somebody means by its key, its label or one of its domains."""
    known = lanes.providers
    if text in known:
        return text
    plain = text.lower()
    for key, provider in known.items():
        if plain in {key, provider.label.lower(), *provider.domains}:
            return key
    if not text:
        raise ValueError("no provider: name the column with --map COLUMN=provider, or say --set provider=google")
    names = [*known, *(provider.label.lower() for provider in known.values())]
    raise ValueError(f"lanes.yaml has no mailbox provider {text!r}.{did_you_mean(plain, names)}")


def _ip(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise ValueError(f"{text!r} is no IP address") from None


def _route(ip: str, lanes: Lanes) -> str:
    for name, route in lanes.routes.items():
        if ip in route.ips:
            return name
    raise ValueError(f"no route of lanes.yaml sends from {ip}: add `ips: [{ip}]` to the route that does")


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    plain = re.sub(r"[\s  ]", "", text)
    if not re.fullmatch(r"\d+(\.0+)?", plain):
        raise ValueError(f"{text!r} is no count")
    return int(float(plain))


def _rate(text: str | None, unit: str) -> float | None:
    """`0.12%`, `0,12 %`; a bare number only with its unit: 0.3 is 30 % to one reader and 0.3 % to another."""
    if text is None:
        return None
    plain = re.sub(r"[\s  ]", "", text).replace(",", ".")
    try:
        value = float(plain.rstrip("%"))
    except ValueError:
        raise ValueError(f"{text!r} is no rate") from None
    units = {"percent": 100.0, "%": 100.0, "fraction": 1.0}
    if plain.endswith("%"):
        value /= 100
    elif unit in units:
        value /= units[unit]
    else:
        raise ValueError(f"is {text} a share or a percentage? Say --set unit=fraction or --set unit=percent")
    if not 0 <= value <= 1:
        raise ValueError(f"a rate is between 0% and 100%, not {text}")
    return value
