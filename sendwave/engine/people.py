"""Contacts and consents: how imported rows become the new snapshot of who people are and what they allow.

Each kind has two steps: `prepare_…` cleans the rows of the view `raw` and reports the bad ones, `merge_…` joins the
rest with what the lake holds and writes the files that replace it. Nothing is written where nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final
from zoneinfo import available_timezones

from sendwave.engine.base import Written
from sendwave.engine.landing import IDS, SEPARATOR, Landing
from sendwave.engine.sources import literal, quoted
from sendwave.rules.addresses import national_phone, normalise_email
from sendwave.rules.columns import CONTACTS
from sendwave.rules.imports import ATTRIBUTE, CONSENT

OTHER: Final = "other"
"""The lane of every domain no mailbox provider names."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an import made: files that `replaces` those of their dataset or join them, and counts by word."""

    landed: int
    counts: Mapping[str, int] = field(default_factory=dict)
    files: tuple[tuple[str, Written], ...] = ()
    replaces: bool = True


def note(reason: str, detail: str, condition: str) -> str:
    """SQL: one note where the condition holds."""
    return f"CASE WHEN {condition} THEN {literal(reason + '=')} || coalesce({detail}, '') END"


def notes(*parts: str) -> str:
    """SQL: all notes of a row as one text, NULL without any."""
    return f"nullif(concat_ws({literal(SEPARATOR)}, {', '.join(parts)}), '')"


def check_emails(landing: Landing) -> None:
    """The table `checked` (given, email, problem): what email-validator says of the addresses that are not plain."""
    given = [row[0] for row in landing.run("SELECT DISTINCT email FROM raw WHERE NOT plain_email(lower(email))")]
    emails: list[str | None] = []
    problems: list[str | None] = []
    for address in given:
        try:
            emails.append(normalise_email(address))
            problems.append(None)
        except ValueError as fault:
            emails.append(None)
            problems.append(str(fault))
    landing.table("checked", {"given": given, "email": emails, "problem": problems})


def check_phones(landing: Landing) -> None:
    """The table `dialled` (given, region, number, problem): numbers that are not international as they are written."""
    asked = landing.run(
        "SELECT DISTINCT phone, upper(country) FROM raw WHERE phone IS NOT NULL AND NOT is_phone(phone_digits(phone))"
    )
    numbers: list[str | None] = []
    problems: list[str | None] = []
    for given, country in asked:
        try:
            numbers.append(national_phone(given, country))
            problems.append(None)
        except ValueError as fault:
            numbers.append(None)
            problems.append(str(fault))
    columns = {"given": [row[0] for row in asked], "region": [row[1] for row in asked]}
    landing.table("dialled", {**columns, "number": numbers, "trouble": problems})


@cache
def _zones() -> list[str]:
    """Every IANA name this system knows; finding them walks a few hundred files."""
    return sorted(available_timezones())


def prepare_contacts(landing: Landing) -> None:
    """Clean every row into `cleaned`; an address or zone that is unusable costs that value, not the contact."""
    check_emails(landing)
    check_phones(landing)
    zones = _zones()
    landing.table("zones", {"spelt": [zone.lower() for zone in zones], "zone": zones})
    signed_up = f"CASE WHEN told BETWEEN 0 AND {landing.now_ts} THEN told END"
    cleaned = f"""
        SELECT f, n, contact_id, CASE WHEN checked.given IS NULL THEN lower(raw.email) ELSE checked.email END AS email,
            CASE WHEN raw.email IS NULL THEN 'missing' WHEN checked.given IS NULL THEN 'valid'
                WHEN checked.email IS NULL THEN 'invalid' ELSE 'valid' END AS email_status,
            nullif(digits, '') AS phone,
            CASE WHEN phone IS NULL THEN 'missing' WHEN is_phone(digits) THEN 'valid' ELSE 'invalid' END
                AS phone_status,
            zone AS timezone, lower(replace(language, '_', '-')) AS language, upper(country) AS country,
            {signed_up} AS signed_up_ts, owner, group_key, is_yes(seed) AS seed
            {"".join(f", {quoted(name)}" for name in landing.attributes)},
            CASE WHEN contact_id IS NULL THEN 'missing_contact_id' END AS bad, '' AS about,
            {
        notes(
            note("invalid_email", "raw.email || ': ' || problem", "problem IS NOT NULL"),
            note("invalid_phone", "raw.phone || ': ' || trouble", "trouble IS NOT NULL"),
            note("unknown_timezone", "timezone", "timezone IS NOT NULL AND zone IS NULL"),
            note("unreadable_date", "signed_up", f"signed_up IS NOT NULL AND {signed_up} IS NULL"),
        )
    } AS note
        FROM (SELECT raw.*, instant_of(signed_up) AS told, coalesce(number, phone_digits(phone)) AS digits, trouble
            FROM raw LEFT JOIN dialled ON dialled.given = phone AND region IS NOT DISTINCT FROM upper(country)) AS raw
        LEFT JOIN checked ON checked.given = raw.email LEFT JOIN zones ON spelt = lower(timezone)"""
    landing.keep("cleaned", cleaned)
    landing.report_rows("cleaned")


def merge_contacts(landing: Landing, domains: Mapping[str, str]) -> Outcome:
    """Upsert by contact_id; `domains` says whose mailbox a domain is. Contacts no file names stay as they are."""
    repeated = _last_of_each(landing)
    fresh = number_contacts(landing, "chosen")
    _merge_snapshot(landing)
    landing.table("domains", {"domain": list(domains), "provider": list(domains.values())})
    snapshot = _snapshot(landing)
    changes = dict(landing.run("SELECT change, count(*) FROM merged GROUP BY 1"))
    landing.run(
        "INSERT INTO report SELECT f, n, NULL, true, 'duplicate_email', email || ' is kept for contact ' || keeper "
        "FROM merged JOIN shared USING (email) WHERE f IS NOT NULL AND contact_id <> keeper"
    )
    files = [*fresh]
    if changes.get("new") or changes.get("updated") or _moved(landing, snapshot):
        attributes = [name for name in landing.columns("merged") if name.startswith(ATTRIBUTE)]
        columns = ", ".join(quoted(name) for name in (*(c.name for c in CONTACTS.columns), *attributes))
        files.append(("contacts", landing.write("contacts", f"SELECT {columns} FROM ({snapshot})")))
    counts = {word: changes.get(word, 0) for word in ("new", "updated", "unchanged", "kept")}
    if repeated:
        counts["repeated"] = repeated
    landed = counts["new"] + counts["updated"] + counts["unchanged"]
    statuses = landing.run(
        "SELECT 'email_' || CASE WHEN contact_id <> keeper THEN 'duplicate' ELSE email_status END, count(*) "
        "FROM merged LEFT JOIN shared USING (email) GROUP BY 1"
    )
    return Outcome(landed, counts | dict(statuses), tuple(files))


def _moved(landing: Landing, snapshot: str) -> int:
    """Contacts whose status or mailbox provider is another now, though no row of the files says anything new."""
    return landing.number(
        f"SELECT count(*) FROM ({snapshot}) AS a JOIN contacts AS b USING (contact_id) "
        "WHERE (a.email_status, a.provider) IS DISTINCT FROM (b.email_status, b.provider)"
    )


def _last_of_each(landing: Landing) -> int:
    """The view `chosen`: the last good row of each contact_id, and how many earlier ones it replaces."""
    good = "SELECT * EXCLUDE (bad, about, note) FROM cleaned WHERE bad IS NULL"
    repeated = landing.number(f"SELECT count(*) - count(DISTINCT contact_id) FROM ({good})")
    if not repeated:
        landing.run(f"CREATE VIEW chosen AS {good}")
        return 0
    last = f"{good} QUALIFY row_number() OVER (PARTITION BY contact_id ORDER BY f DESC, n DESC) = 1"
    landing.keep("chosen", last)
    landing.run(
        "INSERT INTO report SELECT f, n, NULL, true, 'repeated_contact_id', contact_id || ': a later row replaces it' "
        "FROM cleaned ANTI JOIN chosen USING (f, n) WHERE bad IS NULL"
    )
    return repeated


def number_contacts(landing: Landing, view: str) -> tuple[tuple[str, Written], ...]:
    """The view `numbered` (contact_id, contact): a number once given stays; new ones follow the highest ever given."""
    landing.keep(
        "fresh",
        f"SELECT contact_id, (SELECT coalesce(max(contact), 0) FROM {IDS}) "
        "+ row_number() OVER (ORDER BY length(contact_id), contact_id) AS contact "
        f"FROM (SELECT contact_id FROM {view} ANTI JOIN {IDS} USING (contact_id))",
    )
    landing.run(f"CREATE VIEW numbered AS SELECT * FROM {IDS} UNION ALL SELECT * FROM fresh")
    if not landing.number("SELECT count(*) FROM fresh"):
        return ()
    return ((IDS, landing.write(IDS, "SELECT * FROM fresh ORDER BY contact")),)


def create_contacts(landing: Landing) -> Outcome:
    """A contact without an address for every contact_id of `raw` nobody imported, for logs that come before a base.

    From then on `ids` knows them; the snapshot gets a further file. Nobody can be written to until an import of
    contacts says where.
    """
    landing.run("CREATE VIEW named AS SELECT DISTINCT contact_id FROM raw WHERE contact_id IS NOT NULL")
    fresh = number_contacts(landing, "named")
    if not fresh:
        return Outcome(0, replaces=False)
    landing.keep("known_ids", "SELECT * FROM numbered")
    landing.run(f"CREATE OR REPLACE TEMP VIEW {IDS} AS SELECT * FROM known_ids")
    given = {
        "email_status": "'missing'", "phone_status": "'missing'", "provider": literal(OTHER), "seed": "false",
        "contact": "contact", "contact_id": "contact_id", "signed_up_ts": "CAST(NULL AS BIGINT)",
    }  # fmt: skip
    columns = ", ".join(f"{given.get(c.name, 'CAST(NULL AS VARCHAR)')} AS {quoted(c.name)}" for c in CONTACTS.columns)
    file = landing.write("contacts", f"SELECT {columns} FROM fresh ORDER BY contact")
    return Outcome(file.rows, {"created": file.rows}, (*fresh, ("contacts", file)), replaces=False)


def _merge_snapshot(landing: Landing) -> None:
    """The view `merged`: new rows over old ones, column by column; a column no file has keeps what was known."""
    known = landing.columns("contacts")
    old = {name: f"o.{quoted(name)}" for name in known} | {
        "email_status": "CASE o.email_status WHEN 'duplicate' THEN 'valid' ELSE o.email_status END"
    }
    source = {"email_status": "email", "phone_status": "phone", "signed_up_ts": "signed_up"}
    attributes = sorted({name for name in (*known, *landing.attributes) if name.startswith(ATTRIBUTE)})
    derived = ("contact", "contact_id", "provider", "email_hash", "phone_hash")
    plain = [column.name for column in CONTACTS.columns if column.name not in derived]
    unknown = {"email_status": "'missing'", "phone_status": "'missing'", "seed": "false"}
    values = {}
    for name in (*plain, *attributes):
        filled = landing.filled(source.get(name, name), "c.f")
        taken = f"CASE WHEN c.f IS NOT NULL AND {filled} THEN c.{quoted(name)} ELSE {old.get(name, 'NULL')} END"
        values[name] = f"coalesce({taken}, {unknown[name]})" if name in unknown else taken
        if filled == "false":
            values[name] = f"coalesce({old.get(name, 'NULL')}, {unknown.get(name, 'NULL')})"
    merged = ", ".join(f"{value} AS {quoted(name)}" for name, value in values.items())
    before = ", ".join(f"{old[name]} AS {quoted('old ' + name)}" for name in values if name in old)
    differs = " OR ".join(
        f"{quoted(name)} IS DISTINCT FROM " + (quoted("old " + name) if name in old else "NULL") for name in values
    )
    names = ", ".join(quoted(name) for name in values)
    landing.keep(
        "merged",
        f"""SELECT f, n, contact, contact_id, {names}, CASE WHEN NOT known THEN 'new' WHEN f IS NULL THEN 'kept'
            WHEN {differs} THEN 'updated' ELSE 'unchanged' END AS change
        FROM (SELECT c.f, c.n, coalesce(o.contact, c.contact) AS contact, contact_id, o.contact IS NOT NULL AS known,
                {merged}, {before}
            FROM (SELECT * FROM chosen JOIN numbered USING (contact_id)) AS c
                FULL JOIN contacts AS o USING (contact_id))""",
    )


def _snapshot(landing: Landing) -> str:
    """SQL of the snapshot: of the contacts that share an address the one of the lowest id stays reachable.

    Lowest is shortest, then first in order (9 before 10): the same whatever the order of imports.
    """
    landing.keep(
        "shared",
        "SELECT email, min_by(contact_id, (length(contact_id), contact_id)) AS keeper "
        "FROM merged WHERE email IS NOT NULL GROUP BY email HAVING count(*) > 1",
    )
    return f"""SELECT merged.* EXCLUDE (email_status), fingerprint(email) AS email_hash,
            CASE WHEN contact_id <> keeper THEN 'duplicate' ELSE merged.email_status END AS email_status,
            coalesce(provider, {literal(OTHER)}) AS provider,
            CASE WHEN phone_status = 'valid' THEN fingerprint(phone) END AS phone_hash
        FROM merged LEFT JOIN shared USING (email) LEFT JOIN domains ON domain = split_part(email, '@', 2)"""


def wide_consents(landing: Landing) -> bool:
    """The view `stated`: yes/no columns of a contacts file as consents; False where none was mapped."""
    parts = []
    for name in landing.columns("raw"):
        if name.startswith(CONSENT):
            _, channel, purpose = name.split(":")
            parts.append(
                f"SELECT f, n, contact_id, {literal(channel)} AS channel, {literal(purpose)} AS purpose, "
                f"{quoted(name)} AS status, NULL AS basis, consent_date AS date, NULL AS proof "
                f"FROM raw JOIN (SELECT f, n FROM chosen) USING (f, n) WHERE {quoted(name)} IS NOT NULL"
            )
    if parts:
        landing.run(f"CREATE VIEW stated AS {' UNION ALL '.join(parts)}")
    return bool(parts)


def prepare_consents(landing: Landing, source: str = "raw") -> None:
    """Clean the statements of `source` into `consented`; what says neither yes nor no is bad.

    A withdrawal always lands: with a date that cannot be read, it counts from the import.
    """
    now = landing.now_ts
    fair = f"coalesce(told BETWEEN 0 AND {now}, false)"
    landing.keep(
        "consented",
        f"""SELECT f, n, contact, said_channel AS channel, said_purpose AS purpose, said_status AS status,
            word(basis) AS basis, proof, {fair} AS dated, CASE WHEN {fair} THEN told ELSE {now} END AS recorded_ts,
            CASE WHEN contact_id IS NULL THEN 'missing_contact_id' WHEN contact IS NULL THEN 'unknown_contact'
                WHEN said_channel IS NULL THEN 'unknown_channel' WHEN said_purpose IS NULL THEN 'missing_purpose'
                WHEN said_status IS NULL THEN 'ambiguous_status'
                WHEN date IS NULL OR {fair} OR said_status = 'withdrawn' THEN NULL
                WHEN told IS NULL THEN 'unreadable_date' WHEN told > {now} THEN 'future_date'
                ELSE 'before_1970' END AS bad,
            CASE WHEN bad IS NOT NULL THEN concat_ws(' ', contact_id, channel, purpose, status, date) END AS about,
            {notes(note("withdrawal_dated_now", "date", f"date IS NOT NULL AND NOT {fair}"))} AS note
        FROM (SELECT *, channel_of(channel) AS said_channel, nullif(left(word(purpose), 64), '') AS said_purpose,
            status_of(status) AS said_status, instant_of(date) AS told FROM {source})
        LEFT JOIN {"numbered" if source == "stated" else IDS} USING (contact_id)""",
    )
    landing.report_rows("consented", landed=source == "stated")


def merge_consents(landing: Landing) -> Outcome:
    """The latest statement per contact, channel and purpose; of two at the same instant the withdrawal wins.

    An undated yes counts only where nothing else is known: it may be older than the withdrawal it would undo. The
    file's further column `dated` remembers which are so.
    """
    dated = "coalesce(dated, true)" if "dated" in landing.columns("consents") else "true"
    names = "contact, channel, purpose, status, basis, recorded_ts, proof"
    landing.run(f"CREATE VIEW before AS SELECT {names}, {dated} AS dated FROM consents")
    landing.keep(
        "agreed",
        f"""SELECT * FROM (
            SELECT {names}, dated FROM before UNION ALL
            SELECT {names}, dated FROM consented WHERE bad IS NULL AND dated UNION ALL
            SELECT {names}, dated FROM consented ANTI JOIN before USING (contact, channel, purpose, status)
            WHERE bad IS NULL AND NOT dated)
        QUALIFY row_number() OVER (PARTITION BY contact, channel, purpose ORDER BY
            CASE WHEN dated OR status = 'withdrawn' THEN recorded_ts ELSE -1 END DESC,
            CASE status WHEN 'withdrawn' THEN 0 WHEN 'pending' THEN 1 ELSE 2 END, recorded_ts, basis, proof) = 1""",
    )
    _note_outranked(landing)
    counts = dict(
        landing.run(
            """SELECT CASE WHEN b.contact IS NULL THEN 'new' WHEN (a.status, a.recorded_ts, a.basis, a.proof)
                IS DISTINCT FROM (b.status, b.recorded_ts, b.basis, b.proof) THEN 'updated' ELSE 'kept' END, count(*)
            FROM agreed AS a LEFT JOIN before AS b USING (contact, channel, purpose) GROUP BY 1"""
        )
    )
    landed = landing.number("SELECT count(*) FROM consented WHERE bad IS NULL")
    if not counts.get("new") and not counts.get("updated"):
        return Outcome(landed, counts)
    file = landing.write("consents", "SELECT * FROM agreed ORDER BY contact, channel, purpose")
    return Outcome(landed, counts, (("consents", file),))


def _note_outranked(landing: Landing) -> None:
    """Tell of every undated yes that a known withdrawal outranks: with a date it would count."""
    landing.run(
        "INSERT INTO report SELECT f, n, NULL, true, 'undated_after_withdrawal', "
        "channel || ' ' || purpose || ': without a date it does not undo the withdrawal' "
        "FROM consented JOIN (SELECT contact, channel, purpose FROM agreed WHERE status = 'withdrawn') "
        "USING (contact, channel, purpose) WHERE bad IS NULL AND NOT dated AND status <> 'withdrawn'"
    )
