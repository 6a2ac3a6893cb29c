"""What a workspace is made of: `sendwave.yaml`, with a few environment variables over it.

SENDWAVE_STORE, SENDWAVE_LAKE and SENDWAVE_POLICIES replace the key of the same name, for containers and tests. Any text
in the file may hold `${NAME}`: the value of that environment variable, for passwords that belong in no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator

from sendwave import documents
from sendwave.documents import Document, Loc, Mistake
from sendwave.errors import BadInput, NotFound, did_you_mean
from sendwave.rules.units import Duration, check_zone, parse_duration

FILE: Final = "sendwave.yaml"
OVERRIDES: Final[Mapping[str, str]] = {
    "SENDWAVE_STORE": "store",
    "SENDWAVE_LAKE": "lake",
    "SENDWAVE_POLICIES": "policies",
}
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STORE: Final = re.compile(r"(sqlite|postgresql)(\+\w+)?://")
_SQLITE: Final = "sqlite:///"
_SIZE: Final = re.compile(r"[1-9][0-9]*(?:\.[0-9]+)?\s?(?:[KMGT]i?B)")
_BUCKET: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9_./=-]*))?")
_LISTEN: Final = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
RouteSettings = TypeVar("RouteSettings", bound=BaseModel)

DOORS: Final[Mapping[str, tuple[str, str]]] = {
    "routes": ("esp", "simulated, smtp …"),
    "notify": ("by", "webhook, email, apprise"),
    "crm": ("system", "files, salesforce"),
}
"""Sections of named adapters: the key that says which one, and what it may say."""


def _store_url(value: str) -> str:
    if not _STORE.match(value):  # the value stays out of the message: it may hold a password
        raise ValueError("the store is a URL that begins with sqlite:/// or postgresql+psycopg://")
    return value


def _size(value: Any) -> str:
    text = str(value).strip()
    if not _SIZE.fullmatch(text):
        raise ValueError(f"{text!r} is no amount of memory: write for instance 2GB or 512MB")
    return text


def size_bytes(written: str) -> int:
    """Bytes of an amount such as 512MB (1000 each step) or 2GiB (1024)."""
    number, unit = re.fullmatch(r"([0-9.]+)\s?([KMGT]i?)B", written).groups()  # type: ignore[union-attr]  # `_size` saw it
    return int(float(number) * (1024 if unit.endswith("i") else 1000) ** ("KMGT".index(unit[0]) + 1))


def _engine_url(value: str) -> str:
    if not value.startswith("postgresql://"):  # the value stays out of the message: it may hold a password
        raise ValueError("scores are computed elsewhere in PostgreSQL only: a URL that begins with postgresql://")
    return value


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Where in which bucket the lake is."""

    bucket: str
    prefix: str  # without slashes at its ends; "" for the whole bucket

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def _lake(value: Any) -> Any:
    if not isinstance(value, str) or "://" not in value:
        return value
    if (told := _BUCKET.fullmatch(value)) is None or ".." in value:
        raise ValueError(f"{value!r} is no lake: write a folder, or s3://BUCKET/PREFIX of letters, digits and -_./")
    return BucketPlace(told["bucket"], (told["prefix"] or "").strip("/"))


def _endpoint(value: str) -> str:
    told = urlsplit(value)
    if told.scheme not in ("http", "https") or not told.hostname or told.query or told.fragment or told.username:
        raise ValueError("an endpoint is https://HOST[:PORT]; credentials are the environment's")
    return value.rstrip("/")


class BucketSettings(BaseModel):
    """The storage of a lake in a bucket. Credentials are the environment's (AWS_ACCESS_KEY_ID …) or the machine's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="https://HOST of the S3-compatible storage; none: Amazon's."
    )
    region: str | None = Field(default=None, description="The bucket's region, where the storage has several.")
    cache: Annotated[str, BeforeValidator(_size)] = Field(
        default="20GB",
        description="Copies of its files kept on this machine, beside those being read; the ones used longest ago go.",
    )

    @property
    def cache_bytes(self) -> int:
        """`cache` in bytes."""
        return size_bytes(self.cache)


class EngineSettings(BaseModel):
    """What the set engine may take of this machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(default=2, ge=1, le=1024, description="Cores it uses.")
    memory_limit: Annotated[str, BeforeValidator(_size)] = Field(
        default="2GB", description="Beyond it, sets spill to disk; below about 512MB big plans get slow."
    )
    url: Annotated[str, AfterValidator(_engine_url)] | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="PostgreSQL that has the customer data: scores are computed there and brought back.",
    )


def _listen(value: str) -> str:
    place = _LISTEN.fullmatch(value)
    if place is None or int(place["port"]) > 65_535:
        raise ValueError(f"{value!r} is no place to listen at: write HOST:PORT, for instance 127.0.0.1:8484")
    return value


def _public_url(value: str) -> str:
    told = urlsplit(value)
    private = told.hostname in {"localhost", "127.0.0.1", "::1"}
    if told.scheme not in ({"http", "https"} if private else {"https"}) or not told.hostname:
        raise ValueError("write the https:// address under which the internet reaches this daemon, without a query")
    if told.query or told.fragment:
        raise ValueError("a public_url ends with its path: no question mark, no #")
    return value.rstrip("/")


class WebSettings(BaseModel):
    """Where the daemon is reached over HTTP. TLS is the work of a proxy in front of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default="127.0.0.1:8484", description="HOST:PORT; port 0 takes any that is free."
    )
    public_url: Annotated[str, AfterValidator(_public_url)] | None = Field(
        default=None,
        description="How the world reaches it, https://…: unsubscribe links are made of it, some ESPs sign it.",
    )
    max_body: Annotated[str, BeforeValidator(_size)] = Field(
        default="16MiB", description="A longer report is refused; 1,000 events are about half a megabyte."
    )

    @property
    def max_bytes(self) -> int:
        """`max_body` in bytes."""
        return size_bytes(self.max_body)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen at."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class RetentionSettings(BaseModel):
    """How long what is no longer needed is kept; a daily job removes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reports: Duration = Field(
        default=parse_duration("30d"),
        description="Raw reports of ESPs: within it `sendwave feedback reprocess` can read them again.",
    )
    event_keys: Duration = Field(
        default=parse_duration("45d"),
        description="Keys of events without our token: within it an event told again counts once.",
    )
    replaced_files: Duration = Field(
        default=parse_duration("7d"), description="Files of the lake that newer ones replaced."
    )


class Settings(BaseModel):
    """One workspace. Paths are relative to its folder in the file, absolute here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Annotated[str, AfterValidator(_store_url)] = Field(
        default="sqlite:///state/sendwave.db",
        repr=False,  # it may hold a password
        description="Database URL: sqlite, or postgresql for several nodes.",
    )
    lake: Annotated[Path | BucketPlace, BeforeValidator(_lake)] = Field(
        default=Path("lake"), description="Folder of the Parquet files, or s3://BUCKET/PREFIX."
    )
    bucket: BucketSettings = BucketSettings()
    policies: Path = Field(default=Path("policies"), description="Folder of the policy files.")
    time_zone: str = Field(default="UTC", description="IANA zone of people whose own is not known, and of bare dates.")
    engine: EngineSettings = EngineSettings()
    web: WebSettings | None = Field(
        default=None, description="The daemon's web side: webhooks, one-click unsubscribe. Without it nothing listens."
    )
    retention: RetentionSettings = RetentionSettings()
    routes: dict[str, dict[str, Any]] = Field(
        default_factory=dict, repr=False, description="By name: `esp`, then what that ESP's adapter asks for."
    )
    notify: dict[str, dict[str, Any]] = Field(
        default_factory=dict, repr=False, description="Where alerts go, by name: `by`, then what that channel asks for."
    )
    crm: dict[str, dict[str, Any]] = Field(
        default_factory=dict, repr=False, description="CRM systems by name: `system`, then what its adapter asks for."
    )
    approvers: frozenset[str] = Field(
        default=frozenset(),
        description="Who may approve a campaign and overrule its gates, as `--by` names them; none: everybody.",
    )
    _document: Document | None = PrivateAttr(default=None)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        check_zone(value)
        return value

    @property
    def unsubscribe_url(self) -> str | None:
        """Our own one-click unsubscribe URL with {token} (RFC 8058); None without a web side the world can reach."""
        return f"{self.web.public_url}/u/{{token}}" if self.web is not None and self.web.public_url else None

    def route(self, name: str, model: type[RouteSettings]) -> RouteSettings:
        """One route's settings as its adapter's model.

        Raises:
            NotFound: there is no such route.
            BadInput: with the place of every mistake.

        """
        if name not in self.routes:
            raise NotFound(f"{FILE} has no route {name!r}.{did_you_mean(name, self.routes)}")
        return self.door("routes", name, model)

    def door(self, section: str, name: str, model: type[RouteSettings]) -> RouteSettings:
        """The settings of one named adapter of a section of `DOORS`, as its model. Raises NotFound, BadInput."""
        named: Mapping[str, Any] = getattr(self, section)
        if name not in named:
            raise NotFound(f"{FILE} has no {name!r} under {section}.{did_you_mean(name, named)}")
        document = self._document
        if document is None:
            document = Document(FILE, "")
            document.data = {section: named for section in DOORS for named in [getattr(self, section)]}
        return documents.validate(document, model, (section, name))


def load(home: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of the workspace in `home`, `environ` over them.

    Raises:
        BadInput: the file is missing or wrong, a `${NAME}` is not set, a zone is unknown; every mistake with its place.

    """
    if "SENDWAVE_STORE" in environ and not _STORE.match(environ["SENDWAVE_STORE"]):
        raise BadInput("SENDWAVE_STORE must begin with sqlite:/// or postgresql+psycopg://")
    document = documents.load(home / FILE)
    if document.root is None:
        document.data = {}  # a workspace may live on defaults alone
    if isinstance(document.data, dict):
        document.mistakes += _without_kind(document)
        document.data = _resolved(document, document.data, (), environ)
        document.data |= {key: environ[name] for name, key in OVERRIDES.items() if environ.get(name)}
    settings = documents.validate(document, Settings)
    if "policies" in settings.model_fields_set and not (home / settings.policies).is_dir():
        told = f"there is no folder {settings.policies}; leave the key out to live on the shipped policies"
        raise document.refused([document.mistake(("policies",), told)])
    placed = settings.model_copy(
        update={
            "store": _placed_store(settings.store, home),
            "lake": home / settings.lake if isinstance(settings.lake, Path) else settings.lake,
            "policies": home / settings.policies,
        }
    )
    placed._document = document  # noqa: SLF001  # its own private attribute, kept for the places of later mistakes
    return placed


def _without_kind(document: Document) -> Iterator[Mistake]:
    for section, (key, words) in DOORS.items():
        named = document.data.get(section)
        for name, door in named.items() if isinstance(named, dict) else ():
            if isinstance(door, dict) and not isinstance(door.get(key), str):
                yield document.mistake((section, name), f"missing key {key!r}: {words}", at_key=True)


def _resolved(document: Document, value: Any, loc: Loc, environ: Mapping[str, str]) -> Any:
    """The value with every `${NAME}` replaced; one that is not set is a mistake of the document."""
    if isinstance(value, dict):
        return {key: _resolved(document, inner, (*loc, key), environ) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(document, inner, (*loc, index), environ) for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in environ:
            document.mistakes.append(document.mistake(loc, f"the environment variable {name} is not set"))
    return _VARIABLE.sub(lambda match: environ.get(match[1], ""), value)


def _placed_store(store: str, home: Path) -> str:
    """A SQLite file relative to the workspace, in place; other URLs as they are."""
    file = store.removeprefix(_SQLITE)
    if file in (store, "", ":memory:"):
        return store
    return f"{_SQLITE}{home / file}"
