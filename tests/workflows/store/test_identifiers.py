"""Ids by their beginnings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sphere_core.foundation.errors import InputError
from workflows.store.identifiers import by_prefix, prefix_length

IDS = st.lists(st.text(alphabet="0123456789abcdef", min_size=16, max_size=16), min_size=1, max_size=20, unique=True)


@given(IDS)
def test_the_length_distinguishes_all_and_no_shorter_one_does(ids: list[str]) -> None:
    length = prefix_length(ids)
    assert len({one[:length] for one in ids}) == len(ids)
    assert length == 8 or len({one[: length - 1] for one in ids}) < len(ids)
    assert all(by_prefix(one[:length], ids, kind="id", where="here") == one for one in ids)


def test_ids_that_share_their_beginning_are_longer() -> None:
    assert prefix_length(["0123456789ab", "0123456789ac"]) == 12
    assert prefix_length([]) == 8


def test_a_beginning_of_several_lists_them() -> None:
    with pytest.raises(InputError, match="beginning of 2 ids") as raised:
        by_prefix("01", ["0123", "0145", "9999"], kind="trajectory", where="here")
    assert "0123, 0145" in raised.value.remedy
    assert by_prefix("0123", ["0123", "01234"], kind="trajectory", where="here") == "0123"


@pytest.mark.parametrize("name", ["", "77"])
def test_a_beginning_of_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="unknown trajectory"):
        by_prefix(name, ["0123", "0145"], kind="trajectory", where="here")
