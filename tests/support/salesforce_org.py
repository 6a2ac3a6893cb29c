"""A Salesforce org on loopback: OAuth token, Bulk API 2.0 query and ingest jobs, in the documented shapes.

Shapes after the Bulk API 2.0 and Bulk API Developer Guide: Sforce-Locator and Sforce-NumberOfRecords on result pages
(`null` for no further page), job states, failedResults with sf__Id and sf__Error, unprocessedRecords; and the REST API
Developer Guide: errors as [{message, errorCode}].
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

EXPIRED = 401, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
LIMIT = 403, [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]


@dataclass
class Org:
    """Records by Id, and what shall go wrong."""

    contacts: list[dict[str, str]] = field(default_factory=list)
    faults: list[tuple[str, tuple[int, Any]]] = field(
        default_factory=list
    )  # (start of "METHOD path", answer), once each
    refuse: dict[str, str] = field(default_factory=dict)  # Id -> sf__Error of an upsert
    unprocessed: set[str] = field(default_factory=set)
    job_error: str = ""
    looks: int = 2  # how often a job is in progress before it is done
    requests: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    upserts: list[list[dict[str, str]]] = field(default_factory=list)
    logins: int = 0
    tokens: set[str] = field(default_factory=set)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    def expire(self) -> None:
        """Every session given so far is over."""
        self.tokens.clear()

    def __enter__(self) -> Self:
        class Server(ThreadingHTTPServer):
            org = self

        self._server = Server(("127.0.0.1", 0), _Door)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], token: str, body: bytes) -> Any:
        """(status, JSON document, or CSV text with headers)."""
        asked = f"{method} {path}"
        self.requests.append(asked)
        for fault in self.faults:
            if re.search(fault[0], asked):
                self.faults.remove(fault)
                return fault[1]
        if path == "/services/oauth2/token":
            return self._login(parse_qs(body.decode()))
        if token not in self.tokens:
            return EXPIRED
        match = re.fullmatch(r"/services/data/v62\.0/jobs/(query|ingest)(?:/(\w+))?(?:/(\w+))?", path)
        if match is None or (match[2] is not None and match[2] not in self.jobs):
            return 404, [{"message": "The requested resource does not exist", "errorCode": "NOT_FOUND"}]
        kind, job, part = match.groups()
        if kind == "query":
            return self._query(method, job, part, query, body)
        return self._ingest(method, job, part, body)

    def _login(self, form: Mapping[str, list[str]]) -> Any:
        if form.get("grant_type") != ["client_credentials"] or form.get("client_secret") != ["s3cret"]:
            return 400, {"error": "invalid_client", "error_description": "invalid client credentials"}
        self.logins += 1
        token = f"00D!{self.logins}"
        self.tokens.add(token)
        return 200, {
            "access_token": token,
            "instance_url": self.url,
            "token_type": "Bearer",
            "id": "…",
            "issued_at": "1",
        }

    def _query(
        self, method: str, job: str | None, part: str | None, query: Mapping[str, list[str]], body: bytes
    ) -> Any:
        if job is None:
            told = json.loads(body)
            assert told["operation"] == "queryAll"
            self.queries.append(told["query"])
            return 200, self._new({"kind": "query", "rows": self._selected(told["query"]), "object": "Contact"})
        if part is None:
            return 200, self._looked(job)
        columns, rows = self.jobs[job]["rows"]
        most, start = int(query["maxRecords"][0]), int(query.get("locator", ["0"])[0])
        page, end = rows[start : start + most], start + most
        locator = str(end) if end < len(rows) else "null"
        return 200, _csv(columns, page), {"Sforce-Locator": locator, "Sforce-NumberOfRecords": str(len(page))}

    def _selected(self, soql: str) -> tuple[list[str], list[dict[str, str]]]:
        match = re.fullmatch(r"SELECT (.+) FROM Contact WHERE (.+)", soql)
        assert match is not None, soql
        columns, rows = match[1].split(", "), self.contacts
        if since := re.search(r"SystemModstamp >= (\S+Z)", match[2]):
            rows = [row for row in rows if row["SystemModstamp"] >= since[1]]
        if "IsDeleted = false" in match[2]:
            rows = [row for row in rows if row["IsDeleted"] != "true"]
        return columns, rows

    def _ingest(self, method: str, job: str | None, part: str | None, body: bytes) -> Any:
        if job is None:
            told = json.loads(body)
            assert (told["operation"], told["contentType"]) == ("upsert", "CSV")
            return 200, self._new({"kind": "ingest", "key": told["externalIdFieldName"], "state": "Open", "rows": []})
        if part == "batches":
            self.jobs[job]["rows"] = list(csv.DictReader(io.StringIO(body.decode())))
            return 201, {}
        if method == "PATCH":
            self.jobs[job]["state"] = json.loads(body)["state"]
            if self.jobs[job]["state"] == "UploadComplete":
                self.upserts.append(self.jobs[job]["rows"])
            return 200, {"id": job, "state": self.jobs[job]["state"]}
        if part is None:
            return 200, self._looked(job)
        return self._results(self.jobs[job], part)

    def _results(self, job: Mapping[str, Any], part: str) -> Any:
        key, rows = job["key"], job["rows"]
        columns = list(rows[0])
        if part == "failedResults":
            failed = [{"sf__Id": "", "sf__Error": self.refuse[r[key]], **r} for r in rows if r[key] in self.refuse]
            return 200, _csv(["sf__Id", "sf__Error", *columns], failed), {}
        return 200, _csv(columns, [r for r in rows if r[key] in self.unprocessed]), {}

    def _new(self, job: dict[str, Any]) -> dict[str, Any]:
        number = f"750{len(self.jobs):015d}"
        self.jobs[number] = {"state": "UploadComplete", "looks": self.looks, **job}
        return {"id": number, "state": self.jobs[number]["state"], "apiVersion": 62.0}

    def _looked(self, number: str) -> dict[str, Any]:
        job = self.jobs[number]
        if job["state"] == "UploadComplete":
            job["looks"] -= 1
            done = "Failed" if self.job_error else "JobComplete"
            shown = "InProgress" if job["looks"] > 0 else done
        else:
            shown = job["state"]
        rows = job["rows"] if job["kind"] == "ingest" else []
        failed = sum(row[job["key"]] in self.refuse for row in rows)
        processed = sum(row[job["key"]] not in self.unprocessed for row in rows)
        told = {"id": number, "state": shown, "numberRecordsFailed": failed, "numberRecordsProcessed": processed}
        return told | ({"errorMessage": self.job_error} if shown == "Failed" else {})


def _csv(columns: list[str], rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", quoting=csv.QUOTE_ALL, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        server: Any = self.server
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        status, document, *headers = server.org.answer(self.command, parts.path, parse_qs(parts.query), token, body)
        text = document if isinstance(document, str) else json.dumps(document)
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/csv" if isinstance(document, str) else "application/json")
        for key, value in (headers[0] if headers else {}).items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = _do  # noqa: N815

    def log_message(self, *_: object) -> None: ...
