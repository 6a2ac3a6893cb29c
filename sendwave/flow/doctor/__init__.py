"""Look at a set-up piece by piece: each question is asked of the code that owns it, and what is broken stops no other.

Which answer is a warning and which a problem is said in `rules.health`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from zoneinfo import available_timezones

from sendwave import crm, esp, notify
from sendwave.engine.datasets import Lake
from sendwave.errors import NotFound, SendwaveError
from sendwave.esp.base import Feed, WebRequest
from sendwave.esp.hooks import WebhookSettings
from sendwave.flow.doctor.asking import KNOWN, SetUp, asked
from sendwave.rules import health
from sendwave.rules.health import Finding
from sendwave.rules.token import LENGTH
from sendwave.settings import BucketPlace, Settings
from sendwave.store import migrations

_MEND: Final = "put that right and look again"

_SIGNED: Final = ("webhook_public_key", "webhook_topic", *WebhookSettings.also_called["webhook_topic"])
"""Settings of routes whose webhooks are signed by public key; a key needs its library to be read at all."""


def examine(opened: Callable[[], SetUp], now: datetime) -> list[Finding]:
    """Every check. Never raises: what cannot be read is a finding; what depends on it is left out."""
    found = list(_guarded("time zones", _zones))
    made: list[SetUp] = []

    def settings() -> Iterator[Finding]:
        made.append(opened())
        yield health.well("settings", "read")

    found += _guarded("settings", settings, "`sendwave check`; `sendwave init DIR` makes a workspace")
    if not made:
        return found
    (setup,) = made
    policies = _guarded("policies", partial(_policies, setup), "`sendwave check` shows every mistake with its place")
    found += [*policies, *_guarded("libraries", partial(_libraries, setup.settings))]
    if not _broken(policies):  # alerts are policy
        found += _guarded("alerts and CRM", partial(_doors, setup), "`sendwave check`")
    for route in setup.settings.routes:
        found += _guarded(f"route {route}", partial(_route, setup, route, now), "`sendwave check`")
    found += _guarded("lake", partial(_lake, setup.lake), "who runs sendwave must be able to write there")
    found += (store := _guarded("store", partial(_store, setup), "mend the store: what it knows was not looked at"))
    if not _broken(store):
        for check, look in KNOWN.items():
            found += _guarded(check, partial(asked, setup, look, now))
    return found


def _broken(found: Iterable[Finding]) -> bool:
    return any(one.state is health.State.PROBLEM for one in found)


def _guarded(check: str, look: Callable[[], Iterable[Finding]], then: str = _MEND) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except SendwaveError as wrong:
        told = [str(wrong), *getattr(wrong, "findings", ())]
        found.append(health.problem(check, health.few(told), then))
    except Exception as wrong:  # noqa: BLE001  # whatever is broken, the other checks are wanted all the more
        found.append(health.problem(check, f"{type(wrong).__name__}: {wrong}", then))
    return found


def _zones() -> Iterator[Finding]:
    if available_timezones():
        yield health.well("time zones", f"{len(available_timezones())} known")
    else:
        yield health.problem("time zones", "this machine has no time zone data", "pip install tzdata")


def _policies(setup: SetUp) -> Iterator[Finding]:
    yield health.well("policies", f"version {setup.read_policy().version[:12]}")


def _doors(setup: SetUp) -> Iterator[Finding]:
    setup.check_doors()
    yield health.well("alerts and CRM", f"{len(setup.settings.notify)} channels, {len(setup.settings.crm)} CRMs")


def _libraries(settings: Settings) -> Iterator[Finding]:
    asked = {"postgresql": "the store"} if settings.store.startswith("postgresql") else {}
    asked |= {"s3": "the lake"} if isinstance(settings.lake, BucketPlace) else {}
    for section, key, door in (("routes", "esp", esp), ("crm", "system", crm), ("notify", "by", notify)):
        for name, told in getattr(settings, section).items():
            if extra := _extra(door.find, told[key]):
                asked.setdefault(extra, f"{section}.{name}")
            if section == "routes" and any(told.get(one) for one in _SIGNED):
                asked.setdefault("signatures", f"{section}.{name}")
    yield health.libraries({extra: what for extra, what in asked.items() if not _installed(extra)})


def _extra(find: Callable[[str], Any], name: str) -> str:
    """The extra of the package an adapter says it needs."""
    with suppress(NotFound):  # said where it is made
        return str(getattr(find(name), "extra", ""))
    return ""


def _installed(extra: str) -> bool:
    """Whether the libraries the package's own metadata names for an extra are there."""
    wanted = [one for one in metadata.requires("sendwave") or () if re.search(f"extra == ['\"]{extra}['\"]", one)]
    for one in wanted:
        try:
            metadata.version(re.split(r"[^A-Za-z0-9._-]", one)[0])
        except metadata.PackageNotFoundError:
            return False
    return True


def _route(setup: SetUp, route: str, now: datetime) -> Iterator[Finding]:
    told, web = setup.settings.routes[route], setup.settings.web
    adapter: Any = esp.make(told, route=route, home=setup.home, token_key=b"\0" * LENGTH)
    try:
        yield health.well(f"route {route}", f"by {told['esp']}")
        if adapter.capabilities.feed is Feed.WEBHOOK and hasattr(adapter, "verify"):
            url = f"{web.public_url}/hooks/{route}" if web is not None and web.public_url else ""
            refusal = adapter.verify(WebRequest(b"{}", url=url, path=f"/hooks/{route}"), now)
            yield health.webhook(
                route,
                unset=refusal.reason if refusal is not None and refusal.unset else None,
                listens=web is not None,
                public_url=web.public_url if web is not None else None,
            )
    finally:
        adapter.close()


def _lake(lake: Lake) -> Iterator[Finding]:
    place = _existing(lake.root)
    if lake.remote is None:
        with tempfile.TemporaryFile(dir=place):
            yield health.well("lake", f"{lake.root} can be written")
        yield health.disk("disk of the lake", shutil.disk_usage(place).free)
        return
    yield health.disk("disk of the lake's copies", shutil.disk_usage(place).free)
    yield health.well("lake", f"{lake.remote.probe()}: objects can be written, read, listed and removed")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there: a lake is made by its first import."""
    return path if path.exists() else _existing(path.parent)


def _store(setup: SetUp) -> Iterator[Finding]:
    with setup.db.write() as connection:  # takes the right to write, and changes nothing
        revision = migrations.current(connection)
    yield health.well("store", f"{setup.db.url.get_backend_name()}, schema {revision}, can be written")
    if setup.db.is_sqlite:
        place = _existing(Path(setup.db.url.database or "."))
        yield health.disk("disk of the store", shutil.disk_usage(place).free)
