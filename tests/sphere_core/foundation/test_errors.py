import pickle

import pytest

from sphere_core.foundation.errors import InputError, inside


@pytest.mark.parametrize(
    ("where", "expected"), [("key 'a'", "sweep.yaml, line 3: key 'a'"), (None, "sweep.yaml, line 3")]
)
def test_a_fault_names_where_it_was_met_and_keeps_the_rest(where: str | None, expected: str) -> None:
    with pytest.raises(InputError) as refused, inside("sweep.yaml, line 3"):
        raise InputError("what", where=where, remedy="remedy")
    assert (refused.value.what, refused.value.where, refused.value.remedy) == ("what", expected, "remedy")
    assert isinstance(refused.value.__cause__, InputError)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), inside("here"):
        raise KeyError("k")


def test_place_and_remedy_can_be_replaced_one_by_one() -> None:
    error = InputError("what", where="where", remedy="remedy")
    assert str(error.replaced(where="there")) == str(InputError("what", where="there", remedy="remedy"))
    assert str(error.replaced(remedy="other")) == str(InputError("what", where="where", remedy="other"))
    assert str(pickle.loads(pickle.dumps(error.replaced(where="there")))) == str(error.replaced(where="there"))
