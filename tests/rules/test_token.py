from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.token import LENGTH, sign, verify, verify_all

KEY = b"k" * 32
PLACES = st.tuples(st.integers(0, 2**48 - 1), st.integers(0, 2**24 - 1))


def _spoilt(token: str, at: int, letter: str) -> str:
    return token[: at % LENGTH] + letter + token[at % LENGTH + 1 :]


TOKENS = st.one_of(
    PLACES.map(lambda place: sign(KEY, *place)),
    PLACES.map(lambda place: sign(KEY, *place).upper()),
    PLACES.map(lambda place: sign(b"another key of ours", *place)),
    st.builds(
        lambda place, at, letter: _spoilt(sign(KEY, *place), at, letter), PLACES, st.integers(0, 99), st.characters()
    ),
    st.text(max_size=60),
    st.text("0123456789abcdef ", min_size=LENGTH, max_size=LENGTH),
)


@given(PLACES)
def test_a_token_names_its_recipient_whatever_its_case(place: tuple[int, int]) -> None:
    token = sign(KEY, *place)
    assert len(token) == LENGTH
    assert verify(KEY, token) == verify(KEY, token.upper()) == place
    assert verify(b"another key of ours", token) is None


@given(st.lists(TOKENS, max_size=12))
def test_many_at_once_are_verified_like_each_alone(tokens: list[str]) -> None:
    found = [tuple(row) for row in verify_all(KEY, tokens).tolist()]
    assert found == [verify(KEY, token) or (-1, -1) for token in tokens]
