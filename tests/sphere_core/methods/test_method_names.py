"""Names and hyperparameters that make no method."""

import pytest

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method


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
