"""Names and hyperparameters that make no method."""

import pytest

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import EDITORS, REGULARIZERS, resolve_method


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("memitt", "unknown method"),
        ("memit+spere", "unknown method"),
        ("memit+sphere+sphere", "twice"),
        ("ft+nas", "needs targets"),
        ("rome+nas", "needs targets"),
        ("ultraedit+error_feedback", "needs a quadratic system"),
        ("memit+error_feedback", "no regularizer whose error"),
        ("memit+prune+rect", "only sphere can follow"),
    ],
)
def test_names_that_make_no_method(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve_method(name)


def test_ft_l_needs_a_box() -> None:
    values = {"layers": [0], "lr": 1e-3, "num_steps": 2, "batch_size": 2, "norm_constraint": False}
    hyperparameters = build_hyperparameters(values, where="test")
    resolve_method("ft").check(hyperparameters, where="test")
    with pytest.raises(InputError, match="norm_constraint"):
        resolve_method("ft_l").check(hyperparameters, where="test")


def test_every_row_names_a_build_that_is_there() -> None:
    places = [row.build for row in EDITORS.values()]
    places += [place for row in REGULARIZERS.values() for place in (row.filter, row.read_out) if place is not None]
    assert len(places) > len(EDITORS)
    assert all(callable(load_object(place)) for place in places)


@pytest.mark.parametrize(
    ("name", "reason"), [("meg", "a single batch"), ("HYPE", "not specified"), ("meg+sphere", "MeG")]
)
def test_systems_that_cannot_be_rows_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_method(name)
