"""What an imported file may say: the fields of each kind, the headings they go by, and the words of their values."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from sendwave.errors import BadInput, NotFound


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of import. `fields` maps each field to the headings it is known by, the likeliest first."""

    fields: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    one_of: tuple[str, ...] = ()  # at least one of these, too
    extras: bool = False  # further columns are kept, as attributes


def _kind(required: str, fields: Mapping[str, str], *, one_of: str = "", extras: bool = False) -> Kind:
    known = {name: (name, *headings.split()) for name, headings in fields.items()}
    return Kind(known, tuple(required.split()), tuple(one_of.split()), extras)


_CONTACT: Final = (
    "customer_id client_id id_client id_contact contactid customerid code_client numero_client n_client no_client "
    "num_client crm_id external_id user_id contact client customer identifiant id"
)
_DATE: Final = "date at timestamp created_at date_creation horodatage"
_EMAIL: Final = "mail e_mail email_address adresse_email adresse_mail courriel adresse_e_mail adresse_electronique"
_PHONE: Final = "telephone tel mobile phone_number portable gsm mobile_phone numero_mobile"

KINDS: Final[Mapping[str, Kind]] = {
    "contacts": _kind(
        "contact_id",
        {
            "contact_id": _CONTACT,
            "email": _EMAIL,
            "phone": _PHONE,
            "timezone": "time_zone tz fuseau fuseau_horaire",
            "language": "lang langue locale",
            "country": "pays country_code code_pays",
            "signed_up": "signed_up_at signup_date signup sign_up_date date_inscription date_d_inscription inscription "
            + _DATE,
            "owner": "owner_id account_owner proprietaire vendeur",
            "group_key": "group household household_id foyer id_foyer account account_id compte",
            "seed": "is_seed boite_temoin temoin",
            "consent_date": "optin_date opt_in_date date_optin date_opt_in date_consentement date_de_consentement "
            "consent_at",
        },
        one_of="email phone",
        extras=True,
    ),
    "consents": _kind(
        "contact_id channel purpose status",
        {
            "contact_id": _CONTACT,
            "channel": "canal media",
            "purpose": "finalite usage but",
            "status": "statut consent consentement optin opt_in state etat",
            "basis": "legal_basis base_legale base",
            "date": f"recorded_at consent_date date_consentement date_de_consentement optin_date opt_in_date {_DATE}",
            "proof": "preuve source origine origin evidence",
        },
    ),
    "suppressions": _kind(
        "",
        {
            "email": f"address adresse {_EMAIL}",
            "phone": _PHONE,
            "contact_id": _CONTACT,
            "address_hash": "hash email_hash phone_hash sha256",
            "channel": "canal media",
            "scope": "purpose finalite portee",
            "reason": "motif raison cause type",
            "since": f"since_at depuis suppressed_at {_DATE}",
        },
        one_of="email phone contact_id address_hash",
    ),
    "scores": _kind(
        "contact_id score",
        {
            "contact_id": _CONTACT,
            "score": "points engagement engagement_score score_engagement note",
            "tier": "palier segment tranche niveau",
            "date": f"scored_at as_of score_date date_score {_DATE}",
        },
    ),
    "interactions": _kind(
        "contact_id kind ts",
        {
            "contact_id": _CONTACT,
            "interaction_id": "event_id id_interaction id_evenement uuid id",
            "kind": "type event event_type touchpoint evenement interaction type_interaction action",
            "ts": f"event_time occurred_at event_at {_DATE} date_d_achat date_achat date_commande purchase_date "
            "order_date invoice_date invoicedate transaction_date",
            "value": "amount montant montant_ttc valeur revenue",
            "channel": "canal media",
            "campaign": "campaign_name campagne campaign_id",
            "message_id": "messageid id_message",
            "machine": "is_machine machine_open bot",
        },
        extras=True,
    ),
    "sends": _kind(
        "contact_id sent_at",
        {
            "contact_id": _CONTACT,
            "sent_at": f"sent_ts sent send_date date_envoi date_d_envoi envoye_le {_DATE}",
            "campaign": "campaign_name campagne campaign_id nom_campagne",
            "type": "campaign_type type_campagne",
            "channel": "canal media",
            "tier": "palier segment tranche",
        },
    ),
    "signals": _kind(
        "day",
        {
            "day": f"day_utc jour journee reporting_date {_DATE}",
            "provider": "mailbox_provider fai operateur isp destination receiver",
            "n": "count complaints complaint_count plaintes nombre nombre_de_plaintes nb reports signalements",
            "rate": "spam_rate userreportedspamratio user_reported_spam_rate taux taux_de_plainte complaint_rate",
            "unit": "unite",
            "signal": "type_de_signal metric",
            "sender": "domain domaine from_domain sender_domain domaine_expediteur",
            "ip": "ip_address adresse_ip sending_ip",
            "source": "origine origin",
        },
        one_of="n rate",
    ),
    "experiments": _kind(
        "experiment arm",
        {
            "experiment": "experience test essai campaign campagne campaign_name nom_campagne",
            "contact_id": _CONTACT,
            "arm": "group groupe segment bras variant variante treatment traitement cell cellule",
            "control": "is_control temoin groupe_temoin",
            "tier": "palier tranche",
            "visited": "visit visits visite visite_site clicked",
            "converted": "conversion conversions converti bought purchased achat",
            "revenue": "spend spent amount montant value valeur chiffre_d_affaires ca depense",
            "sent_at": f"sent_ts assigned_at date_envoi date_d_envoi envoye_le {_DATE}",
            "converted_at": "purchased_at date_achat date_d_achat date_conversion",
        },
        extras=True,
    ),
}

STATUSES: Final[Mapping[str, str]] = {
    word: status
    for status, words in {
        "granted": "granted opt_in optin opted_in double_opt_in yes y oui o true vrai 1 subscribed abonne inscrit "
        "accepte accepted consenti",
        "withdrawn": "withdrawn opt_out optout opted_out no n non false faux 0 unsubscribed desabonne desinscrit "
        "refuse refused revoked retire revoque stop blacklisted",
        "pending": "pending en_attente unconfirmed a_confirmer non_confirme awaiting_confirmation",
    }.items()
    for word in words.split()
}
"""Words of a consent's status, as `word` spells them. Any other word is ambiguous: it says neither yes nor no."""

CHANNELS: Final[Mapping[str, str]] = {
    word: channel
    for channel, words in {
        "email": "email e_mail mail courriel emailing",
        "sms": "sms text texto mobile",
        "push": "push notification push_notification app",
    }.items()
    for word in words.split()
}

CONTROLS: Final = (
    "control", "controle", "control_group", "groupe_controle", "temoin", "groupe_temoin", "holdout", "hold_out", "none",
    "no_email", "no_e_mail", "no_mail", "no_mailing", "no_sms", "no_push", "no_message", "no_contact", "aucun",
    "sans_envoi", "sans_email", "sans_e_mail", "pas_d_envoi", "0",
)  # fmt: skip
"""Words, as `word` spells them, for the arm of an experiment that got nothing."""

YES: Final = tuple(word for word, status in STATUSES.items() if status == "granted")

ATTRIBUTE: Final = "attr_"
CONSENT: Final = "consent:"
IGNORED: Final = "-"


def word(text: str) -> str:
    """A heading or a word in its plain form: lower case, no accents, `_` for whatever is no letter or digit."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


def kind_of(name: str) -> Kind:
    """The kind of that name. Raises NotFound naming all of them."""
    try:
        return KINDS[name]
    except KeyError:
        raise NotFound(f"nothing imports {name!r}: choose one of {', '.join(KINDS)}") from None


def match_headings(
    kind: Kind,
    columns: Sequence[str],
    mapping: Mapping[str, str],
    file: str,
    constants: Collection[str] = (),
    *,
    shown: Sequence[str] = (),
) -> dict[str, str]:
    """Column -> what it fills: a field, `attr_<name>` or `consent:<channel>:<purpose>`; ignored columns are left out.

    `mapping` (column -> field) goes first, then the field's own name, then its other headings; no column is looked for
    to fill `constants`, fields that have one value in every row. Raises BadInput with one finding per missing field,
    listing the columns found (as `shown`, where given) and the likely misspelling.
    """
    given = {find_column(columns, column): _target(kind, target) for column, target in mapping.items()}
    given.pop(None, None)  # mapped for another file of the same import
    chosen: dict[str, str] = {column: target for column, target in given.items() if column is not None}
    free = {word(column): column for column in reversed(columns) if column not in chosen}
    for name, headings in kind.fields.items():
        column = next((free[h] for h in headings if h in free and free[h] not in chosen), None)
        if name not in chosen.values() and column is not None and name not in constants:
            chosen[column] = name
    left = [column for column in columns if column not in chosen and word(column)]
    _check(kind, shown or columns, chosen | {f"={name}": name for name in constants}, left, file)
    if kind.extras:
        chosen |= {column: ATTRIBUTE + word(column) for column in left}
    return {column: target for column, target in chosen.items() if target != IGNORED}


def check_mapping(mapping: Iterable[str], columns: Sequence[str]) -> None:
    """Raise BadInput for a column of --map or --skip that none of the files has; `columns` are those of all files."""
    for column in mapping:
        if find_column(columns, column) is None:
            hint = _did_you_mean(column, columns)
            raise BadInput(f"there is no column {column!r} in the files{hint}. Columns: {', '.join(columns)}")


def check_constants(kind: Kind, constants: Mapping[str, str]) -> None:
    """Raise BadInput for a constant of a field that the kind does not have, or without a value."""
    for name, value in constants.items():
        if name not in kind.fields or not value.strip():
            told = "has no value" if name in kind.fields else f"is no field{_did_you_mean(name, tuple(kind.fields))}"
            raise BadInput(f"--set {name}={value}: {name!r} {told}. Fields: {', '.join(kind.fields)}")


def find_column(columns: Sequence[str], name: str) -> str | None:
    """The column of that name as the file spells it, else the one that differs in case, accents or punctuation."""
    if name in columns:
        return name
    return next((column for column in columns if word(column) == word(name)), None)


def _target(kind: Kind, target: str) -> str:
    parts = target.split(":")
    if target == IGNORED or target in kind.fields:
        return target
    if kind.extras and parts[0] == "attr" and len(parts) == 2 and word(parts[1]):
        return ATTRIBUTE + word(parts[1])
    if "consent_date" in kind.fields and parts[0] == "consent" and len(parts) == 3 and parts[1] in CHANNELS.values():
        return f"{CONSENT}{parts[1]}:{word(parts[2])}"
    raise BadInput(
        f"--map …={target}: there is no such field{_did_you_mean(target, tuple(kind.fields))}. "
        f"Fields: {', '.join(kind.fields)}; '{IGNORED}' leaves a column out"
        + ("; attr:NAME keeps it as an attribute" if kind.extras else "")
        + ("; consent:CHANNEL:PURPOSE reads a yes/no column as consent" if "consent_date" in kind.fields else "")
    )


_OFTEN_ONE: Final = ("experiment", "campaign", "channel", "purpose", "status", "type", "kind")
"""Fields a whole file often has one value of, and therefore no column."""


def _check(kind: Kind, shown: Sequence[str], chosen: Mapping[str, str], left: Sequence[str], file: str) -> None:
    """Every field needed is there, none twice, and no column left over looks like a misspelt field."""
    filled = list(chosen.values())
    findings = [f"two columns are mapped to {name!r}" for name in kind.fields if filled.count(name) > 1]
    missing = [name for name in kind.required if name not in filled]
    if kind.one_of and not set(kind.one_of) & set(filled):
        missing.append(" or ".join(kind.one_of))
    for names in missing:
        likely = [column for name in names.split(" or ") for column in _alike(kind.fields[name], left)]
        hint = f"; the same in every row? --set {names}=…" if names in _OFTEN_ONE else ""
        findings.append(f"no column for {names}" + (f"; did you mean {likely[0]!r}?" if likely else hint))
    for name, headings in kind.fields.items():
        if name not in filled and name not in " or ".join(missing).split(" or "):
            findings += [
                f"is column {column!r} a misspelt {name!r}? Say --map {column}={name}, or --map {column}={other}"
                for column in _alike(headings[:1], left, cutoff=0.84)
                for other in ["attr:" + word(column) if kind.extras else IGNORED]
            ]
    if findings:
        found = ", ".join(shown)
        hints = f"Where a name is not ours: --map COLUMN=FIELD{_what_instead(shown)}"
        raise BadInput(
            f"{file}: the header does not fit. Columns found: {found}. {hints}",
            tuple(f"{file}:1: {finding}" for finding in findings),
        )


def _what_instead(columns: Sequence[str]) -> str:
    """A hint where a heading is a row of numbers and dates, or its columns were not told apart."""
    hints = []
    if len(columns) == 1 and re.search(r"\S[\t ]+\S", columns[0]):
        hints.append("Are blanks between the columns? --delimiter space")
    cells = [cell for column in columns for cell in column.split()]
    if columns[0].startswith("1 ("):
        return ""
    if sum(not re.search(r"[^\W\d_]{2}", cell) for cell in cells) * 2 > len(cells):
        hints.append("Is this a first row, and no heading? --no-header calls the columns 1, 2, 3 …")
    return "".join(f". {hint}" for hint in hints)


def _alike(names: Sequence[str], columns: Sequence[str], cutoff: float = 0.7) -> list[str]:
    plain = {word(column): column for column in columns}
    return [plain[close] for name in names for close in get_close_matches(name, plain, n=1, cutoff=cutoff)]


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
