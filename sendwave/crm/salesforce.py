"""Salesforce: contacts in by a Bulk API 2.0 query, score and tier out by a Bulk API 2.0 upsert (extra `salesforce`).

Access is the OAuth 2.0 client credentials flow of an external client app. A pull asks for what changed since the newest
SystemModstamp seen, less an overlap: a record saved before that instant can become visible after it. Deleted records
and those that opted out withdraw consent; an opt-out that was taken back grants none. Documented shapes: Bulk API 2.0
and Bulk API Developer Guide (query jobs with Sforce-Locator, ingest jobs with failedResults and unprocessedRecords),
REST API Developer Guide (INVALID_SESSION_ID, REQUEST_LIMIT_EXCEEDED).
"""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import AfterValidator, Field, SecretStr, field_validator

from sendwave.crm.base import CrmSettings, Delivery, Outcome, Pushed, Refusal
from sendwave.errors import BadInput, Permanent, Transient
from sendwave.rules.units import Duration

_STAMP: Final = "SystemModstamp"
_DELETED: Final = "IsDeleted"
_NULL: Final = "#N/A"  # what Bulk API 2.0 reads as an empty value
_FIELD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*")
_LIMITS: Final = (
    "REQUEST_LIMIT_EXCEEDED",
    "EXCEEDED_MAX",
    "LIMIT_EXCEEDED",
    "SERVER_UNAVAILABLE",
    "UNABLE_TO_LOCK_ROW",
)
LATER: Final = 3_600.0
"""Seconds to wait when the org's daily API requests are used up: the limit is a rolling 24 hours."""

Answer = TypeVar("Answer")


def _field(name: str) -> str:
    if not _FIELD.fullmatch(name):
        raise ValueError(f"{name!r} is no Salesforce field: write for instance MobilePhone or Owner.Email")
    return name


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "127.0.0.1"):
        raise ValueError("must be the https:// address of your org, such as https://example.my.salesforce.com")
    return value.rstrip("/")


SalesforceField = Annotated[str, AfterValidator(_field)]


class SalesforceSettings(CrmSettings):
    """The org, and which of its fields mean what."""

    url: Annotated[str, AfterValidator(_url)] = Field(description="My Domain address of the org.")
    client_id: str
    client_secret: SecretStr
    version: str = Field(default="62.0", pattern=r"^\d\d\.0$", description="API version.")
    object: SalesforceField = "Contact"
    fields: dict[str, SalesforceField] = Field(
        default={"contact_id": "Id", "email": "Email", "phone": "MobilePhone", "owner": "Owner.Email"},
        description="Field of sendwave (also attr:NAME, consent:CHANNEL:PURPOSE) -> field of Salesforce.",
    )
    opted_out: dict[SalesforceField, tuple[str, ...]] = Field(
        default={"HasOptedOutOfEmail": ("email:marketing",)},
        description="Checkbox of Salesforce -> CHANNEL:PURPOSE it withdraws consent for.",
    )
    where: str = Field(default="", description="A SOQL condition on who is pulled.")
    score: SalesforceField = "Engagement_Score__c"
    tier: SalesforceField = "Engagement_Tier__c"
    key: SalesforceField | None = Field(default=None, description="External id of the upsert; that of contact_id else.")
    page: int = Field(default=50_000, ge=1, le=1_000_000, description="Records per page.")
    overlap: Duration = timedelta(minutes=10)
    poll: float = Field(default=5.0, ge=0.001, le=600, description="Seconds between two looks at a job.")
    timeout: float = Field(default=120.0, gt=0, le=600, description="Seconds one answer may take.")

    @field_validator("fields")
    @classmethod
    def _has_id(cls, fields: dict[str, str]) -> dict[str, str]:
        if "contact_id" not in fields:
            raise ValueError("say which field is the contact_id")
        return fields

    @field_validator("opted_out")
    @classmethod
    def _withdraws(cls, opted_out: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for words in opted_out.values():
            for word in words:
                if not re.fullmatch(r"(email|sms|push):[a-z][a-z0-9_]*", word):
                    raise ValueError(f"{word!r} is no CHANNEL:PURPOSE, such as email:marketing")
        return opted_out

    @property
    def external_id(self) -> str:
        """The field records are matched by."""
        return self.key or self.fields["contact_id"]


class Adapter:
    """See the module."""

    name: ClassVar[str] = "salesforce"
    extra: ClassVar[str] = "salesforce"
    Settings: ClassVar[type[CrmSettings]] = SalesforceSettings
    changes_only: ClassVar[bool] = True

    def __init__(self, settings: SalesforceSettings, *, home: Path) -> None:
        """Nothing is asked yet. Raises BadInput without simple-salesforce."""
        try:
            import simple_salesforce  # noqa: F401  # fails here, with a sentence, rather than in the middle of a pull
        except ImportError as missing:
            raise BadInput("this CRM needs simple-salesforce: install sendwave[salesforce]") from missing
        self.settings = settings
        self.scratch = home / "state" / "salesforce"
        self._org = _Org(settings)

    def pull(self, cursor: str, *, now: datetime) -> Iterator[Delivery]:
        """Contacts, then the consents their opt-outs and deletions withdraw; the cursor goes with the last file."""
        folder = self.scratch / f"pull-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found = _Found(self.settings, folder)
        try:
            self._org.query(self._soql(cursor), found.take)
            found.close()
            if not found.contacts:
                return
            reached = max(found.newest, cursor)
            rest = found.withdrawals > 0
            columns = {_heading(name): name for name in self.settings.fields}
            yield Delivery("contacts", (found.people,), columns, cursor="" if rest else reached, required=True)
            if rest:
                yield Delivery("consents", (found.consents,), cursor=reached)
        finally:
            found.close()
            shutil.rmtree(folder, ignore_errors=True)

    def settle(self, delivery: Delivery, outcome: Outcome, *, now: datetime) -> None:
        """Nothing to put away: a pull removes its own files."""

    def push(self, rows: Iterable[pa.RecordBatch], *, now: datetime) -> Pushed:
        """Upsert score and tier; records Salesforce did not take are refusals, the others stay."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"push-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.csv"
        settings = self.settings
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                out = csv.writer(file, lineterminator="\n")
                out.writerow([settings.external_id, settings.score, settings.tier])
                offered = 0
                for batch in rows:
                    offered += batch.num_rows
                    columns = (batch.column(name).to_pylist() for name in ("contact_id", "score", "tier"))
                    out.writerows([_NULL if v is None else v for v in row] for row in zip(*columns, strict=True))
            if not offered:
                return Pushed(0)
            refused = self._org.upsert(path)
        finally:
            path.unlink(missing_ok=True)
        return Pushed(offered - len(refused), refused)

    def close(self) -> None:
        """Close the connections kept alive."""
        self._org.close()

    def _soql(self, cursor: str) -> str:
        settings = self.settings
        columns = dict.fromkeys([*settings.fields.values(), *settings.opted_out, _DELETED, _STAMP])
        conditions = [f"({settings.where})"] if settings.where else []
        if cursor:
            since = datetime.fromisoformat(cursor) - settings.overlap
            conditions.append(f"{_STAMP} >= {since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.000Z}")
        else:
            conditions.append(f"{_DELETED} = false")  # who was deleted before the first pull was never here
        return f"SELECT {', '.join(columns)} FROM {settings.object} WHERE {' AND '.join(conditions)}"


@dataclass
class _Found:
    """Pages of a query, turned into files an import reads."""

    settings: SalesforceSettings
    folder: Path
    contacts: int = 0
    withdrawals: int = 0
    newest: str = ""
    _files: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people, self.consents = self.folder / "contacts.csv", self.folder / "consents.csv"
        self.start()

    def start(self) -> None:
        """Begin anew: a query that broke off is asked again from its first page."""
        self.close()
        self.contacts = self.withdrawals = 0
        self.newest = ""
        self._files = [path.open("w", encoding="utf-8", newline="") for path in (self.people, self.consents)]
        self._people, self._consents = (csv.writer(file) for file in self._files)
        self._people.writerow([_heading(name) for name in self.settings.fields])
        self._consents.writerow(["contact_id", "channel", "purpose", "status", "date", "proof"])

    def take(self, pages: Iterable[str]) -> None:
        """All pages of one answer."""
        self.start()
        for page in pages:
            for row in csv.DictReader(io.StringIO(page)):
                self._take({name.lower(): value for name, value in row.items()})

    def _take(self, row: Mapping[str, str]) -> None:
        settings = self.settings
        self._people.writerow([row[name.lower()] for name in settings.fields.values()])
        self.contacts += 1
        stamp = datetime.fromisoformat(row[_STAMP.lower()]).astimezone(UTC).isoformat()
        self.newest = max(self.newest, stamp)
        gone = row[_DELETED.lower()].lower() == "true"
        for name, words in settings.opted_out.items():
            if gone or row[name.lower()].lower() == "true":
                proof = f"Salesforce {_DELETED if gone else name}"
                for word in words:
                    channel, _, purpose = word.partition(":")
                    contact = row[settings.fields["contact_id"].lower()]
                    self._consents.writerow([contact, channel, purpose, "withdrawn", stamp, proof])
                    self.withdrawals += 1

    def close(self) -> None:
        """Finish the files."""
        for file in self._files:
            file.close()


class _Org:
    """Requests to one org: a session that is renewed once when it has expired, faults in our words."""

    def __init__(self, settings: SalesforceSettings) -> None:
        import requests

        self.settings = settings
        self._session = requests.Session()
        self._closed = False
        asked = self._session.request

        def limited(*given: Any, **told: Any) -> Any:
            if self._closed:  # a job may take an hour: whoever stops us does not wait for it
                raise Transient("stopped while Salesforce was at work: the next exchange asks again")
            return asked(*given, **{"timeout": settings.timeout, **told})

        self._session.request = limited  # type: ignore[method-assign]  # simple-salesforce would wait for ever
        self._bulk: Any = None

    def query(self, soql: str, take: Callable[[Iterable[str]], None]) -> None:
        """Give `take` the CSV pages of the answer, one after the other; again from the start after a new login."""
        settings = self.settings

        def ask(bulk: Any) -> None:
            take(bulk.query_all(soql, max_records=settings.page, wait=settings.poll))

        self._asked(ask)

    def upsert(self, path: Path) -> list[Refusal]:
        """Upsert the records of a CSV file; those that were refused or not processed."""
        settings = self.settings

        def put(bulk: Any) -> list[Refusal]:
            jobs = bulk.upsert(csv_file=str(path), external_id_field=settings.external_id, wait=settings.poll)
            return [refusal for job in jobs for refusal in self._refused(bulk, job)]

        return self._asked(put)

    def close(self) -> None:
        self._closed = True
        self._session.close()

    def _refused(self, bulk: Any, job: Mapping[str, Any]) -> Iterator[Refusal]:
        if job["numberRecordsFailed"]:
            for row in _rows(bulk.get_failed_records(job["job_id"])):
                yield Refusal(row[self.settings.external_id], row["sf__Error"])
        if job["numberRecordsProcessed"] < job["numberRecordsTotal"]:
            for row in _rows(bulk.get_unprocessed_records(job["job_id"])):
                yield Refusal(row[self.settings.external_id], "not processed")

    def _asked(self, ask: Callable[[Any], Answer]) -> Answer:
        """The answer; a session that has expired is renewed once. Raises Transient or Permanent."""
        import requests
        from simple_salesforce import exceptions

        for attempt in (1, 2):
            try:
                if self._bulk is None:
                    self._bulk = self._login()
                return ask(self._bulk)
            except exceptions.SalesforceExpiredSession as expired:
                self._bulk = None
                if attempt == 2:
                    raise Permanent("Salesforce does not accept the session it has just given") from expired
            except exceptions.SalesforceError as refused:
                raise _fault(int(refused.status), refused.content) from refused
            except exceptions.SalesforceOperationError as failed:
                raise _fault(400, str(failed)) from failed
            except requests.RequestException as broken:
                raise Transient(f"Salesforce could not be reached: {type(broken).__name__}") from broken
        raise AssertionError("two attempts, and neither returned nor raised")

    def _login(self) -> Any:
        """A bulk client with a fresh session (OAuth 2.0 client credentials, RFC 6749 §4.4)."""
        from simple_salesforce.bulk2 import SFBulk2Handler

        settings = self.settings
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "client_secret": settings.client_secret.get_secret_value(),
        }
        answer = self._session.post(f"{settings.url}/services/oauth2/token", data=form)
        if answer.status_code >= 500:
            raise Transient(f"Salesforce answered the login with {answer.status_code}")
        if answer.status_code != 200:
            raise Permanent(f"Salesforce refused the login: {_oauth_error(answer)}")
        granted = answer.json()
        jobs = f"{granted['instance_url']}/services/data/v{settings.version}/jobs/"
        handler = SFBulk2Handler(granted["access_token"], jobs, session=self._session)
        return getattr(handler, settings.object)


def _oauth_error(answer: Any) -> str:
    try:
        told = answer.json()
    except ValueError:
        return f"status {answer.status_code}"
    return f"{told.get('error', answer.status_code)}: {told.get('error_description', '')}".rstrip(": ")


def _fault(status: int, content: Any) -> Transient | Permanent:
    """An error answer, `[{errorCode, message}]` where it is documented, in our words."""
    told: Sequence[Any] = content if isinstance(content, list) else [content]
    said = "; ".join(
        f"{part.get('errorCode', status)}: {part.get('message', '')}" if isinstance(part, dict) else _plain(part)
        for part in told
    )
    if "REQUEST_LIMIT_EXCEEDED" in said:
        return Transient(f"Salesforce: {said}", LATER)
    if status == 429 or status >= 500 or any(word in said for word in _LIMITS):
        return Transient(f"Salesforce: {said}")
    return Permanent(f"Salesforce: {said}")


def _plain(part: Any) -> str:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part)


def _rows(text: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(text))


def _heading(name: str) -> str:
    """A column for a field of ours; the mapping says what it is."""
    return name.replace(":", "_")
