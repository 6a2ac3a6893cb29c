"""Which address is usable, and how it is spelt: e-mail addresses and telephone numbers.

An e-mail address is trimmed and lower-cased whole. RFC 5321 §2.4 lets a host tell upper from lower case before the
@-sign, but no mailbox provider does, and keeping the case would write twice to one person. A domain outside ASCII
becomes its IDNA form (RFC 5891). What is left after `normalise_email` is normalised again to itself.

Most addresses are plain, which a regular expression in a set engine settles; email-validator (26 µs each) decides on
the others.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from email_validator import EmailNotValidError, validate_email

BLANKS: Final = " \t\r\n\u00a0\u200b\ufeff"
"""Taken off both ends of every value: blanks, and what spreadsheets and byte order marks leave behind."""

PLAIN_EMAIL: Final = r"[a-z0-9_+-]+(\.[a-z0-9_+-]+)*@([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,63}"
"""Lower-case addresses that are valid beyond doubt, if no longer than PLAIN_LENGTH and outside RESERVED.

Written in what Python and RE2 have in common; every address it accepts, email-validator accepts unchanged.
"""

PLAIN_LENGTH: Final = 64
"""Characters: within it no limit of RFC 5321 §4.5.3.1 can be broken (64 before the @, 63 a label)."""

RESERVED: Final = (".arpa", ".invalid", ".local", ".localhost", ".onion")
"""Special-use domains no mail can reach (RFC 6761). `.test` and `.example` are let through, for rehearsals."""

PHONE_NOISE: Final = r"\(0\)|[^0-9+]"
"""What is taken out of a telephone number: blanks, dots, dashes, and the (0) of `+33 (0)6 12 34 56 78`."""

PHONE: Final = r"\+[1-9][0-9]{6,14}"
"""Shape of an international number: + and at most 15 digits (ITU-T E.164). National numbers are not usable as such."""

FINGERPRINT: Final = 32
"""Hexadecimal digits of sha256 that stand for an address on the suppression list."""

_PLAIN: Final = re.compile(PLAIN_EMAIL)
_NOISE: Final = re.compile(PHONE_NOISE)


def is_plain(address: str) -> bool:
    """Whether a trimmed, lower-cased address is valid beyond doubt."""
    plain = len(address) <= PLAIN_LENGTH and _PLAIN.fullmatch(address) is not None
    return plain and not address.endswith(RESERVED)


def normalise_email(given: str) -> str:
    """The address as it is stored, compared and hashed. Raises ValueError saying what is wrong with it.

    Addresses that would need SMTPUTF8 (letters outside ASCII before the @), quoted local parts and bare IP addresses
    are refused: most ESPs do not take them.
    """
    address = given.strip(BLANKS).lower()
    if is_plain(address):
        return address
    if "@" not in address:
        raise ValueError("it has no @-sign")
    try:
        checked = validate_email(
            address, check_deliverability=False, allow_smtputf8=False, test_environment=True, strict=True
        )
    except EmailNotValidError as fault:
        raise ValueError(str(fault)) from None
    assert checked.ascii_email is not None, "without SMTPUTF8 every valid address has an ASCII form"
    return checked.ascii_email.lower()


def normalise_phone(given: str) -> str:
    """Digits with a leading + where one was given (00 counts as one). Raises ValueError when it is not E.164."""
    digits = re.sub(r"\A00", "+", _NOISE.sub("", given))
    if not re.fullmatch(PHONE, digits):
        raise ValueError("it is not an international number (+33612345678)")
    return digits


def national_phone(given: str, country: str | None) -> str:
    """The E.164 form of a number as people of that country (ISO 3166, two letters) write it.

    Raises ValueError for one that is none there, and for every one without the extra `sms`, which knows the numbering
    plans.
    """
    try:
        import phonenumbers
    except ModuleNotFoundError:
        raise ValueError(
            "it is not an international number (+33612345678); with `pip install 'sendwave[sms]'` national ones of "
            "contacts with a country are understood too"
        ) from None
    if not country:
        raise ValueError("it is not an international number (+33612345678), and the contact has no country")
    try:
        number = phonenumbers.parse(given, country.upper())
    except phonenumbers.NumberParseException as fault:
        raise ValueError(f"it is no telephone number in {country.upper()}: {fault}") from None
    if not phonenumbers.is_valid_number(number):
        raise ValueError(f"it is no telephone number of the numbering plan of {country.upper()}")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def fingerprint(address: str) -> str:
    """What the suppression list knows of a normalised address: the first 32 hexadecimal digits of its sha256."""
    return hashlib.sha256(address.encode()).hexdigest()[:FINGERPRINT]
