"""Parts of text messages: 3GPP TS 23.038 and 23.040."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.messages import Alphabet, Size, measure, simplify

GSM, UCS = Alphabet.GSM7, Alphabet.UCS2


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", Size(GSM, 0, 0)),
        ("a" * 160, Size(GSM, 160, 1)),
        ("a" * 161, Size(GSM, 161, 2)),
        ("a" * 306, Size(GSM, 306, 2)),
        ("a" * 307, Size(GSM, 307, 3)),
        ("€" * 80, Size(GSM, 160, 1)),
        ("€" * 81, Size(GSM, 162, 2)),
        ("a" * 152 + "€" + "a" * 152, Size(GSM, 306, 3)),  # the euro sign does not fit at the end of the first part
        ("Été à Noël: -20 % dès 50 €, ça vaut le coup", Size(UCS, 43, 1)),  # ç is not in it, nor is ë
        ("Soldes à -20 % chez nous, dès 50 €", Size(GSM, 35, 1)),
        ("ê" * 70, Size(UCS, 70, 1)),
        ("ê" * 71, Size(UCS, 71, 2)),
        ("😀" * 35, Size(UCS, 70, 1)),
        ("😀" * 36, Size(UCS, 72, 2)),
        ("a" * 66 + "😀" + "a" * 60, Size(UCS, 128, 2)),
    ],
)
def test_parts(text: str, size: Size) -> None:
    assert measure(text) == size


def test_one_curly_apostrophe_costs_a_second_message() -> None:
    text = "L\u2019été commence aujourd\u2019hui\u00a0: " + "profitez de nos offres. " * 4
    assert (measure(text).alphabet, measure(text).parts) == (UCS, 2)
    assert (measure(simplify(text)).alphabet, measure(simplify(text)).parts) == (GSM, 1)
    assert simplify("« cœur » – … l\u2019été") == '" coeur " - ... l\'été'


@given(st.text(max_size=700))
def test_more_text_never_takes_fewer_parts(text: str) -> None:
    whole, less = measure(text), measure(text[:-1])
    assert whole.parts >= (less.parts if whole.alphabet is less.alphabet else 0)
    assert whole.units >= len(text) * bool(text)
    single, joined = (160, 153) if whole.alphabet is GSM else (70, 67)
    assert whole.parts == (whole.units > 0) if whole.units <= single else -(-whole.units // joined) <= whole.parts
    assert measure(simplify(text)).units <= 3 * max(whole.units, 1)
