"""A workspace opened: settings, store, lake, engine, policy and adapters wired together for the CLI and the daemon."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sendwave import crm, esp, notify, settings
from sendwave.crm.base import Crm, CrmSettings
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, Busy, NotFound, did_you_mean
from sendwave.esp import content
from sendwave.esp.base import EspAdapter
from sendwave.flow import alerts, policies
from sendwave.flow.crm import Land
from sendwave.notify.base import Channel
from sendwave.rules.campaign import CampaignFile
from sendwave.rules.policy import PolicySet
from sendwave.store import keys, nodes
from sendwave.store.database import Database

if TYPE_CHECKING:
    from sendwave.flow.release import Texts


@dataclass(frozen=True)
class Workspace:
    """Everything a command needs, each part made when first asked for."""

    home: Path
    settings: settings.Settings = field(repr=False)

    @classmethod
    def open(cls, home: Path, environ: Mapping[str, str] | None = None) -> Workspace:
        """The workspace in `home`. Raises NotFound when there is none, BadInput for wrong settings."""
        if not (home / "sendwave.yaml").is_file():
            raise NotFound(f"no workspace in {home}: there is no sendwave.yaml. Make one with `sendwave init {home}`")
        return cls(home.resolve(), settings.load(home.resolve(), os.environ if environ is None else environ))

    @cached_property
    def db(self) -> Database:
        """The store, migrated to this version."""
        database = Database(self.settings.store)
        database.migrate()
        return database

    @cached_property
    def lake(self) -> Lake:
        """The lake: a folder, or a bucket with a folder of copies."""
        place = self.settings.lake
        if isinstance(place, Path):
            return Lake(place)
        from sendwave.engine.bucket import Bucket  # Amazon's client takes 0.2 s and 20 MB
        from sendwave.engine.cache import Cache

        told = self.settings.bucket
        bucket = Bucket(place.bucket, place.prefix, told.endpoint, told.region)
        return Lake(root := self.home / "state" / "copies" / bucket.key, Cache(root, bucket, told.cache_bytes))

    @cached_property
    def engine(self) -> DuckdbEngine:
        """The embedded engine, within the memory the settings give it."""
        spill = self.lake.root / "spill"
        spill.mkdir(parents=True, exist_ok=True)
        told, hold = self.settings.engine, None if self.lake.remote is None else self.lake.hold
        return DuckdbEngine(told.threads, told.memory_limit, spill, hold=hold)

    @cached_property
    def policy(self) -> PolicySet:
        """The policy files as this command found them; a campaign keeps the version it was approved under."""
        return self.read_policy()

    def read_policy(self) -> PolicySet:
        """Read the policy files afresh. Raises BadInput with every mistake of every file."""
        return policies.load_policies(self._policy_folder)

    @property
    def policy_warnings(self) -> tuple[str, ...]:
        """What in the policy files is worth a second look without being wrong."""
        return policies.read(self._policy_folder).warnings

    @property
    def _policy_folder(self) -> Path | None:
        return self.settings.policies if self.settings.policies.is_dir() else None

    def policy_stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a policy file does; cheap enough to ask every few seconds."""
        found = sorted(self.settings.policies.rglob("*.yaml")) if self.settings.policies.is_dir() else []
        return tuple((str(path), (stat := path.stat()).st_mtime_ns, stat.st_size) for path in found)

    @cached_property
    def token_key(self) -> bytes:
        """The key that signs recipient tokens: made once, kept in the store so that every node shares it."""
        with self.db.write() as connection:
            return keys.token_key(connection)

    @cached_property
    def adapters(self) -> dict[str, EspAdapter]:
        """One adapter per route of the settings. Raises BadInput for unknown ESPs and wrong settings."""
        return {route: self.adapter(route) for route in self.settings.routes}

    def adapter(self, route: str) -> EspAdapter:
        """A fresh adapter of that route, for a thread of its own. Raises NotFound, BadInput with the place."""
        if route not in self.settings.routes:
            raise NotFound(f"sendwave.yaml has no route {route!r}.{did_you_mean(route, self.settings.routes)}")
        kind = esp.find(self.settings.routes[route]["esp"])
        checked = self.settings.route(route, kind.Settings)
        adapter: EspAdapter = kind(checked, home=self.home, token_key=self.token_key)
        return adapter

    @property
    def texts(self) -> Texts:
        """Measures text messages as the routes send them."""
        from sendwave.flow.release import Texts

        plain = frozenset(route for route, adapter in self.adapters.items() if adapter.capabilities.simplifies)
        return Texts(self.home, plain, self.settings.unsubscribe_url)

    @cached_property
    def channels(self) -> dict[str, Channel]:
        """Where alerts go: the channels of the settings, and `log`. Raises BadInput, NotFound for wrong ones."""
        made: dict[str, Channel] = {"log": notify.find("log")()}
        for name, told in self.settings.notify.items():
            kind = notify.find(told["by"])
            made[name] = kind(self.settings.door("notify", name, kind.Settings))
        return made

    def crm(self, name: str) -> Crm:
        """One CRM of the settings, freshly opened: close it. Raises NotFound, BadInput with the place."""
        if name not in self.settings.crm:
            raise NotFound(f"sendwave.yaml has no CRM {name!r}.{did_you_mean(name, self.settings.crm)}")
        kind = crm.find(self.settings.crm[name]["system"])
        opened: Crm = kind(self.settings.door("crm", name, kind.Settings), home=self.home)
        return opened

    @cached_property
    def crms(self) -> dict[str, CrmSettings]:
        """What the settings say of each CRM. Raises NotFound, BadInput with the place."""
        named = self.settings.crm.items()
        return {name: self.settings.door("crm", name, crm.find(told["system"]).Settings) for name, told in named}

    def landing(self, policy: PolicySet, now: datetime, by: str) -> Land:
        """How files that a CRM delivers are imported."""
        from sendwave.flow import intake

        def land(kind: str, paths: Sequence[Path], mapping: Mapping[str, str]) -> intake.ImportSummary:
            return intake.import_files(
                self.db,
                self.engine,
                self.lake,
                kind,
                paths,
                lanes=policy.lanes,
                mapping=mapping,
                rejects_dir=self.rejects,
                time_zone=self.settings.time_zone,
                now=now,
                by=by,
            )

        return land

    @property
    def rejects(self) -> Path:
        """Where reports of refused lines and records go."""
        return self.home / "rejects"

    def check_doors(self) -> None:
        """Look at the settings of CRMs and at the channels alerts name. Raises NotFound, BadInput with the place."""
        _ = self.crms
        alerts.check_channels(self.policy, self.channels)

    def check_content(self, campaign: CampaignFile) -> None:
        """Look at a campaign's templates before anybody is written to. Raises BadInput with every mistake."""
        if campaign.content is None:
            return
        if findings := content.check_content(self.home / campaign.content, None, subject=campaign.subject):
            raise BadInput(f"the content of {campaign.name} cannot be sent", findings)

    @contextlib.contextmanager
    def only_daemon(self, now: datetime) -> Iterator[None]:
        """Keep a second daemon off a SQLite workspace. Raises Busy naming the process that runs already."""
        if not self.db.is_sqlite:
            yield
            return
        path = self._lock_path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise Busy(
                    f"a daemon already runs on this workspace ({lock.read().strip() or 'unknown process'}); "
                    "stop it first, or use PostgreSQL as the store to run several"
                ) from None
            lock.truncate(0)
            lock.write(f"pid {os.getpid()} on {socket.gethostname()} since {now:%Y-%m-%d %H:%M:%S} UTC")
            lock.flush()
            yield
            lock.truncate(0)

    def daemons(self, now: datetime) -> list[str]:
        """The daemons that hold this workspace: the one of a SQLite workspace, or the nodes that live."""
        if not self.db.is_sqlite:
            with self.db.read() as connection:
                return [lease.holder for lease in nodes.alive(connection, now)]
        try:
            told = self._lock_path.read_text().strip()
        except FileNotFoundError:
            return []
        if not told:  # who ends well says so; only then the lock is left alone, for somebody may just be starting
            return []
        with self._lock_path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return [told]
        return []

    @property
    def _lock_path(self) -> Path:
        """Beside the store: two homes may share one."""
        return Path(self.db.url.database or "").with_suffix(".lock")

    def close(self) -> None:
        """Give connections back."""
        for adapter in self.__dict__.get("adapters", {}).values():
            adapter.close()
        if "engine" in self.__dict__:
            self.engine.close()
        for channel in self.__dict__.get("channels", {}).values():
            channel.close()
        if "db" in self.__dict__:
            self.db.close()
