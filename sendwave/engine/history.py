"""Scores, interactions, past sends and suppressions: how imported rows become what happened to people.

Two steps each, as in `people.py`. Rows of contacts nobody imported are bad: they are listed, and land once the contact
is known and the file is imported again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any, Final

from sendwave.engine.landing import IDS, SEPARATOR, Landing
from sendwave.engine.people import Outcome, check_emails, note, notes
from sendwave.engine.sources import literal, quoted

PART: Final = "history"
"""The part of the dataset `sends` that imports write; live sends have their own."""

_SUPPRESSION_WORDS: Final = {
    "unsubscribe": "unsubscribed unsub opt_out optout desabonnement desabonne desinscription desinscrit",
    "complaint": "complained spam plainte abuse",
    "hard_bounce": "hard_bounced hardbounce hard bounce bounced npai invalid",
}


_WHO: Final = "WHEN contact_id IS NULL THEN 'missing_contact_id' WHEN contact IS NULL THEN 'unknown_contact'"
"""SQL: why a row is about nobody we know."""


def _when(landing: Landing, column: str, *, required: bool) -> str:
    """SQL: what is wrong with the date of a row."""
    absent = f"WHEN {column} IS NULL THEN 'missing_date'" if required else ""
    return (
        f"{absent} WHEN {column} IS NOT NULL AND instant_of({column}) IS NULL THEN 'unreadable_date' "
        f"WHEN instant_of({column}) > {landing.now_ts} THEN 'future_date' "
        f"WHEN instant_of({column}) < 0 THEN 'before_1970'"
    )


def prepare_scores(landing: Landing) -> None:
    """Clean every row into `cleaned`: a finite score, its tier and its instant if any."""
    landing.keep(
        "cleaned",
        f"""SELECT f, n, contact, number_of(score) AS score, tier, instant_of(date) AS scored_ts,
            CASE {_WHO} WHEN number_of(score) IS NULL OR NOT isfinite(number_of(score))
                THEN 'score_not_a_number' {_when(landing, "date", required=False)} END AS bad,
            CASE WHEN bad IS NOT NULL THEN concat_ws(' ', contact_id, score, date) END AS about,
            CAST(NULL AS VARCHAR) AS note
        FROM raw LEFT JOIN {IDS} USING (contact_id)""",
    )
    landing.report_rows("cleaned")


def merge_scores(landing: Landing) -> Outcome:
    """The newest score per contact, in place of all earlier ones; an undated one that did not change keeps its date."""
    landing.keep(
        "newest",
        f"""SELECT a.contact, a.score, a.tier, CAST(NULL AS VARCHAR) AS grid_version, coalesce(a.scored_ts,
            CASE WHEN (a.score, a.tier) IS NOT DISTINCT FROM (b.score, b.tier) THEN b.scored_ts END, {landing.now_ts})
            AS scored_ts
        FROM (SELECT * FROM cleaned WHERE bad IS NULL QUALIFY row_number() OVER (PARTITION BY contact
            ORDER BY coalesce(scored_ts, {landing.now_ts}) DESC, f DESC, n DESC) = 1) AS a
        LEFT JOIN scores AS b USING (contact)""",
    )
    landed = landing.number("SELECT count(*) FROM newest")
    unchanged = landing.number(
        "SELECT count(*) FROM newest JOIN scores USING (contact, score, scored_ts) "
        "WHERE newest.tier IS NOT DISTINCT FROM scores.tier"
    )
    before = landing.number("SELECT count(*) FROM scores")
    known = landing.number("SELECT count(*) FROM newest JOIN scores USING (contact)")
    counts = {
        "new": landed - known, "updated": known - unchanged, "unchanged": unchanged, "gone": before - known
    }  # fmt: skip
    if unchanged == landed == before:
        return Outcome(landed, counts)
    changes = landing.write("history", _CHANGES.format(now=landing.now_ts, day=landing.now.astimezone(UTC).date()))
    scores = landing.write("scores", "SELECT * FROM newest ORDER BY contact")
    return Outcome(landed, counts, (("history", changes), ("scores", scores)))


_CHANGES: Final = """
    SELECT contact, '{day}' AS scored_on, CAST({now} AS BIGINT) AS changed_ts,
        a.score, a.tier, a.grid_version, b.score AS former_score, b.tier AS former_tier, b.grid_version AS former_grid
    FROM newest AS a FULL JOIN scores AS b USING (contact) WHERE a.score IS DISTINCT FROM b.score
    ORDER BY contact"""
"""Columns of `rules.columns.HISTORY`; whoever the new scores leave out has none."""


def prepare_interactions(landing: Landing) -> None:
    """Clean every row into `cleaned`. Without an id of its own, a row is known by all it says.

    Where the layout keeps repeats, the second of two equal rows is known as their second: equal rows of one import are
    that many interactions, and the same import again brings none.
    """
    pairs = ", ".join(f"{literal(name.removeprefix('attr_'))}, {quoted(name)}" for name in landing.attributes)
    attributes = f"nullif(CAST(json_merge_patch('{{}}', json_object({pairs})) AS VARCHAR), '{{}}')" if pairs else "NULL"
    parts = ("contact_id", "kind", "ts", "value", "channel", "campaign", "message_id", "machine", "attributes")
    said = ", ".join(f"coalesce(CAST({part} AS VARCHAR), '')" for part in parts)
    known_by = f"md5(concat_ws({literal(SEPARATOR)}, {said}))"
    if landing.layout.repeats:
        nth = f"row_number() OVER (PARTITION BY {known_by}, interaction_id ORDER BY f, n)"
        known_by = f"md5(concat_ws({literal(SEPARATOR)}, {said}, CAST(nullif({nth}, 1) AS VARCHAR)))"
    landing.keep(
        "cleaned",
        f"""SELECT * REPLACE (coalesce(interaction_id, {known_by}) AS interaction_id)
        FROM (SELECT f, n, contact, contact_id, interaction_id, word(kind) AS kind, instant_of(ts) AS ts,
            number_of(value) AS value, coalesce(channel_of(channel), word(channel)) AS channel, campaign, message_id,
            is_yes(machine) AS machine, CAST({attributes} AS VARCHAR) AS attributes,
            CASE {_WHO} WHEN coalesce(word(kind), '') = '' THEN 'missing_kind'
                {_when(landing, "ts", required=True)} END AS bad,
            CASE WHEN bad IS NOT NULL THEN concat_ws(' ', contact_id, kind, ts) END AS about,
            {notes(note("value_not_a_number", "value", "value IS NOT NULL AND number_of(value) IS NULL"))} AS note
        FROM raw LEFT JOIN {IDS} USING (contact_id))""",
    )
    landing.report_rows("cleaned")


def merge_interactions(landing: Landing) -> Outcome:
    """Append what is not known yet, in the order of time, so that a reader of some days skips the rest of the file."""
    landing.keep(
        "added",
        """SELECT contact, interaction_id, kind, ts, value, channel, campaign, message_id, machine, attributes
        FROM cleaned ANTI JOIN interactions USING (interaction_id) WHERE bad IS NULL
        QUALIFY row_number() OVER (PARTITION BY interaction_id ORDER BY f, n) = 1""",
    )
    return _append(landing, "interactions", "interaction_id", "ts, contact, interaction_id")


def prepare_sends(landing: Landing) -> None:
    """Clean every row into `cleaned`. A past campaign's number is made of its name: negative, and always the same."""
    campaign = "-1 - CAST('0x' || substr(sha256(coalesce(campaign, '')), 1, 15) AS BIGINT)"
    landing.keep(
        "cleaned",
        f"""SELECT f, n, contact, {campaign} AS campaign, word(type) AS type,
            CASE WHEN channel IS NULL THEN 'email' ELSE channel_of(channel) END AS channel,
            instant_of(sent_at) AS sent_ts, tier,
            CASE {_WHO} WHEN channel IS NOT NULL AND channel_of(channel) IS NULL THEN 'unknown_channel'
                {_when(landing, "sent_at", required=True)} END AS bad,
            CASE WHEN bad IS NOT NULL THEN concat_ws(' ', contact_id, campaign, sent_at) END AS about,
            CAST(NULL AS VARCHAR) AS note
        FROM raw LEFT JOIN {IDS} USING (contact_id)""",
    )
    landing.report_rows("cleaned")


def merge_sends(landing: Landing) -> Outcome:
    """Append past sends; one message is known by its contact, campaign, channel and instant."""
    landing.keep(
        "added",
        """SELECT contact, campaign, type, channel, sent_ts, CAST(0 AS BIGINT) AS freeze, CAST(NULL AS BIGINT) AS batch,
            CAST(NULL AS INTEGER) AS position, CAST(NULL AS INTEGER) AS wave, tier, CAST(NULL AS VARCHAR) AS provider,
            CAST(NULL AS VARCHAR) AS address_hash, CAST(NULL AS VARCHAR) AS excluded_by
        FROM cleaned ANTI JOIN sends USING (contact, campaign, channel, sent_ts) WHERE bad IS NULL
        QUALIFY row_number() OVER (PARTITION BY contact, campaign, channel, sent_ts ORDER BY f, n) = 1""",
    )
    return _append(landing, "sends", "contact, campaign, channel, sent_ts", "sent_ts, contact")


def _append(landing: Landing, dataset: str, key: str, order: str) -> Outcome:
    """Write the rows of `added`; the others are known already, or are said twice in these files."""
    good = landing.number("SELECT count(*) FROM cleaned WHERE bad IS NULL")
    new = landing.number("SELECT count(*) FROM added")
    known = 0
    if good > new:
        known = landing.number(f"SELECT count(*) FROM cleaned SEMI JOIN {dataset} USING ({key}) WHERE bad IS NULL")
    counts = {"new": new, "known": known}
    if repeated := good - new - known:
        counts["repeated"] = repeated
    files = ((dataset, landing.write(dataset, f"SELECT * FROM added ORDER BY {order}")),) if new else ()
    return Outcome(good, counts, files, replaces=False)


def prepare_suppressions(landing: Landing) -> None:
    """Clean every row into `cleaned`. A date that cannot be read frees no address: the row counts from the import."""
    check_emails(landing)
    fair = f"coalesce(instant_of(since) BETWEEN 0 AND {landing.now_ts}, false)"
    landing.run(f"CREATE VIEW addressed AS {_ADDRESSED}")
    landing.keep(
        "cleaned",
        f"""SELECT f, n, channel, hash AS address_hash,
            CASE WHEN coalesce(word(scope), '') IN ('', 'all', 'tous', 'toutes', 'tout', 'global') THEN 'all'
                ELSE left(word(scope), 64) END AS scope,
            left(CASE word(reason) {_reasons()} ELSE coalesce(nullif(word(reason), ''), 'imported') END, 32) AS reason,
            CASE WHEN {fair} THEN instant_of(since) ELSE {landing.now_ts} END AS since_ts,
            CASE WHEN channel IS NULL THEN 'unknown_channel' WHEN hash IS NOT NULL THEN NULL
                WHEN coalesce(email, phone, contact_id, address_hash) IS NULL THEN 'missing_address'
                WHEN address_hash IS NOT NULL THEN 'not_a_hash' WHEN problem IS NOT NULL THEN 'invalid_email'
                WHEN phone IS NOT NULL THEN 'invalid_phone' WHEN known_id IS NULL THEN 'unknown_contact'
                ELSE 'no_address' END AS bad,
            CASE WHEN bad IS NOT NULL
                THEN concat_ws(' ', email, phone, contact_id, address_hash, channel, problem) END AS about,
            {notes(note("suppressed_from_now", "since", f"since IS NOT NULL AND NOT {fair}"))} AS note
        FROM addressed""",
    )
    landing.report_rows("cleaned")


_ADDRESSED: Final = """
    SELECT * EXCLUDE (given, usable, known_email, known_phone), CASE
        WHEN regexp_full_match(lower(address_hash), '[0-9a-f]{32}([0-9a-f]{32})?') THEN left(lower(address_hash), 32)
        WHEN channel = 'email' AND given IS NOT NULL THEN fingerprint(usable)
        WHEN channel = 'email' AND email IS NOT NULL THEN fingerprint(lower(email))
        WHEN channel = 'sms' AND phone IS NOT NULL THEN CASE WHEN is_phone(phone_digits(phone))
            THEN fingerprint(phone_digits(phone)) END
        WHEN channel = 'email' THEN known_email WHEN channel = 'sms' THEN known_phone END AS hash
    FROM (SELECT * REPLACE (CASE WHEN channel IS NOT NULL THEN channel_of(channel)
            WHEN phone IS NOT NULL AND email IS NULL THEN 'sms' ELSE 'email' END AS channel) FROM raw)
    LEFT JOIN (SELECT given, email AS usable, problem FROM checked) ON given = email
    LEFT JOIN (SELECT contact_id AS known_id, email_hash AS known_email, phone_hash AS known_phone FROM contacts)
        ON known_id = contact_id"""
"""Rows with the fingerprint to suppress: of the hash given, else the address, else what the contact has now."""


def _reasons() -> str:
    return " ".join(
        f"WHEN {literal(heard)} THEN {literal(reason)}"
        for reason, words in _SUPPRESSION_WORDS.items()
        for heard in words.split()
    )


def merge_suppressions(landing: Landing) -> Outcome:
    """Counts only: the list itself lives in the store, which `suppressed` is for."""
    return Outcome(landing.number("SELECT count(*) FROM cleaned WHERE bad IS NULL"))


def suppressed(landing: Landing) -> Iterator[tuple[Any, ...]]:
    """(address_hash, channel, scope, reason, since as epoch seconds), each once, in one order for every import."""
    cursor = landing.session.connection.execute(
        "SELECT address_hash, channel, scope, reason, min(since_ts) FROM cleaned WHERE bad IS NULL "
        "GROUP BY ALL ORDER BY ALL"
    )
    while rows := cursor.fetchmany(10_000):
        yield from rows
