"""Addresses: what is usable, how it is spelt, and that spelling it again changes nothing."""

from __future__ import annotations

import hashlib

import pytest
from email_validator import validate_email
from hypothesis import assume, given
from hypothesis import strategies as st

from sendwave.rules.addresses import RESERVED, fingerprint, is_plain, normalise_email, normalise_phone


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("zoe@gmail.com", "zoe@gmail.com"),
        ("  Zoe.Martin@GMail.COM ", "zoe.martin@gmail.com"),
        ("\ufeffzoe@gmail.com\u00a0", "zoe@gmail.com"),
        ("o'brien+news@free.fr", "o'brien+news@free.fr"),
        ("zoe@été.fr", "zoe@xn--t-9fab.fr"),
        ("ZOE@ÉTÉ.FR", "zoe@xn--t-9fab.fr"),
        ("zoe@xn--t-9fab.fr", "zoe@xn--t-9fab.fr"),
        ("zoe@bücher.example", "zoe@xn--bcher-kva.example"),
        ("trial@shop.test", "trial@shop.test"),
    ],
)
def test_a_usable_address_has_one_spelling(text: str, address: str) -> None:
    assert normalise_email(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "zoe", "zoe at gmail.com", "zoe@", "@gmail.com", "zoe@localhost", "zoe@box.local", "a..b@free.fr",
     "a.@free.fr", "a b@free.fr", '"a b"@free.fr', "zoé@free.fr", "a@-free.fr", "a@fr_ee.fr", "a@free.fr.",
     "a@ab--c.fr", "a@[10.0.0.1]",
     "a@b@free.fr", "a" * 65 + "@free.fr", "a@" + "b" * 64 + ".fr", "a@free.123", "zoe@free.fr, max@free.fr"],
)  # fmt: skip
def test_an_unusable_address_says_why(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        normalise_email(text)


LOCAL = st.from_regex(r"[A-Za-z0-9_+.'&-]{1,20}", fullmatch=True)
DOMAIN = st.from_regex(r"([A-Za-z0-9éüß-]{1,12}\.){1,3}[A-Za-z]{2,6}", fullmatch=True)


@given(LOCAL, DOMAIN)
def test_normalising_twice_is_normalising_once(local: str, domain: str) -> None:
    try:
        once = normalise_email(f"{local}@{domain}")
    except ValueError:
        assume(False)
    assert normalise_email(once) == once
    assert normalise_email(f" {once.upper()}\t") == once


@given(st.from_regex(r"[a-z0-9_+.-]{1,30}@([a-z0-9-]{1,20}\.){1,3}[a-z]{2,10}", fullmatch=True))
def test_what_is_plain_is_valid_unchanged(address: str) -> None:
    assume(is_plain(address))
    checked = validate_email(address, check_deliverability=False, test_environment=True)
    assert checked.ascii_email == address


@pytest.mark.parametrize("domain", RESERVED)
def test_a_domain_no_mail_reaches_is_not_plain(domain: str) -> None:
    assert not is_plain(f"zoe@box{domain}")


def test_a_fingerprint_is_the_start_of_the_sha256() -> None:
    assert fingerprint("zoe@gmail.com") == hashlib.sha256(b"zoe@gmail.com").hexdigest()[:32]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+33 6 12 34 56 78", "+33612345678"),
        ("0033.6.12.34.56.78", "+33612345678"),
        ("+33 (0)6 12-34-56-78", "+33612345678"),
    ],
)
def test_an_international_number_loses_its_dress(text: str, number: str) -> None:
    assert normalise_phone(text) == number
    assert normalise_phone(number) == number


@pytest.mark.parametrize("text", ["", "06 12 34 56 78", "+0612345678", "+33", "+3361234567890123", "call me"])
def test_a_national_or_broken_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="international"):
        normalise_phone(text)
