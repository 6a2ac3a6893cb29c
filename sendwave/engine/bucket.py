"""Objects of one bucket of an S3-compatible storage, by Amazon's own client.

boto3 rather than `pyarrow.fs`: its errors have codes, so that what is wrong can be said; and it stops waiting on Linux
too, which pyarrow does not (docs/decisions/0011-lake-in-a-bucket.md).

Each object carries the sha256 of its content: a file that was fetched is the file that was written, or is not there.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import tenacity

from sendwave.engine.datasets import NO_ROOM
from sendwave.errors import BadInput, FullDisk, Unreachable

CONNECT: Final = 5.0
"""Seconds a connection may take."""

SILENCE: Final = 30.0
"""Seconds the storage may say nothing in the middle of an answer."""

ATTEMPTS: Final = 4
"""Calls in all before it is told that the storage says nothing or refuses for now (503 SlowDown); waits grow."""

WHOLE: Final = 64 << 20
"""Bytes from which on an object is uploaded in parts of that size."""

AT_ONCE: Final = 8
"""Connections of a process."""

_PIECE: Final = 1 << 20
_SUM: Final = "sha256"
_LATER: Final = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "Throttling",
     "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"}
)  # fmt: skip
_STRANGE: Final = "what answers there does not speak S3; look at bucket.endpoint in sendwave.yaml"
_KEYS: Final = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
)
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


@dataclass(frozen=True, slots=True)
class Stored:
    """One object, by its name under the prefix."""

    name: str
    bytes: int
    at: float  # epoch seconds, by the storage's clock


class _Cut(Exception):  # never leaves this module
    """An object arrived in part."""


class _Damaged(_Cut):
    """An object arrived whole, and is not what was written."""


@dataclass(frozen=True)
class Bucket:
    """Objects under `prefix` of a bucket; without an `endpoint`, of Amazon's. Credentials are the machine's own."""

    name: str
    prefix: str = ""  # without slashes at its ends
    endpoint: str | None = None
    region: str | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self} at {self.endpoint or 'Amazon S3'}"

    @property
    def key(self) -> str:
        """A name for a folder of its copies: another storage may have a bucket of the same name."""
        return f"{self.name}-{hashlib.sha256(self.place.encode()).hexdigest()[:8]}"

    @cached_property
    def _opened(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT,
            read_timeout=SILENCE,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=2 * AT_ONCE,
            s3={"addressing_style": "path" if self.endpoint else "auto"},
            request_checksum_calculation="when_required",  # storages other than Amazon's know no others
            response_checksum_validation="when_required",
        )
        with self._faults("open"):  # a wrong endpoint, a profile nobody knows
            return boto3.session.Session().client(
                "s3", endpoint_url=self.endpoint, region_name=self.region, config=config
            )

    @property
    def _client(self) -> Any:
        with self._opening:  # making one is not safe in several threads, using it is
            try:
                return self._opened
            except ModuleNotFoundError as missing:
                raise BadInput("a lake in a bucket needs: pip install 'sendwave[s3]'") from missing

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": f"{self.prefix}/{name}" if self.prefix else name}

    def upload(self, path: Path, name: str) -> None:
        """Store a file. It is durable, and readable by everybody, once this returns. Raises Unreachable, BadInput."""
        client = self._client
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=WHOLE, multipart_chunksize=WHOLE, max_concurrency=4)
        with path.open("rb") as given:
            told = hashlib.file_digest(given, _SUM).hexdigest()
        with self._faults(f"write {name} in"):
            client.upload_file(str(path), **self._at(name), ExtraArgs={"Metadata": {_SUM: told}}, Config=parts)

    def fetch(self, name: str, path: Path) -> None:
        """Write an object's content to a new file, whole or not at all, not yet durable.

        Raises FileNotFoundError when there is none, Unreachable when it did not come whole, FullDisk, BadInput.
        """
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS - 1), retry=tenacity.retry_if_exception_type(_Cut), reraise=True
        )
        try:
            again(self._fetch, name, path)
        except _Damaged as fault:
            path.unlink(missing_ok=True)
            raise BadInput(f"{name} in {self.place} is damaged: {fault}; bring it back from a backup") from fault
        except _Cut as cut:
            path.unlink(missing_ok=True)
            raise Unreachable(f"{name} did not come whole from {self.place}: {cut}") from cut
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _fetch(self, name: str, path: Path) -> None:
        client = self._client
        from botocore.exceptions import BotoCoreError

        with self._faults(f"read {name} in"):
            answer = client.get_object(**self._at(name))
        size, digest = 0, hashlib.sha256()
        with _room(), path.open("wb") as out:
            try:
                for piece in answer["Body"].iter_chunks(_PIECE):
                    out.write(piece)
                    digest.update(piece)
                    size += len(piece)
            except BotoCoreError as cut:
                raise _Cut(f"{size:,} of {answer['ContentLength']:,} bytes ({type(cut).__name__})") from cut
            finally:
                answer["Body"].close()
        if size != answer["ContentLength"]:
            raise _Cut(f"{size:,} of {answer['ContentLength']:,} bytes")
        told = answer.get("Metadata", {}).get(_SUM)
        if told not in (None, digest.hexdigest()):
            raise _Damaged(f"its sha256 is not {told}, with which it was written")

    def has(self, name: str) -> bool:
        """Whether there is such an object; asked by listing, which tells when it is the bucket that is missing."""
        return any(one.name == name for one in self.listing(name))

    def listing(self, beginning: str = "") -> Iterator[Stored]:
        """Objects whose name begins so, a page at a time."""
        at, cut = self._at(beginning), len(self._at("")["Key"])
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=at["Key"])
        with self._faults("list"):
            for page in pages:
                if page.get("Name") != self.name:
                    raise BadInput(f"cannot list {self.place}: {_STRANGE}")
                for one in page.get("Contents", ()):
                    yield Stored(one["Key"][cut:], int(one["Size"]), one["LastModified"].timestamp())

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is no mistake."""
        client = self._client
        with self._faults(f"remove {name} from"):
            client.delete_object(**self._at(name))

    def abort_older(self, before: float) -> int:
        """End uploads in parts that began before that instant (epoch seconds): they cost, and nobody sees them."""
        client, ended = self._client, 0
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=self._at("")["Key"])
        with self._faults("end unfinished uploads in"):
            for one in (one for page in pages for one in page.get("Uploads", ())):
                if one["Initiated"].timestamp() < before:
                    client.abort_multipart_upload(Bucket=self.name, Key=one["Key"], UploadId=one["UploadId"])
                    ended += 1
        return ended

    def clock(self) -> float:
        """Now, in epoch seconds, by the storage's clock."""
        client = self._client
        with self._faults("list"):
            answer = client.list_objects_v2(Bucket=self.name, Prefix=self._at("")["Key"], MaxKeys=1)
        told: datetime = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return told.timestamp()

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        """Say what is wrong: Unreachable where it may be right again by itself, BadInput where somebody has to act."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            yield
        except (ClientError, BotoCoreError, ResponseParserError, Boto3Error) as fault:
            if isinstance(fault, Boto3Error):  # s3transfer wraps what an upload met
                fault = fault.__context__ if isinstance(fault.__context__, ClientError | BotoCoreError) else fault
            raise self._told(fault, f"cannot {what} {self.place}") from fault

    def _told(self, fault: BaseException, what: str) -> Exception:
        from botocore import exceptions

        if isinstance(fault, exceptions.ClientError):
            return self._refused(fault, what)
        if isinstance(
            fault,
            exceptions.NoCredentialsError | exceptions.CredentialRetrievalError | exceptions.PartialCredentialsError,
        ):
            return BadInput(f"{what}: no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process")
        if isinstance(fault, exceptions.HTTPClientError | exceptions.ConnectionError):
            return Unreachable(f"{what}: {fault}")
        if isinstance(fault, exceptions.BotoCoreError):
            return BadInput(f"{what}: {fault}")
        return BadInput(f"{what}: {_STRANGE}")

    def _refused(self, fault: Any, what: str) -> Exception:
        code, status = fault.response["Error"].get("Code", ""), fault.response["ResponseMetadata"]["HTTPStatusCode"]
        said = f"{code}: {fault.response['Error'].get('Message', '')}".strip(": ")
        if code == "NoSuchKey":
            return FileNotFoundError(what)
        if code in _LATER or status >= 500:
            return Unreachable(f"{what} ({said})")
        told = f" ({said})"
        if code == "NoSuchBucket":
            told = f": there is no bucket {self.name!r} there; make it, or correct `lake` in sendwave.yaml"
        elif code in _KEYS:
            told = f": the storage does not know these credentials ({said})"
        elif code in _ELSEWHERE or status == 301:
            told = f": the bucket is in another region ({said}); set bucket.region in sendwave.yaml"
        elif status == 403:
            told = f": access denied ({said}). These credentials need to list, read, write and delete"
        elif code in (str(status), ""):
            told = f": {_STRANGE} ({status})"
        return BadInput(what + told)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno not in NO_ROOM:
            raise
        raise FullDisk(f"no room for a copy of a file of the lake: {os.strerror(fault.errno or 0)}") from fault
