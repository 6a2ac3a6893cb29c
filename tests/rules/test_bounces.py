"""What replies and bounces mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.bounces import TABLE, classify, self_test, take_apart
from sendwave.rules.events import Cause, Permanence

CASES = [
    # the address is dead
    ("550 5.1.1 <anne@shop.example>: Recipient address rejected: User unknown", "hard unknown_user"),
    ("550-5.1.1 The email account that you tried to reach does not exist", "hard unknown_user"),
    ("550 5.2.1 The email account that you tried to reach is disabled", "hard unknown_user"),
    ("550 5.1.6 recipient no longer on server: anne@icloud.example", "hard unknown_user"),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "hard unknown_user"),
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302)", "hard unknown_user"),
    ("554 delivery error: dd This user doesn't have a yahoo.com account", "hard unknown_user"),
    ("554 delivery error: dd anne@yahoo.example is no longer valid.", "hard unknown_user"),
    ("550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. LPN416", "hard unknown_user"),
    ("550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR_416 [416]", "hard unknown_user"),
    ("550 5.5.0 Boite du destinataire archivee. Archived recipient. LPN007_420", "hard unknown_user"),
    ("550 5.7.13 user account disabled", "hard unknown_user"),
    ("550 5.7.17 mailbox owner has changed", "hard unknown_user"),
    ("551 user not local", "hard unknown_user"),
    ("550 no such user here", "hard unknown_user"),
    ("550 Utilisateur inconnu", "hard unknown_user"),
    ("550 5.0.0 mailbox not found", "hard unknown_user"),
    ("550 5.0.0 This account has been deactivated: user disabled", "hard unknown_user"),
    ("550 5.6.7 SMTPUTF8 required", "hard unknown_user"),
    ("5.1.3 bad destination mailbox address syntax", "hard unknown_user"),
    # the domain is dead
    ("550 5.1.2 bad destination system address", "hard bad_domain"),
    ("556 5.1.10 domain does not accept mail (null MX)", "hard bad_domain"),
    ("550 5.4.4 Host or domain name not found. Name service error for name=shop.invalid", "hard bad_domain"),
    ("550 5.4.310 DNS domain shop.invalid does not exist", "hard bad_domain"),
    ("556 domain does not accept mail", "hard bad_domain"),
    ("550 5.7.18 domain owner has changed", "hard bad_domain"),
    # the mailbox is full: the person exists
    ("552 5.2.2 <anne@icloud.example>: user is over quota", "soft mailbox_full"),
    ("552 5.2.2 The recipient's inbox is out of storage space and inactive", "soft mailbox_full"),
    ("452 4.2.2 The email account that you tried to reach is over quota", "soft mailbox_full"),
    ("552 5.1.1 Boite du destinataire pleine. Recipient overquota. OFR_417 [417]", "soft mailbox_full"),
    ("552 Requested mail action aborted: exceeded storage allocation", "soft mailbox_full"),
    ("550 5.7.1 email quota exceeded", "soft mailbox_full"),
    # they do not want us
    ("554 5.7.1 Client host [192.0.2.25] blocked using zen.spamhaus.org", "soft blocked_reputation"),
    ("550 5.7.1 Unfortunately, messages from [192.0.2.25] weren't sent. (S3150)", "soft blocked_reputation"),
    ("550 5.7.606 Access denied, banned sending IP [192.0.2.25]", "soft blocked_reputation"),
    ("421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred", "soft blocked_reputation"),
    ("421 4.7.0 [TS01] Messages from 192.0.2.25 temporarily deferred", "soft blocked_reputation"),
    ("553 5.7.2 [TSS09] All messages from 192.0.2.25 will be permanently deferred", "soft blocked_reputation"),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail", "soft blocked_reputation"),
    ("550 5.7.1 very low reputation of the sending domain", "soft blocked_reputation"),
    ("451 4.7.650 The mail server has been temporarily rate limited due to IP reputation", "soft blocked_reputation"),
    ("554 5.7.1 [HM1] Message rejected due to local policy", "soft blocked_reputation"),
    ("550 mwinf5c10 ME Service refuse. Service refused, please try later. OFR006_103", "soft blocked_reputation"),
    ("550 5.5.0 Service refuse. Veuillez essayer plus tard. LPN005_510", "soft blocked_reputation"),
    ("554 Transaction failed Reject due to policy restrictions.", "soft blocked_reputation"),
    ("451 too many spam from your ip, please visit the postmaster page of free", "soft blocked_reputation"),
    ("550 5.7.25 the sending IP has no reverse DNS", "soft blocked_reputation"),
    # too fast
    ("421 4.7.1 Messages to anne@icloud.example deferred due to excessive volume", "soft throttled"),
    ("421 mwinf5c79 ME Trop de connexions, veuillez verifier votre configuration. OFR005_104", "soft throttled"),
    ("450 4.7.1 Greylisted, please try again in 300 seconds", "soft throttled"),
    ("450 User is receiving mail too quickly", "soft throttled"),
    ("451 4.7.500 Server busy. Please try again later from [192.0.2.25].", "soft throttled"),
    ("452 4.3.1 Insufficient system storage", "soft throttled"),
    ("421 4.3.2 system not accepting network messages", "soft throttled"),
    ("421 Service not available, closing transmission channel", "soft throttled"),
    ("421 4.1.0 Throttled - try again later. RL000001", "soft throttled"),
    # about the content or our set-up
    ("550 5.7.1 Message rejected as spam by content filter", "soft content"),
    ("550 5.2.0 Mail rejete. Mail rejected. ofr_506 [506]", "soft content"),
    ("554 Message not allowed - [PH01] Email not accepted for policy reasons", "soft content"),
    ("550 5.7.1 Our system has detected that this message is likely unsolicited mail", "soft content"),
    ("552 5.3.4 message too big for system", "soft content"),
    ("550 5.7.26 This message fails to pass authentication checks (SPF or DKIM)", "soft policy"),
    ("550 5.7.515 sending domain shop.example does not meet the required authentication level.", "soft policy"),
    ("554 5.7.1 Relay access denied", "soft policy"),
    ("554 5.7.1 <anne@shop.example>: refused", "soft policy"),
    ("550 5.7.23 SPF validation failed", "soft policy"),
    ("501 5.1.0 Emetteur invalide. Invalid Sender. OFR004_405 [405]", "soft policy"),
    ("530 Authentication required", "soft policy"),
    # waited in vain
    ("4.4.7 delivery time expired", "soft expired"),
    ("554 5.4.7 message expired", "soft expired"),
    ("450 4.4.1 connect to mx.shop.example[192.0.2.9]:25: Connection timed out", "soft other"),
    # nobody knows
    ("550 permanent failure for one or more recipients", "hard other"),
    ("554 Transaction failed", "unknown other"),
    ("451 local error", "soft other"),
    ("250 OK", "unknown other"),
    ("", "unknown other"),
    # a telephone number is no reply, and what is said of the sender is not said of the recipient
    ("Please call 480-624-2500 or 450-555-1212", "unknown other"),
    ("550 5.1.8 <news@shop.example>: Sender address rejected: Domain not found", "soft policy"),
    ("It was rejected by the recipient domain", "unknown other"),
    ("554 the SPF record of shop.example does not exist", "soft policy"),
    # names are no verdicts
    ("550 5.1.1 <spam.blacklist@shop.example>: user unknown", "hard unknown_user"),
    ("451 4.3.0 <mailbox.full@shop.example>: lookup failure", "soft throttled"),
    ("554 5.7.1 <anne@shop.example>: Recipient address rejected: Blocked by recipient", "soft policy"),
    ("554 5.7.1 [HM08] Message rejected due to local policy.", "soft blocked_reputation"),
    ("554 mx.shop.example 192.0.2.25 found on one or more DNSBLs", "soft blocked_reputation"),
    ("554 IP=192.0.2.25 - A problem occurred. (Contact a@rx.t-online.de to clarify.)", "soft blocked_reputation"),
    ("all relevant MX records point to non-existent hosts", "hard bad_domain"),
    ("Utilisateur anne (anne@shop.example) non répertorié dans l'annuaire Domino", "hard unknown_user"),
    ("Adresse refusée : boîte aux lettres inconnue", "hard unknown_user"),
    ("Despite repeated attempts to deliver your message, the recipient's email system did not answer", "soft expired"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "meaning"), CASES)
def test_a_reply_means(reply: str, meaning: str) -> None:
    permanence, cause = classify(*take_apart(reply))
    assert f"{permanence} {cause}" == meaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 User unknown", (550, "5.1.1")),
        ("550-5.1.1 first line\n550 5.1.1 second", (550, "5.1.1")),
        ("smtp; 554 5.7.1 <a@b.example>: refused", (554, "5.7.1")),
        ("host mx.example[192.0.2.1] said: 550 #5.1.0 Address rejected", (550, "5.1.0")),
        ("451 busy", (451, None)),
        ("550 192.0.2.25 is listed", (550, None)),
        ("550 4.2.2 a class that contradicts its code", (550, None)),
        ("4.4.7 expired", (None, "4.4.7")),
        ("connect to mx[10.5.1.1]: timed out", (None, None)),
        ("", (None, None)),
    ],
)
def test_codes_are_found(text: str, expected: tuple[int | None, str | None]) -> None:
    assert take_apart(text)[:2] == expected


def test_every_example_of_the_table_is_understood() -> None:
    assert self_test() == ()


def test_every_cause_but_the_nameless_one_has_an_entry() -> None:
    parts = (*TABLE.text, *TABLE.wording, *TABLE.enhanced.values(), *TABLE.basic.values())
    assert {entry.cause for entry in parts} == set(Cause)


codes = st.one_of(st.none(), st.integers(-1, 999))
enhanced = st.one_of(st.none(), st.text(max_size=12), st.from_regex(r"[245]\.\d{1,3}\.\d{1,3}", fullmatch=True))


@given(codes, enhanced, st.text(max_size=200))
def test_any_reply_has_a_meaning(code: int | None, code2: str | None, text: str) -> None:
    permanence, cause = classify(code, code2, text)
    assert isinstance(permanence, Permanence)
    assert isinstance(cause, Cause)


@given(st.integers(400, 499), enhanced, st.sampled_from([case[0] for case in CASES]))
def test_later_is_never_hard(code: int, code2: str | None, text: str) -> None:
    assert classify(code, code2, text)[0] is Permanence.SOFT


@given(st.text(max_size=300))
def test_taking_apart_never_fails(text: str) -> None:
    reply = take_apart(text)
    assert reply.enhanced is None or reply.code is None or reply.enhanced[0] == str(reply.code)[0]
